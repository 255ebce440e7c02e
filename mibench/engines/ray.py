"""Jobs on the nodes of a Ray cluster, or of one that is started here: the local engine, once for each worker.

Every worker is a Ray actor that holds one CPU (and one GPU, where jobs want CUDA) and performs its jobs in a process of
the local engine, so that crashes, hangs and hunger are told apart on the node just as on one machine. Nodes need share
no folder: the files that a job reads travel with it as Ray objects, those that it makes come back, and the driver alone
writes the record. A worker whose node is lost gives its job to another one; no other loss is tried again here.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mibench import environment, fingerprint, maps
from mibench.engines.base import Engine, Perform
from mibench.engines.forkserver import ONE_THREAD
from mibench.engines.local import LocalEngine
from mibench.errors import MibenchError, RecordError, UsageError
from mibench.jobs import Job, Loss

TRIES = 3  # nodes that a job may lose before it counts as lost itself
PATIENCE = 120.0  # seconds in which a worker must have started, and a stopped one must have said so
NETWORKS = "cache/models"  # where trained networks are in a worker's folder
PLAIN = re.compile(r"(maps|logs|cache/models)/[\w.=-]+")  # the files that may come back
STORE = 200 << 20  # bytes of the object store of a cluster that is started here; what is more goes to disk


class RayEngine(Engine):
    """Workers on the nodes of a cluster; the driver hands each of them one job at a time."""

    def __init__(self, perform: Perform, workers: int, address: str = "", *, gpu: bool = False) -> None:
        self._ray = _imported()
        self._own = _connect(self._ray, workers, address)
        self._perform, self._gpu = perform, gpu
        self._waiting: deque[Job] = deque()
        self._lost: dict[str, int] = {}  # how many nodes each job has lost, by its log's name
        self._stillborn = 0  # workers that were lost before they had started
        self._sent: dict[Path, Any] = {}  # files of the driver that are in the object store
        self._workers: list[_Worker] = []
        try:
            self.workers = _size(self._ray, workers, gpu)
            self._workers = [self._start() for _ in range(self.workers)]
            self._check()
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
        self._hand_out()

    def collect(self) -> list[tuple[Job, Any]]:
        came_back: list[tuple[Job, Any]] = []
        while not came_back:
            self._hand_out()
            working = {worker.answer: worker for worker in self._workers if worker.answer is not None}
            done, _ = self._ray.wait(list(working), timeout=1.0)
            came_back += [each for answer in done for each in self._take(working[answer])]
            late = [worker for worker in self._workers if worker.job and time.monotonic() > worker.deadline]
            came_back += [each for worker in late for each in self._give_up(worker)]
        return came_back

    def close(self, *, at_once: bool) -> None:
        for worker in self._workers:
            with contextlib.suppress(Exception):  # a worker whose node is gone has nothing to clean
                self._ray.get(worker.actor.leave.remote(at_once), timeout=5)
            with contextlib.suppress(Exception):
                self._ray.kill(worker.actor)
        self._workers = []
        self._ray.shutdown()
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)
            self._own = ""

    @property
    def pending(self) -> int:
        return len(self._waiting) + len(self.running)

    @property
    def running(self) -> Sequence[Job]:
        return [worker.job for worker in self._workers if worker.job]

    def _start(self) -> _Worker:
        """A new worker wherever there is room; it answers first when it has started."""
        options = {"num_cpus": 1, "num_gpus": int(self._gpu), "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        path = os.pathsep.join(dict.fromkeys(each or os.getcwd() for each in sys.path))
        variables = ONE_THREAD | {"PYTHONPATH": path}
        actor = self._ray.remote(_Hand).options(**options, runtime_env={"env_vars": variables}).remote(self._perform)
        return _Worker(actor, actor.about.remote(), time.monotonic() + PATIENCE)

    def _check(self) -> None:
        """Wait until every worker has started, with the code and the torch that the driver has."""
        mine = _about()
        for worker in self._workers:
            try:
                found = self._ray.get(worker.answer, timeout=PATIENCE)
            except self._ray.exceptions.GetTimeoutError as error:
                raise UsageError(
                    f"the cluster has no room for {self.workers} workers after {PATIENCE:.0f} s: give fewer --jobs"
                ) from error
            except self._ray.exceptions.RayError as error:
                raise UsageError(f"a worker could not start on the cluster: {_line(error)}") from error
            self._began(worker, found)
            differs = [f"{name} {found[name]} there, {mine[name]} here" for name in mine if mine[name] != found[name]]
            if differs:
                raise UsageError(f"node {found['name']} has other software ({'; '.join(differs)}): install the same")

    def _began(self, worker: _Worker, about: Mapping[str, str]) -> None:
        worker.answer, worker.node, worker.name = None, about["node"], about["name"]

    def _hand_out(self) -> None:
        """Give a job to every worker that has none; networks are learned one at a time, so that all have the same."""
        for worker in self._workers:
            learning = any(job.stage == "prepare" for job in self.running)
            if worker.answer is not None or not self._waiting or (learning and self._waiting[0].stage == "prepare"):
                continue
            worker.job = job = self._waiting.popleft()
            files = {name: self._object(file) for name, file in _needs(job).items() if file.exists()}
            worker.deadline = time.monotonic() + (job.seconds + PATIENCE if job.seconds else float("inf"))
            worker.answer = worker.actor.perform.remote(job, files)

    def _object(self, file: Path) -> Any:
        """A file of the driver as an object of the cluster, put there once."""
        if file not in self._sent:
            self._sent[file] = self._ray.put(file.read_bytes())
        return self._sent[file]

    def _take(self, worker: _Worker) -> Iterator[tuple[Job, Any]]:
        """What a worker came back with, its files in their places; or how it was lost."""
        job = worker.job
        try:
            found = self._ray.get(worker.answer)
        except self._ray.exceptions.RayError as error:
            yield from self._lose(worker, error)
            return
        if job is None:  # a new worker has started
            self._began(worker, found)
            return
        worker.job = worker.answer = None
        answer, files = found
        if isinstance(answer, MibenchError):
            raise answer
        _keep(files, Path(job.setting.folder))
        if job.stage == "cost" and not isinstance(answer, Loss):
            about = {"node": worker.name, "shared": self._shared()}
            answer = [replace(outcome, facts={**outcome.facts, **about}) for outcome in answer]
        yield job, answer

    def _lose(self, worker: _Worker, error: Exception) -> Iterator[tuple[Job, Any]]:
        """Replace a lost worker. Its job goes to another one if the node went with it, else it is lost."""
        self._workers[self._workers.index(worker)] = self._start()
        if worker.job is None:
            self._stillborn += 1
            if self._stillborn > TRIES * self.workers:
                raise MibenchError(f"workers cannot start on the cluster: {_line(error)}") from error
            return
        if self._alive(worker.node):
            yield worker.job, Loss("oom", "Ray lost the worker on a node that lives on, most likely for want of memory")
            return
        self._lost[worker.job.log] = lost = self._lost.get(worker.job.log, 0) + 1
        if lost < TRIES:
            self._waiting.appendleft(worker.job)
        else:
            yield worker.job, Loss("crash", f"{lost} nodes were lost while they performed it")

    def _give_up(self, worker: _Worker) -> Iterator[tuple[Job, Any]]:
        """End a worker that has not even said that its job took too long."""
        self._ray.kill(worker.actor)
        self._workers[self._workers.index(worker)] = self._start()
        if worker.job:
            yield worker.job, Loss("timeout", "took longer than it may, and its worker did not answer")

    def _alive(self, node: str) -> bool:
        """Whether a node lives: asked of the node itself, for the cluster may not know yet."""
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
        return bool(total - free > len(self._workers))


@dataclass(eq=False)
class _Worker:
    """The driver's side of one worker."""

    actor: Any
    answer: Any  # what it is asked; None while it is idle
    deadline: float
    job: Job | None = None
    node: str = ""
    name: str = ""


class _Hand:
    """The node's side of one worker: a folder of its own, and a local engine with one process."""

    def __init__(self, perform: Perform) -> None:
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"mibench-{os.getpid()}-"))
        for part in ("maps", "logs", NETWORKS):
            (self._folder / part).mkdir(parents=True)
        os.environ["MIBENCH_CACHE"] = str(self._folder / "cache")
        self._engine = LocalEngine(perform, 1)

    def about(self) -> dict[str, str]:
        """Where this is, and with what software."""
        import ray

        return _about() | {"node": ray.get_runtime_context().get_node_id()}

    def perform(self, job: Job, files: Mapping[str, Any]) -> tuple[Any, dict[str, bytes]]:
        """What became of the job, and the files that it made."""
        import ray

        wanted = [name for name in files if not (self._folder / name).exists()]
        for name, content in zip(wanted, ray.get([files[name] for name in wanted]), strict=True):
            (self._folder / name).write_bytes(content)
        before = set(self._files())
        self._engine.submit(replace(job, setting=replace(job.setting, folder=str(self._folder))))
        try:
            [(_, answer)] = self._engine.collect()
        except MibenchError as error:
            answer = error
        made = {name: (self._folder / name).read_bytes() for name in self._files() if name not in before}
        for name in self._files():
            if not name.startswith(NETWORKS):  # a node's disk may be small
                (self._folder / name).unlink()
        return answer, made

    def leave(self, at_once: bool) -> None:
        """Let the process go and leave nothing behind."""
        self._engine.close(at_once=at_once)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _files(self) -> list[str]:
        parts = ("maps", "logs", NETWORKS)
        found = [file for part in parts for file in (self._folder / part).iterdir() if not file.name.startswith(".")]
        return [str(file.relative_to(self._folder)) for file in found]


def _nothing() -> None:
    """What a node is asked to see whether it lives."""


def _about() -> dict[str, str]:
    """The name of this machine and the software that can change an answer."""
    versions = {name: environment.version(name) for name in ("torch", "numpy")}
    return {"name": socket.gethostname(), "code": fingerprint.sources(["mibench.work"])} | versions


def _sweep() -> None:
    """Remove the folders of workers that were killed on this node."""
    for folder in Path(tempfile.gettempdir()).glob("mibench-*-*"):
        number = folder.name.split("-")[1]
        if number.isdigit() and not Path(f"/proc/{number}").exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _needs(job: Job) -> dict[str, Path]:
    """The driver's files that a job reads, by their names in a worker's folder."""
    folder = Path(job.setting.folder)
    keys = [job.fit] if job.fit else []
    keys += [key for source in job.rows.values() for key in (*source.maps, *source.variants.values())]
    networks = sorted((environment.cache_folder() / "models").glob("[!.]*.safetensors"))
    files = {str(maps.path(Path(), key)): maps.path(folder, key) for key in dict.fromkeys(keys)}
    return files | {f"{NETWORKS}/{file.name}": file for file in networks}


def _keep(files: Mapping[str, bytes], folder: Path) -> None:
    """Write what a worker made, each file whole or not at all; names that it should not have made are refused."""
    for name, content in files.items():
        if not PLAIN.fullmatch(name):
            raise MibenchError(f"a worker came back with a file of the name {name!r}, which no job makes")
        place = environment.cache_folder() / "models" if name.startswith(NETWORKS) else folder / Path(name).parent
        try:
            place.mkdir(parents=True, exist_ok=True)
            beside = place / f".{Path(name).name}.part"
            beside.write_bytes(content)
            os.replace(beside, place / Path(name).name)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise RecordError(f"{place} cannot be written: {error.strerror}") from error
            raise


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what a later Ray does: silences its warning
    try:
        import ray
    except ImportError as error:
        raise UsageError('the engine ray needs the package ray: pip install "mibench[ray]"') from error
    return ray


def _connect(ray: Any, workers: int, address: str) -> str:
    """Join the cluster at an address, or start one here; the folder of one that was started."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if address in ("", "local"):
        folder = tempfile.mkdtemp(prefix="mibray-")
        ray.init(address="local", num_cpus=workers, object_store_memory=STORE, _temp_dir=folder, **quiet)
        return folder
    host, colon, port = address.rpartition(":")
    if address != "auto" and not (colon and host and port.isdigit() and "/" not in host):
        raise UsageError(f"{address!r} is no address of a Ray cluster: write auto or HOST:PORT, such as 10.0.0.1:6379")
    if address != "auto":
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"no Ray cluster answers at {address} (tried to connect: {error})") from error
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


def _size(ray: Any, workers: int, gpu: bool) -> int:
    """How many workers: as asked, or on somebody's cluster one for each GPU or CPU that is there."""
    there = ray.cluster_resources()
    most = int(there.get("GPU" if gpu else "CPU", 0))
    if most < 1:
        raise UsageError(f"the cluster has no {'GPU' if gpu else 'CPU'}")
    return most if workers == 0 else min(workers, most)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
