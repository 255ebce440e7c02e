"""Jobs in processes of this machine: whatever a plug-in does to its process costs its own cells and no other.

A worker serves one tenant (one explainer on one task, this package's metrics, one metric of another package) and is
ended with all that it has started before another's turn. It is forked from a server that has imported libraries and no
plug-in, so a new one is there in milliseconds. Each computes with one thread: results do not depend on how many work
side by side. Not pebble's pool: it gives a worker any job, and does not notice one that leaves with exit code 0.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from mibench.engines.base import Engine, Perform
from mibench.engines.forkserver import processes
from mibench.engines.serving import Start
from mibench.engines.worker import Keeper, Worker
from mibench.errors import MibenchError, RecordError
from mibench.plugins.catalogue import Places
from mibench.record.cells import Job, Loss, Tenant
from mibench.record.folder import writable

Loader = Callable[[Job], Callable[[], None] | None]  # what loads all that workers of a job's task need, if anything may


class LocalEngine(Engine):
    """Worker processes, of which at most `workers` perform a job at a time."""

    in_hand = 10_000  # it looks ahead for jobs of the tenants that it serves

    def __init__(
        self, perform: Perform, workers: int, places: Places | None = None, loader: Loader | None = None
    ) -> None:
        self.workers = workers
        self._perform, self._places, self._loader = perform, places, loader
        self._waiting: dict[Tenant, deque[Job]] = {}
        self._staff: list[Worker] = []  # the longest unused first
        self._keepers: list[Keeper] = []  # those that have no worker, the longest unused first
        self._folder = Path(tempfile.mkdtemp(prefix="mibench-"))
        processes()

    def submit(self, job: Job) -> None:
        self._waiting.setdefault(job.tenant, deque()).append(job)

    def collect(self, within: float | None = None) -> list[tuple[Job, Any]]:
        """Wait, but no longer than `within` seconds if there are any, until something came back."""
        end = math.inf if within is None else time.monotonic() + within
        while self.pending:
            self._hand_out()
            last = min([end, *(worker.deadline for worker in self._staff)])
            seconds = None if last == math.inf else max(0.0, last - time.monotonic())
            wait([source for worker in self._staff for source in worker.sources], seconds)
            came_back = [found for worker in list(self._staff) if (found := self._answer(worker))]
            if came_back or time.monotonic() >= end:
                return came_back
        return []

    def close(self, *, at_once: bool) -> None:
        while self.pending and not at_once:
            self.collect()
        self._waiting.clear()
        for worker in list(self._staff):
            self._end(worker)
        while self._keepers:
            self._keepers.pop().close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pending(self) -> int:
        return sum(len(jobs) for jobs in self._waiting.values()) + len(self.running)

    @property
    def running(self) -> Sequence[Job]:
        return [worker.job for worker in self._staff if worker.job]

    def _answer(self, worker: Worker) -> tuple[Job, Any] | None:
        """What came back from a worker; one that is of no more use is ended, any other goes on with its tenant."""
        job, answer = worker.job, worker.news()
        if answer is None or job is None:
            if worker.spent:
                self._end(worker)
            return None
        worker.job = None
        if worker.spent:
            self._end(worker)
        else:
            self._staff.remove(worker)
            self._staff.append(worker)
            if worker.tenant in self._waiting:
                self._begin(worker)
        if isinstance(answer, RecordError) and writable(Path(job.setting.folder)):
            answer = Loss("failed", str(answer))  # a plug-in may raise it too
        if isinstance(answer, MibenchError):
            raise answer  # the run itself cannot go on
        return job, answer

    def _hand_out(self) -> None:
        """Give jobs to as many workers as may work: to those that are there, then to new ones."""
        for worker in reversed(self._staff):
            if len(self.running) < self.workers and not worker.job and worker.tenant in self._waiting:
                self._begin(worker)
        while self._waiting and len(self.running) < self.workers:
            tenant = self._neediest()
            self._make_room()
            self._staff.append(self._employ(tenant))
            self._begin(self._staff[-1])

    def _begin(self, worker: Worker) -> None:
        """Give a worker the first job that waits for its tenant; one that measures costs runs alone."""
        jobs = self._waiting[worker.tenant]
        job = jobs.popleft()
        if not jobs:
            del self._waiting[worker.tenant]
        if job.stage == "cost":
            for other in [each for each in self._staff if not each.job and each is not worker]:
                self._end(other)
        worker.begin(job)

    def _neediest(self) -> Tenant:
        """The first tenant that no worker serves, or the one with the most jobs."""
        served = {worker.tenant for worker in self._staff}
        new = (tenant for tenant in self._waiting if tenant not in served)
        return next(new, max(self._waiting, key=lambda tenant: len(self._waiting[tenant])))

    def _make_room(self) -> None:
        """End idle workers that a new one takes the place of; of those that last, one for each slot stays."""
        idle = [worker for worker in self._staff if not worker.job]
        lasting = [worker for worker in idle if worker.tenant.lasting]
        passing = [worker for worker in idle if not worker.tenant.lasting]
        free = self.workers - len(self.running) - 1
        for worker in [*passing[: max(0, len(passing) - free)], *lasting[: -self.workers]]:
            self._end(worker)

    def _employ(self, tenant: Tenant) -> Worker:
        """A new worker, of a keeper that has loaded the tenant's task if there is one."""
        folder = tempfile.mkdtemp(dir=self._folder)
        ready = self._loader(self._waiting[tenant][0]) if self._loader else None
        start = Start(self._perform, dict(os.environ), os.getcwd(), folder, self._places, ready)
        for keeper in [each for each in self._keepers if each.task == tenant.task]:
            self._keepers.remove(keeper)
            try:
                return Worker(start, tenant, keeper)
            except OSError:  # somebody has ended it
                keeper.close(at_once=True)
        return Worker(start, tenant, Keeper(tenant.task))

    def _end(self, worker: Worker) -> None:
        """End a worker; what it had not written to its end is removed from the record."""
        self._staff.remove(worker)
        if worker.end():
            self._keepers.append(worker.keeper)
        while len(self._keepers) > self.workers:
            self._keepers.pop(0).close()
        if worker.spent or worker.job:
            alive = {f".{each.pid}.part" for each in self._staff}
            for draft in Path(worker.record, "maps").glob("*.part"):
                if "".join(draft.suffixes[-2:]) not in alive:
                    draft.unlink(missing_ok=True)
