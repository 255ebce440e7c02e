"""The worker's own side: what runs in the process that performs one tenant's jobs."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mibench.engines import frames
from mibench.engines.base import Perform
from mibench.engines.forkserver import ONE_THREAD
from mibench.engines.frames import Frame
from mibench.errors import MibenchError
from mibench.network import untouched
from mibench.plugins import registry
from mibench.plugins.catalogue import Places
from mibench.plugins.reasons import why
from mibench.record import environment, messages
from mibench.record.cells import Job, Loss, Outcome

REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # what cuBLAS wants, to give the same every time
SHARE = 1.0  # of the machine's memory that one process may fill


@dataclass(frozen=True)
class Start:
    """What a worker begins with."""

    perform: Perform
    environment: Mapping[str, str]
    working_folder: str  # the run's, where relative paths begin
    own_folder: str  # for temporary files; deleted when the worker ends
    places: Places | None  # of the plug-ins; None: look for them
    ready: Callable[[], None] | None = None  # loads what all workers of the task need


def serve(talk: socket.socket, start: Start) -> None:
    """Perform jobs until the run closes the connection: the worker's own side."""
    _begin(start)
    me, reader = os.getpid(), frames.Reader(talk, messages.MAX_BYTES)
    while frame := reader.wait():
        job: Job = pickle.loads(frame.content)
        _limit_memory(job.setting.device)
        before = untouched.settings()
        answer = _encoded(_performed(start, job))
        if os.getpid() != me:
            os._exit(0)  # a copy of the worker that a plug-in has forked
        frames.send(talk, Frame(frame.number, _changed(before), answer))


def load(start: Start) -> None:
    """Load what all workers of a task need; if it fails, each worker finds out for itself."""
    _settle(start)
    silent = os.open(os.devnull, os.O_WRONLY)
    printed = {number: os.dup(number) for number in (1, 2)}
    for number in printed:
        os.dup2(silent, number)
    with contextlib.suppress(Exception):
        (start.ready or (lambda: None))()
    for number, stream in printed.items():
        os.dup2(stream, number)
        os.close(stream)
    os.close(silent)
    gc.collect()
    gc.freeze()  # what is shared with the workers is not to be written to


def _begin(start: Start) -> None:
    """Make the process ready: as the run is, with a folder of its own."""
    _settle(start)
    os.environ["TMPDIR"] = tempfile.tempdir = start.own_folder
    untouched.workplace = Path(start.own_folder)


def _settle(start: Start) -> None:
    """The run's environment, folder and plug-ins, and one thread."""
    import torch

    os.environ.update({**REPEATABLE, **start.environment, **ONE_THREAD})
    with contextlib.suppress(OSError):
        os.chdir(start.working_folder)
    registry.use(start.places)
    torch.set_num_threads(1)


def _performed(start: Start, job: Job) -> list[Outcome] | Any:
    try:
        return start.perform(job)
    except MibenchError as error:
        return error
    except BaseException as error:  # whatever a plug-in raises is a row
        return Loss("failed", why(error))


def _encoded(answer: Any) -> bytes:
    try:
        return messages.encode(answer)
    except BaseException as error:  # an answer may hold a stranger's objects
        return messages.encode(Loss("failed", f"its answer cannot be written: {why(error)}"))


def _changed(before: dict[str, Any]) -> bool:
    """Whether the process is not as it was: then it must not perform another job."""
    try:
        return bool(untouched.settings() != before)
    except BaseException:  # not even the settings can be read
        return True


def _limit_memory(device: str) -> None:
    """Let what wants more memory than the machine has fail at once; an accelerator's driver reserves more than that."""
    most = int(SHARE * environment.memory_bytes())
    if most and device == "cpu":
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
