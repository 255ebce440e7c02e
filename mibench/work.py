"""What a worker does with a job: perform it, catch what goes wrong, and keep what was printed in the job's log."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mibench import costs, explaining, scoring
from mibench.condition import NetworkChanged
from mibench.contract import Unsupported
from mibench.environment import mend
from mibench.errors import MibenchError, RecordError
from mibench.jobs import Job, Loss, Status

STAGES: Mapping[str, Callable[[Job], Any]] = {
    "prepare": explaining.prepare,
    "fit": explaining.fit,
    "explain": explaining.explain,
    "score": scoring.score,
    "cost": costs.measure,
}
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Unable to allocate")
NO_RECORD = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def perform(job: Job) -> Any:
    """Do a job as a worker does: what it prints, and where it hangs or crashes, goes to its log."""
    with _logged(Path(job.setting.folder) / "logs" / job.log, job.seconds):
        return attempt(job)


def attempt(job: Job) -> Any:
    """Do a job: its outcomes (for `prepare`, what was prepared), or the Loss that says why there are none."""
    try:
        before = time.perf_counter()
        answer = STAGES[job.stage](job)
        if job.stage == "prepare":
            return answer
        seconds = (time.perf_counter() - before) / max(1, len(job.cells))
        return [replace(outcome, seconds=seconds) for outcome in answer]
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_RECORD:
            raise RecordError(f"{job.setting.folder} cannot be written: {error.strerror}") from error
        if job.stage == "prepare" and isinstance(error, MibenchError):
            raise  # what the user gave cannot be used
        if isinstance(error, NetworkChanged):
            explaining.task_of.cache_clear()  # no other cell shall meet the changed network
        if not isinstance(error, Unsupported):
            traceback.print_exc()
        return lost(error)


def lost(error: Exception) -> Loss:
    """What an error makes of the work that it ended."""
    return Loss(_status(error), _reason(error))


def _status(error: Exception) -> Status:
    if isinstance(error, Unsupported):
        return "skipped"
    short = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in NO_MEMORY)
    return "oom" if short else "failed"


def _reason(error: Exception) -> str:
    """One line that says what, and for foreign errors where."""
    if isinstance(error, Unsupported | MibenchError):
        return " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{mend(error)} ({Path(place.filename).name}:{place.lineno})"


@contextlib.contextmanager
def _logged(file: Path, seconds: float | None) -> Iterator[None]:
    """Everything that is printed meanwhile, even by C code and by a crash, goes to a file; no file if nothing is."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(file, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        faulthandler.enable(file=log)
        if seconds:  # shortly before the job is stopped, say where it is
            faulthandler.dump_traceback_later(0.95 * seconds, file=log)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
    if file.stat().st_size == 0:
        file.unlink()
