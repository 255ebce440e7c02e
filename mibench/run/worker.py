"""What a worker does with a job: perform it, and make a row of whatever goes wrong."""

from __future__ import annotations

import faulthandler
import functools
import os
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mibench.errors import Interrupted, MibenchError, NotWritten
from mibench.network.devices import numerics, short_of_memory
from mibench.network.untouched import Changed
from mibench.plugins import catalogue, spec
from mibench.plugins.contract import Unsupported
from mibench.plugins.reasons import why
from mibench.record.cells import Job, Loss, Setting, Status, TaskSpec
from mibench.record.folder import writable
from mibench.run import costs, explaining, scoring

STAGES: Mapping[str, Callable[[Job], Any]] = {
    "prepare": explaining.prepare,
    "fit": explaining.fit,
    "explain": explaining.explain,
    "score": scoring.score,
    "cost": costs.measure,
}


def perform(job: Job) -> Any:
    """Do a job as a worker does: where it hangs or crashes goes to its log."""
    log = os.dup(2)  # a plug-in may close the others
    faulthandler.enable(file=log)
    if job.seconds:  # shortly before the job is stopped, log its stack
        faulthandler.dump_traceback_later(0.95 * job.seconds, file=log)
    try:
        return attempt(job)
    finally:
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        os.close(log)


def loader(job: Job) -> Callable[[], None] | None:
    """What loads the task of a job for all its workers; None where others' code or a GPU would take part in it."""
    words = {*re.split(r"[^\w-]+", f"{job.task.model} {job.task.data}")}
    foreign = {name for (_, name), place in catalogue.places().items() if not place.ours}
    if job.stage == "prepare" or job.setting.device != "cpu" or spec.parse(job.task.model).argument:
        return None
    return None if words & foreign else functools.partial(_load, job.task, job.setting)


def _load(spec: TaskSpec, setting: Setting) -> None:
    """Load the task for `task_of`, with what every job needs of it."""
    task = explaining.task_of(spec, setting.device, setting.precision)
    _ = task.target, task.truth  # and with them the scoring samples


def attempt(job: Job, *, last: bool = False) -> Any:
    """Do a job: its outcomes (for `prepare`, what was prepared), or the Loss with the reason why there are none.

    A file that cannot be written ends the run if nothing can be written there; otherwise the job is tried once more,
    because a disk may fail once and a plug-in may raise the same error.
    """
    try:
        before = time.perf_counter()
        with numerics(job.setting.device, job.setting.precision):
            answer = STAGES[job.stage](job)
        if job.stage == "prepare":
            return answer
        seconds = (time.perf_counter() - before) / max(1, len(job.cells))
        return [replace(outcome, seconds=seconds) for outcome in answer]
    except Interrupted:
        raise  # the user's own Ctrl-C
    except BaseException as error:  # whatever a plug-in raises is a row
        if isinstance(error, NotWritten):
            if not writable(Path(job.setting.folder)):
                raise
            if not last:
                return attempt(job, last=True)
        if job.stage == "prepare" and isinstance(error, MibenchError):
            raise  # what the user gave cannot be used
        if isinstance(error, Changed):
            forget()  # no other cell shall meet what was changed
        if not isinstance(error, Unsupported):
            _print(error)
        return lost(error)


def forget() -> None:
    """Let go of the tasks that are kept for the jobs that follow."""
    scoring.scene_of.cache_clear()
    scoring.seen_of.cache_clear()
    explaining.task_of.cache_clear()


def lost(error: BaseException) -> Loss:
    """What an error makes of the work that it ended."""
    return Loss(_status(error), why(error))


def _status(error: BaseException) -> Status:
    if isinstance(error, Unsupported):
        return "skipped"
    return "oom" if short_of_memory(error) else "failed"


def _print(error: BaseException) -> None:
    """Write where an error came from to the log; its own code, and a stream that was closed, may fail."""
    try:
        traceback.print_exception(error)
    except BaseException as failure:
        if isinstance(failure, Interrupted):
            raise
