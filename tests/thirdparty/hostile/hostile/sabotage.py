"""What a plug-in may do to what its worker itself relies on: limits, files, the interpreter, the line to the run."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
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
}
FILES: Mapping[str, Deed] = {
    "rmtmp": lambda: shutil.rmtree(tempfile.gettempdir()),
    "filltmp": fill_folder,
    "fifo": leave_pipe,
    "draft": leave_draft,
}
INTERPRETER: Mapping[str, Deed] = {
    "dumps": replace_dumps,
    "profile": lambda: sys.setprofile(refuse),
    "dispatch": lambda: Halved().__enter__(),
}
CONNECTION: Mapping[str, Deed] = {
    "closetalk": lambda: callers("talk").close(),
    "forged": forge,
}
CHILDREN: Mapping[str, Deed] = {
    "forks50": fork_many,
    "daemon": become_daemon,
}

# Not survived yet, so without a row in ends.csv and in no group: `lostmaps` keeps a run from ending, and `garbage`
# reaches the pipes of the fork server and of the resource tracker, which both die of it.
NOT_SURVIVED: Mapping[str, Deed] = {
    "lostmaps": move_nothing,
    "garbage": write_everywhere,
}
