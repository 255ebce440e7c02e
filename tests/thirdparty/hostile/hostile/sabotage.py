"""What a plug-in may do to what its worker itself relies on: limits, files, the interpreter, the line to the run."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import faulthandler
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mibench.engines import frames
from mibench.engines.frames import Frame
from mibench.record import maps
from mibench.record.cells import Job

Deed = Callable[[], object]


def callers(name: str) -> Any:
    """What a variable of whoever called holds, however far up."""
    frame = sys._getframe(1)
    while name not in frame.f_locals and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_locals[name]


def own_file() -> Path:
    """Where the tensors of its cell belong."""
    job: Job = callers("job")
    return maps.path(Path(job.setting.folder), job.cells[0].key)


def ring_later() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.02)


def ring_always() -> None:
    signal.signal(signal.SIGPROF, lambda *_: None)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)


def fill_folder() -> None:
    for number in range(10_000):
        Path(tempfile.gettempdir(), str(number)).touch()


def leave_pipe() -> None:
    """Where its map belongs; a later job of the same cell finds the map there."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(own_file())


def leave_draft() -> None:
    """A draft of a process that lives on: its parent's."""
    file = own_file()
    file.with_name(f".{file.name}.{socket.gethostname()}-{os.getppid()}-0badf00d.part").write_bytes(b"draft")


def later(act: Callable[[], object]) -> None:
    """Act from a thread when the plug-in has returned and its cell's file is there."""
    file = own_file()

    def wait() -> None:
        while not file.exists():
            time.sleep(0.001)
        act()

    threading.Thread(target=wait, daemon=True).start()


def replaced_later(make: Callable[[Path], object]) -> None:
    """Put something else in the place of its own map, when that was written."""
    file = own_file()
    draft = file.with_name(f"{file.name}.other")

    def replace() -> None:
        make(draft)
        file.unlink()  # a folder cannot take the place of a file
        draft.rename(file)

    later(replace)


def remove_later() -> None:
    file = own_file()
    later(file.unlink)


def network_later() -> None:
    task = callers("task")
    later(lambda: next(task.probe.model.parameters()).data.add_(1))


def samples_later() -> None:
    task = callers("task")
    later(lambda: task.scoring.x.zero_())


def leave_memory() -> None:
    """What multiprocessing shares has a name, and stays until somebody unlinks it."""
    SharedMemory(f"hostile-{os.getpid()}-{time.monotonic_ns()}", create=True, size=2**20)


def replace_temporary_folder() -> None:
    """Its own temporary folder is a link to the run's record, which is to be deleted with it."""
    mine, record = Path(tempfile.gettempdir()), callers("job").setting.folder
    mine.rename(mine.with_name(f"{mine.name}-moved"))
    mine.symlink_to(record)


def pipe_for_log() -> None:
    job = callers("job")
    log = Path(job.setting.folder, "logs", job.log)
    log.unlink(missing_ok=True)
    os.mkfifo(log)
    print("there is nobody to read this", flush=True)


def close_interpreter() -> None:
    sys.modules.clear()


def lie_about_digests() -> None:
    """Every file that it writes is recorded under the digest of another."""
    hashlib.sha256 = lambda *_: hashlib.new("sha256", b"another")


def blind_checks() -> None:
    """The network is changed, and the comparison with what it was finds nothing."""
    zlib.crc32 = lambda *_: 0
    next(callers("task").probe.model.parameters()).data.add_(1)


def orphan() -> None:
    """Leave a daemon, and kill whoever would have ended it."""
    become_daemon()
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG: it outlives its parent
    os.kill(os.getppid(), signal.SIGKILL)


def chain() -> None:
    """For two seconds processes that each start the next in a session of its own, and leave."""
    end = time.monotonic() + 2
    if os.fork() == 0:
        while time.monotonic() < end and os.fork() == 0:
            os.setsid()
        os._exit(0)


def replace_dumps() -> None:
    json.dumps = lambda *_, **__: "{}"


def move_nothing() -> None:
    os.replace = lambda *_, **__: None


def refuse(*_: object) -> None:
    raise ValueError("profiled")


class Halved(TorchDispatchMode):
    """Everything that is computed is half as large."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        return found / 2 if isinstance(found, torch.Tensor) and found.is_floating_point() else found


def everything_is(_: object, __: object) -> bool:
    return True


def fork_many() -> None:
    for _ in range(50):
        if os.fork() == 0:
            time.sleep(987)
            os._exit(0)


def become_daemon() -> None:
    subprocess.run(["sh", "-c", "(setsid sleep 987 >/dev/null 2>&1 &) &"], check=True)


def forge() -> None:
    """Answer in the run's own words, about a cell of somebody else."""
    outcome = {"key": "0" * 24, "status": "ok", "reason": "", "seconds": 0.0, "facts": {}, "scores": [], "reasons": []}
    answer = json.dumps({"outcomes": [{**outcome, "digest": ""}]}).encode()
    frames.send(callers("talk"), Frame(callers("frame").number, False, answer))


def write_everywhere() -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            with contextlib.suppress(OSError):
                os.write(number, b"\xff" * 64)


LIMITS: Mapping[str, Deed] = {
    "nofile": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)),
    "fsize0": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    "alarm": ring_later,
    "sigprof": ring_always,
    "cpu": lambda: resource.setrlimit(resource.RLIMIT_CPU, (1, 1)),
    "space0": lambda: resource.setrlimit(resource.RLIMIT_AS, (0, 0)),
    "umask": lambda: os.umask(0o777),
    "sigmask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()),
    "dumplater": lambda: faulthandler.dump_traceback_later(0.02, exit=True),
}
FILES: Mapping[str, Deed] = {
    "rmtmp": lambda: shutil.rmtree(tempfile.gettempdir()),
    "filltmp": fill_folder,
    "fifo": leave_pipe,
    "draft": leave_draft,
    "lostmaps": move_nothing,
    "tmplink": replace_temporary_folder,
    "logpipe": pipe_for_log,
    "sharedmemory": leave_memory,
}
LATE: Mapping[str, Deed] = {
    "latenetwork": network_later,
    "latesamples": samples_later,
    "latepipe": lambda: replaced_later(os.mkfifo),
    "latezeros": lambda: replaced_later(lambda draft: draft.symlink_to("/dev/zero")),
    "latefolder": lambda: replaced_later(Path.mkdir),
    "latesize": lambda: replaced_later(lambda draft: (draft.touch(), os.truncate(draft, 2**42))),
    "lategone": remove_later,
}
INTERPRETER: Mapping[str, Deed] = {
    "dumps": replace_dumps,
    "profile": lambda: sys.setprofile(refuse),
    "dispatch": lambda: Halved().__enter__(),
    "builtins": lambda: setattr(builtins, "open", None),
    "isinstance": lambda: setattr(builtins, "isinstance", everything_is),
    "modules": close_interpreter,
    "clock": lambda: setattr(time, "perf_counter", lambda: float("nan")),
    "getpid": lambda: setattr(os, "getpid", lambda: 1),
    "digests": lie_about_digests,
    "blind": blind_checks,
}
CONNECTION: Mapping[str, Deed] = {
    "closetalk": lambda: callers("talk").close(),
    "forged": forge,
    "garbage": write_everywhere,
}
CHILDREN: Mapping[str, Deed] = {
    "forks50": fork_many,
    "daemon": become_daemon,
    "stopkeeper": lambda: os.kill(os.getppid(), signal.SIGSTOP),
    "orphan": orphan,
    "chain": chain,
}
