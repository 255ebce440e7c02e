"""An engine carries jobs to workers and brings their outcomes back; the order of work is decided here, for all engines.

A job starts when every cell that it needs has an outcome. A cell whose needs failed fails with their reason. A job of
several cells that fails as a whole is retried cell by cell, so that only the faulty one fails. One that ran out of
memory is retried when no other job runs, for the others may have used the memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mibench.files import writing
from mibench.record import environment, maps
from mibench.record.cells import USABLE, Job, Loss, Outcome

Perform = Callable[[Job], Any]
IN_HAND = 2  # jobs handed over at once, per worker: enough to keep it busy, few enough to stay in control


class Engine(ABC):
    """Somewhere to perform jobs. `submit` may be called until `pending` reaches `workers` times `in_hand`."""

    workers: int = 1
    in_hand: int = IN_HAND

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The machines of a cluster that perform jobs; none where that is this one."""
        return []

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Hand over a job; after `job.seconds` it is stopped, whatever it does."""

    @abstractmethod
    def collect(self) -> list[tuple[Job, Any]]:
        """Wait until something came back; each job with what `perform` returned, or a Loss."""

    @abstractmethod
    def close(self, *, at_once: bool) -> None:
        """Let the workers go, after their work or at once."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """How many jobs were handed over and have not come back."""

    @property
    @abstractmethod
    def running(self) -> Sequence[Job]:
        """The jobs that are being performed now."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(at_once=kind is not None)


def each(engine: Engine, jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
    """Perform jobs that need nothing of each other; each with what became of it, in the order of their end."""
    waiting = deque(jobs)
    while waiting or engine.pending:
        while waiting and engine.pending < engine.workers * engine.in_hand:
            engine.submit(waiting.popleft())
        yield from engine.collect()


def answers(
    engine: Engine, jobs: Iterable[Job], known: Mapping[str, Outcome], *, alone: bool = False
) -> Iterator[tuple[Job, list[Outcome]]]:
    """Perform jobs after what they need, `alone` one at a time, and yield the outcome of every cell once."""
    schedule = _Schedule(jobs, known)
    hungry: deque[Job] = deque()  # out of memory: each is retried once when nothing else runs
    while schedule.busy or hungry or engine.pending:
        yield from schedule.failed()
        while schedule.ready and engine.pending < (1 if alone else engine.workers * engine.in_hand):
            engine.submit(schedule.checkable(schedule.ready.popleft()))
        last_try = bool(hungry) and not engine.pending
        if last_try:
            engine.submit(hungry.popleft())
        if not engine.pending:
            continue
        for job, answer in engine.collect():
            if isinstance(answer, Loss) and len(job.cells) > 1:
                schedule.ready.extendleft(reversed(job.singly()))
            elif isinstance(answer, Loss) and answer.status == "oom" and not (alone or last_try):
                hungry.append(job)
            else:
                outcomes = [answer.outcome(job.cells[0].key)] if isinstance(answer, Loss) else _kept(job, answer)
                schedule.settle(outcomes)
                yield job, outcomes


def _kept(job: Job, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """A job's outcomes; one whose file is another has failed, or it would be retried without end."""
    folder = Path(job.setting.folder)
    faults = {each.key: _fault(maps.path(folder, each.key), each.digest) for each in outcomes if each.digest}
    return [Outcome(each.key, "failed", why) if (why := faults.get(each.key)) else each for each in outcomes]


def _fault(file: Path, digest: str) -> str:
    """Why a file that a worker reports cannot be recorded: a plug-in may have patched what writes or hashes it."""
    if not file.is_file():
        return "its file was not written"
    if file.stat().st_size > environment.memory_bytes() > 0:
        return "its file has more bytes than this machine's memory"
    return f"its file {fault}" if (fault := writing.fault(file, digest)) else ""


class _Schedule:
    """Which jobs may start: those whose every need is settled."""

    def __init__(self, jobs: Iterable[Job], known: Mapping[str, Outcome]) -> None:
        self.outcomes = dict(known)
        self.ready: deque[Job] = deque()
        self._settled: deque[Job] = deque()
        self._open: dict[int, set[str]] = {}  # a job's needs that are not settled
        self._jobs: dict[int, Job] = {}
        self._waiting: dict[str, list[int]] = defaultdict(list)  # need -> jobs
        jobs = list(jobs)
        coming = {cell.key for job in jobs for cell in job.cells}
        for number, job in enumerate(jobs):
            needs = {need for cell in job.cells for need in cell.needs}
            unmet = {need for need in needs if need in coming and need not in self.outcomes}
            self._jobs[number] = job
            self._open[number] = unmet
            for need in unmet:
                self._waiting[need].append(number)
            if not unmet:
                self._release(number)

    @property
    def busy(self) -> bool:
        return bool(self.ready or self._settled or self._jobs)

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Take note of outcomes and release the jobs that waited for nothing else."""
        for outcome in outcomes:
            self.outcomes[outcome.key] = outcome
            for number in self._waiting.pop(outcome.key, ()):
                self._open[number].discard(outcome.key)
                if not self._open[number]:
                    self._release(number)

    def checkable(self, job: Job) -> Job:
        """The job with the SHA-256 of every file that its cells need."""
        needed = {job.fit, *(need for cell in job.cells for need in cell.needs)} & self.outcomes.keys()
        found = {need: self.outcomes[need] for need in sorted(needed)}
        return replace(job, digests={need: each.digest for need, each in found.items() if each.status in USABLE})

    def failed(self) -> Iterator[tuple[Job, list[Outcome]]]:
        """Sort the released jobs: cells with a failed need fail with its reason, the others are ready."""
        while self._settled:
            job = self._settled.popleft()
            fallen = {cell.key: outcome for cell in job.cells if (outcome := self._fallen(cell.needs))}
            if fallen:
                outcomes = [Outcome(key, need.status, need.reason) for key, need in fallen.items()]
                self.settle(outcomes)
                yield job.keep(fallen), outcomes
            rest = job.keep(cell.key for cell in job.cells if cell.key not in fallen)
            if rest.cells:
                self.ready.append(rest)

    def _fallen(self, needs: Iterable[str]) -> Outcome | None:
        for need in needs:
            outcome = self.outcomes.get(need) or Outcome(need, "failed", "what it needs was never computed")
            if outcome.status not in USABLE:
                return outcome
        return None

    def _release(self, number: int) -> None:
        del self._open[number]
        self._settled.append(self._jobs.pop(number))
