"""Jobs on the nodes of a Ray cluster, or of one that is started here: the local engine, once for each worker.

Every worker is a Ray actor that holds one CPU (and one GPU, where jobs want CUDA) and performs its jobs in a process of
the local engine, so that crashes, hangs and memory shortage are distinguished as on one machine. Nodes need share no
folder: the files that a job reads travel with it as Ray objects, those that it makes come back, and the driver alone
writes the record. The job of a worker whose node fails goes to another one; no other failure is retried here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import logging
import math
import os
import pkgutil
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mibench.engines import loopback
from mibench.engines.base import Engine, Perform
from mibench.engines.forkserver import ONE_THREAD
from mibench.engines.local import LocalEngine
from mibench.errors import MibenchError, NotWritten, UsageError
from mibench.files import writing as whole
from mibench.plugins import registry
from mibench.plugins.catalogue import Places
from mibench.record import environment, fingerprint, maps
from mibench.record.cells import Job, Loss, Tenant

TRIES = 3  # nodes that may fail under a job before it counts as failed itself
PATIENCE = 120.0  # seconds in which a worker must have started, and a stopped one must have reported it
MOMENT = 0.2  # seconds in which a worker may begin the jobs that it was handed at once …
MOST = 32  # … which are at most so many
NETWORKS = "cache/models"  # where trained networks are in a worker's folder
PARTS = ("maps", "logs", NETWORKS)
PLAIN = re.compile(rf"({'|'.join(PARTS)})/[\w=-][\w.=-]*", re.ASCII)  # the files that may come back
OWNER = "owner"  # the file in a temporary folder that names its owner
KEPT = 100 << 20  # bytes of files that stay in the object store for later jobs
STORE = 200 << 20  # bytes of the object store of a cluster that is started here; what is more goes to disk


class RayEngine(Engine):
    """Workers on the nodes of a cluster. Each is handed one job, or several as long as its jobs are brief."""

    in_hand = 2 * MOST

    def __init__(
        self, perform: Perform, workers: int, address: str = "", *, gpu: bool = False, places: Places | None = None
    ) -> None:
        self._ray = _imported()
        self._private = contextlib.ExitStack()  # open as long as a cluster of our own
        self._own = _connect(self._ray, workers, address, self._private)
        self._perform, self._gpu, self._places = perform, gpu, places
        self._waiting: deque[Job] = deque()
        self._lost: dict[str, int] = {}  # jobs whose worker failed, and with how many nodes: they go alone
        self._stillborn = 0  # workers that failed before they had started
        self._sent: dict[Path, tuple[Any, int]] = {}  # files of the driver in the object store, and their sizes
        self._size = 0  # of them together
        self._networks: dict[str, Path] | None = None  # all that the driver has; None: look
        self._workers: list[_Worker] = []
        try:
            self.workers = _size(self._ray, workers, gpu)
            self._workers = [self._start() for _ in range(self.workers)]
            self._gather()
        except BaseException:
            self.close(at_once=True)
            raise

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that workers are on, with what Ray knows of them."""
        counted = [worker.node for worker in self._workers]
        return [
            {
                "name": node["NodeName"],
                "cpus": node["Resources"].get("CPU", 0),
                "gpus": node["Resources"].get("GPU", 0),
                "workers": counted.count(node["NodeID"]),
            }
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def collect(self) -> list[tuple[Job, Any]]:
        came_back: list[tuple[Job, Any]] = []
        while not came_back:
            self._hand_out()
            working = {worker.answer: worker for worker in self._workers if worker.answer is not None}
            done, _ = self._ray.wait(list(working), timeout=1.0)
            came_back += [each for answer in done for each in self._take(working[answer])]
            late = [worker for worker in self._workers if worker.jobs and time.monotonic() > worker.deadline]
            came_back += [each for worker in late for each in self._give_up(worker)]
        self._hand_out()
        return came_back

    def close(self, *, at_once: bool) -> None:
        with contextlib.suppress(Exception):  # a worker whose node has failed has nothing to clean
            leaving = [worker.actor.leave.remote(at_once) for worker in self._workers]
            if leaving:  # without a request, a Ray that was shut down would start, or look for a cluster, again
                self._ray.wait(leaving, num_returns=len(leaving), timeout=5)
        for worker in self._workers:
            with contextlib.suppress(Exception):
                self._ray.kill(worker.actor)
        self._workers = []
        self._ray.shutdown()
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)
            self._own = ""
        self._private.close()

    @property
    def pending(self) -> int:
        return len(self._waiting) + sum(len(worker.jobs) for worker in self._workers)

    @property
    def running(self) -> Sequence[Job]:
        return [worker.jobs[0] for worker in self._workers if worker.jobs]

    def _start(self) -> _Worker:
        """A new worker wherever there is room; it answers first when it has started."""
        options = {"num_cpus": 1, "num_gpus": int(self._gpu), "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        path = os.pathsep.join(dict.fromkeys(each or os.getcwd() for each in sys.path))
        variables = ONE_THREAD | {"PYTHONPATH": path}
        hand = self._ray.remote(_Hand).options(**options, max_concurrency=2, runtime_env={"env_vars": variables})
        actor = hand.remote(self._perform, self._places)
        return _Worker(actor, actor.about.remote())

    def _gather(self) -> None:
        """Wait until the workers have started; those that find no room in time may come later."""
        starting = {worker.answer: worker for worker in self._workers}
        started, _ = self._ray.wait(list(starting), num_returns=len(starting), timeout=PATIENCE)
        if not started:
            what = "one CPU and one GPU" if self._gpu else "one CPU"
            raise UsageError(
                f"no worker could start on the cluster within {PATIENCE:.0f} s: each wants {what}, and none was free"
            )
        for answer in started:
            try:
                self._welcome(starting[answer], self._ray.get(answer))
            except self._ray.exceptions.RayError as error:
                raise UsageError(f"a worker could not start on the cluster: {_line(error)}") from error

    def _welcome(self, worker: _Worker, found: Mapping[str, str]) -> None:
        """A worker has started: it must have the driver's code and libraries."""
        software = {**found}
        node, name = software.pop("node"), software.pop("name")
        if differs := _differences(_software(), software):
            raise UsageError(f"node {name} has other software ({'; '.join(differs)}): install the same there")
        worker.answer, worker.node, worker.name = None, node, name

    def _hand_out(self) -> None:
        """Give jobs to every worker that has none."""
        for worker in self._workers:
            if worker.answer is None and (jobs := self._next(worker)):
                networks = {name: file for name, file in self._trained().items() if name not in worker.networks}
                worker.networks |= networks.keys()
                work = [(job, self._objects(_needs(job))) for job in jobs]
                self._ask(worker, jobs, worker.actor.perform.remote(work, self._objects(networks)))

    def _next(self, worker: _Worker) -> list[Job]:
        """Jobs for one worker; networks are learned one at a time, so that all workers have the same.

        They are of one tenant, of that which the worker serves if there are any, so that its process need not be ended.
        """
        fair = math.ceil(len(self._waiting) / self.workers)
        self._bring_forward(worker)
        learning = any(job.stage == "prepare" for job in self.running)
        jobs: list[Job] = []
        while self._waiting and len(jobs) < min(worker.grasp, fair):
            alone = self._waiting[0].stage == "prepare" or self._waiting[0].log in self._lost
            if alone and (jobs or (learning and self._waiting[0].stage == "prepare")):
                break
            if jobs and self._waiting[0].tenant != jobs[0].tenant:
                break
            jobs.append(self._waiting.popleft())
            if alone:
                break
        return jobs

    def _bring_forward(self, worker: _Worker) -> None:
        """Put the jobs of the worker's tenant first, or those of the first tenant that no worker serves."""
        waiting = dict.fromkeys(job.tenant for job in self._waiting)
        served = {each.tenant for each in self._workers}
        new = next((tenant for tenant in waiting if tenant not in served), None)
        first = worker.tenant if worker.tenant in waiting else new
        if first is not None and self._waiting[0].tenant != first:
            self._waiting = deque(sorted(self._waiting, key=lambda job: job.tenant != first))

    def _ask(self, worker: _Worker, jobs: list[Job], answer: Any) -> None:
        seconds = sum(job.seconds or math.inf for job in jobs)
        worker.tenant = jobs[0].tenant
        worker.jobs, worker.answer, worker.deadline = jobs, answer, time.monotonic() + seconds + PATIENCE
        worker.shared = jobs[0].stage == "cost" and self._shared()

    def _trained(self) -> Mapping[str, Path]:
        """The driver's networks: every worker gets them once, before its first job or when another has learned one."""
        if self._networks is None:
            found = sorted((environment.cache_folder() / "models").glob("[!.]*.safetensors"))
            self._networks = {f"{NETWORKS}/{file.name}": file for file in found}
        return self._networks

    def _objects(self, files: Mapping[str, Path]) -> dict[str, Any]:
        """Files of the driver as objects of the cluster; the latest are kept there for the jobs that follow."""
        objects = {name: self._object(file) for name, file in files.items() if file.exists()}
        while self._size > KEPT:
            self._size -= self._sent.pop(next(iter(self._sent)))[1]
        return objects

    def _object(self, file: Path) -> Any:
        if file not in self._sent:
            content = np.fromfile(file, np.uint8)
            try:
                self._sent[file] = self._ray.put(content), len(content)
            except self._ray.exceptions.RayError as error:
                raise MibenchError(f"Ray's object store has no room for {file}: {_line(error)}") from error
            self._size += len(content)
        return self._sent[file][0]

    def _take(self, worker: _Worker) -> Iterator[tuple[Job, Any]]:
        """What a worker came back with, its files in their places; or how it failed."""
        try:
            found = self._ray.get(worker.answer)
        except self._ray.exceptions.RayError as error:
            yield from self._lose(worker, error)
            return
        if not worker.jobs:  # a new worker has started
            self._welcome(worker, found)
            return
        done, running = found
        jobs, rest = worker.jobs[: len(done)], worker.jobs[len(done) :]
        worker.grasp = max(1, min(MOST, len(done) * (1 if rest else 2)))
        worker.jobs, worker.answer = [], None
        if running:
            self._ask(worker, [rest.pop(0)], worker.actor.go_on.remote())
        self._waiting.extendleft(reversed(rest))
        for job, (answer, files) in zip(jobs, done, strict=True):
            yield job, self._kept(worker, job, answer, files)

    def _kept(self, worker: _Worker, job: Job, answer: Any, files: Mapping[str, Any]) -> Any:
        """The answer of a job, when its files are in their places."""
        if isinstance(answer, MibenchError):
            raise answer
        _keep(files, Path(job.setting.folder))
        if job.stage == "prepare":
            self._networks = None
            worker.networks |= {name for name in files if name.startswith(NETWORKS)}
        if job.stage == "cost" and not isinstance(answer, Loss):
            about = {"node": worker.name, "shared": worker.shared or self._shared()}
            answer = [replace(outcome, facts={**outcome.facts, **about}) for outcome in answer]
        return answer

    def _lose(self, worker: _Worker, error: Exception) -> Iterator[tuple[Job, Any]]:
        """Replace a failed worker. Its jobs go to others, alone; one that was alone fails unless its node did."""
        self._replace(worker)
        if not worker.jobs:
            self._stillborn += 1
            if self._stillborn > TRIES * self.workers:
                raise MibenchError(f"workers cannot start on the cluster: {_line(error)}") from error
            return
        loss = self._loss(worker, error)
        for job in reversed(worker.jobs):
            self._lost[job.log] = nodes = self._lost.get(job.log, 0) + (loss is None)
            if nodes >= TRIES:
                yield job, Loss("crash", f"{nodes} nodes failed while they ran it")
            elif loss and len(worker.jobs) == 1:
                yield job, loss
            else:
                self._waiting.appendleft(job)

    def _loss(self, worker: _Worker, error: Exception) -> Loss | None:
        """What became of a worker's job; nothing where the whole node failed, which is not the job's fault."""
        if isinstance(error, self._ray.exceptions.RayTaskError):  # the worker lives, but could not do its part
            return Loss("failed", f"on node {worker.name}: {_line(error.cause)}")
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            return Loss("oom", "Ray ended the worker, because its node was almost out of memory")
        if self._alive(worker.node):
            return Loss("oom", "Ray lost the worker but its node is alive: probably out of memory")
        return None

    def _give_up(self, worker: _Worker) -> Iterator[tuple[Job, Any]]:
        """End a worker that has not even reported that its job took too long."""
        self._replace(worker)
        for job in worker.jobs:
            yield job, Loss("timeout", f"took longer than {_limit(job)} (--timeout), and its worker did not answer")

    def _replace(self, worker: _Worker) -> None:
        """Start another worker for one that is of no more use."""
        self._ray.kill(worker.actor)
        self._workers[self._workers.index(worker)] = self._start()

    def _alive(self, node: str) -> bool:
        """Whether a node is alive: the node itself is queried, for the cluster may not know yet."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(node, soft=False)
        answer = self._ray.remote(_nothing).options(num_cpus=0, max_retries=0, scheduling_strategy=here).remote()
        try:
            self._ray.get(answer, timeout=PATIENCE / 4)
        except self._ray.exceptions.RayError:
            return False
        return True

    def _shared(self) -> bool:
        """Whether somebody else has work on the cluster too, which makes seconds untrue."""
        total, free = (each.get("CPU", 0) for each in (self._ray.cluster_resources(), self._ray.available_resources()))
        return bool(total - free > sum(bool(worker.node) for worker in self._workers))


@dataclass(eq=False)
class _Worker:
    """The driver's side of one worker."""

    actor: Any
    answer: Any  # its pending call; None while it is idle
    deadline: float = math.inf
    jobs: list[Job] = field(default_factory=list)  # the first of them is being performed
    grasp: int = 1  # how many jobs it is handed: twice as many as it did last, unless some came back undone
    networks: set[str] = field(default_factory=set)  # those that it has
    tenant: Tenant | None = None  # whose code its process runs
    node: str = ""  # empty until it has started
    name: str = ""
    shared: bool = False  # whether somebody else had work on the cluster when a cost was measured


class _Hand:
    """The node's side of one worker: a folder of its own, and a local engine with one process."""

    def __init__(self, perform: Perform, places: Places | None) -> None:
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix="mibench-"))
        (self._folder / OWNER).write_text(_me())
        for part in PARTS:
            (self._folder / part).mkdir(parents=True)
        os.environ["MIBENCH_CACHE"] = str(self._folder / "cache")
        tempfile.tempdir = str(self._folder)  # of the fork server's sockets, too: Ray kills this process untidied
        self._engine = LocalEngine(perform, 1, places)

    def about(self) -> dict[str, str]:
        """Where this is, and with what software: plain words, which another version understands, too."""
        import ray

        return {**_software(), "node": ray.get_runtime_context().get_node_id(), "name": socket.gethostname()}

    def perform(
        self, work: Sequence[tuple[Job, Mapping[str, Any]]], networks: Mapping[str, Any]
    ) -> tuple[list[tuple[Any, dict[str, Any]]], bool]:
        """Perform jobs for a moment: what became of those that are done, and whether the next one is running."""
        self._write(networks)
        done: list[tuple[Any, dict[str, Any]]] = []
        end = time.monotonic() + MOMENT
        for job, files in work:
            self._begin(job, files)
            done += self._done(max(0.0, end - time.monotonic()))
            if time.monotonic() > end:
                break
        return done, self._engine.pending > 0

    def go_on(self) -> tuple[list[tuple[Any, dict[str, Any]]], bool]:
        """Wait for the job that is running."""
        return self._done(None), False

    def leave(self, at_once: bool) -> None:
        """Let the process go and leave nothing behind."""
        self._engine.close(at_once=at_once)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self, job: Job, files: Mapping[str, Any]) -> None:
        self._write(files)
        self._job, self._given = job, {*files, *(self._files(NETWORKS) if job.stage == "prepare" else ())}
        device = "cuda:0" if job.setting.device.startswith("cuda") else job.setting.device  # the one that Ray gave us
        self._engine.submit(replace(job, setting=replace(job.setting, folder=str(self._folder), device=device)))

    def _done(self, within: float | None) -> list[tuple[Any, dict[str, Any]]]:
        """What became of the job and the files that it made; nothing if it takes longer."""
        try:
            return [(answer, self._made(job)) for job, answer in self._engine.collect(within)]
        except MibenchError as error:
            return [(error, self._made(self._job))]

    def _made(self, job: Job) -> dict[str, Any]:
        """The files that a job made; its own and those that it was given go, for a node's disk may be small."""
        parts = PARTS if job.stage == "prepare" else PARTS[:2]
        mine = [name for name in self._files(*parts) if name not in self._given and not name.endswith(".part")]
        made = {name: np.fromfile(self._folder / name, np.uint8) for name in mine}
        for name in self._files(*PARTS[:2]):
            (self._folder / name).unlink()
        return made

    def _files(self, *parts: str) -> list[str]:
        found = [f"{part}/{name}" for part in parts for name in os.listdir(self._folder / part)]
        return [name for name in found if "/." not in name]

    def _write(self, files: Mapping[str, Any]) -> None:
        import ray

        for name, content in files.items():
            ray.get(content).tofile(self._folder / name)


def _limit(job: Job) -> str:
    return f"the limit of {job.seconds or 0:g} s"


def _nothing() -> None:
    """What a node runs to show that it is alive."""


@functools.cache
def _software() -> Mapping[str, str]:
    """The software of this machine that can change an answer: versions, and a hash of all plug-ins' code."""
    packages = [importlib.import_module(f"mibench.{room}") for room in registry.ROOMS]
    plugins = [f"{each.__name__}.{found.name}" for each in packages for found in pkgutil.iter_modules(each.__path__)]
    points = [each for room in registry.ROOMS for each in importlib.metadata.entry_points(group=f"mibench.{room}")]
    foreign = sorted({each.dist.name for each in points if each.dist})
    return {
        "python": platform.python_version(),
        **{name: environment.version(name) for name in ("mibench", *environment.LIBRARIES, *foreign)},
        "code": fingerprint.sources(["mibench.run.worker", *plugins, *(each.module for each in points)]),
    }


def _differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What a node must have as the driver has it, and has not."""
    found = {name: (there.get(name) or "none", here.get(name) or "none") for name in {**here, **there}}
    return [f"{name} {other} there, {mine} here" for name, (other, mine) in found.items() if other != mine]


def _me() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _sweep() -> None:
    """Remove the folders of drivers and workers that were killed on this machine."""
    for note in Path(tempfile.gettempdir()).glob(f"mib*-*/{OWNER}"):
        with contextlib.suppress(OSError):  # somebody else's, or removed meanwhile
            host, _, number = note.read_text().rpartition(" ")
            if host == socket.gethostname() and Path("/proc").exists() and not Path("/proc", number).exists():
                shutil.rmtree(note.parent, ignore_errors=True)


def _needs(job: Job) -> dict[str, Path]:
    """The driver's files that a job reads, by their names in a worker's folder."""
    folder = Path(job.setting.folder)
    return {str(maps.path(Path(), key)): maps.path(folder, key) for key in job.reads}


def _keep(files: Mapping[str, Any], folder: Path) -> None:
    """Write what a worker made, each file whole or not at all; names that it should not have made are refused."""
    for name, content in files.items():
        if not PLAIN.fullmatch(name):
            raise MibenchError(f"a worker came back with a file of the name {name!r}, which no job makes")
        place = environment.cache_folder() / "models" if name.startswith(NETWORKS) else folder / Path(name).parent
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritten(f"{place} cannot be made: {error.strerror}; {whole.MEND}") from error
        whole.write(place / Path(name).name, memoryview(content))


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what a later Ray does: silences its warning
    try:
        import ray
    except ImportError as error:
        raise UsageError('the engine ray needs the package ray: pip install "mibench[ray]"') from error
    return ray


def _connect(ray: Any, workers: int, address: str, private: contextlib.ExitStack) -> str:
    """Join the cluster at an address, or start a private one here; the folder of one that was started."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if address in ("", "local"):
        _sweep()
        folder = tempfile.mkdtemp(prefix="mibray-")  # short, for Ray's sockets are in it
        (Path(folder) / OWNER).write_text(_me())
        try:
            private.enter_context(loopback.private(ray))
            ray.init(address="local", num_cpus=workers, object_store_memory=STORE, _temp_dir=folder, **quiet)
            loopback.check(ray)
        except Exception as error:  # a bare one where the machine is too busy to start it in time
            ray.shutdown()
            private.close()
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, MibenchError):
                raise
            raise MibenchError(f"Ray could not start a cluster on this machine: {_line(error)}") from error
        return folder
    host, colon, port = address.rpartition(":")
    if address != "auto" and not (colon and host and port.isdigit() and "/" not in host):
        raise UsageError(
            f"{address!r} is not an address of a Ray cluster: pass auto or HOST:PORT, such as 10.0.0.1:6379"
        )
    if address != "auto":
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"no Ray cluster answers at {address} (tried to connect: {error})") from error
        if unwell := _unwell(address):
            raise UsageError(f"no Ray cluster answers at {address} (tried `ray health-check`: {unwell})")
    quiet.pop("include_dashboard")
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        tried = "RAY_ADDRESS and a cluster started on this machine" if address == "auto" else address
        raise UsageError(
            f"no Ray cluster was found (tried {tried}: {_line(error)}); start one with `ray start --head`, "
            "or leave --address out to have one for this run"
        ) from error
    return ""


def _unwell(address: str) -> str:
    """What keeps a Ray cluster from answering at an address; `init` would try for eight minutes."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE / 4, check=False)
    except subprocess.TimeoutExpired:
        return "something else listens there"
    if "AuthToken" in found.stderr:
        return "it requires a token: set RAY_AUTH_MODE=token, and put its head's token in ~/.ray/auth_token"
    output = " ".join(found.stderr.split())[-200:]
    return "" if found.returncode == 0 else f"its health check failed: {output}"


def _size(ray: Any, workers: int, gpu: bool) -> int:
    """How many workers: as requested, or on somebody's cluster one for each GPU or CPU that is there."""
    there = ray.cluster_resources()
    most = int(there.get("GPU" if gpu else "CPU", 0))
    if most < 1:
        raise UsageError(f"the cluster has no {'GPU' if gpu else 'CPU'}")
    return most if workers == 0 else min(workers, most)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
