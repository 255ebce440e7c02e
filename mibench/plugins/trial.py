"""A stranger's module is imported in a child process first: one that ends, stops or hangs that process is set aside.

Importing runs a module's code. What the child does not survive would have ended the run, perhaps with exit code 0.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable

from mibench.plugins import reasons

LIMIT = 60.0  # seconds that an import may take
IMPORTED = b"imported"
MAX_BYTES = 4096  # of what the child answers


def fault(load: Callable[[], object], limit: float = LIMIT) -> str:
    """Why a module must not be imported here, or an empty string; where processes cannot fork nothing is tried."""
    if not hasattr(os, "fork"):
        return ""
    answer, answering = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the child imports and leaves
        child = os.fork()
    if child == 0:
        _import_and_leave(load, answering)
    os.close(answering)
    try:
        code = _ended(child, limit)
        told = os.read(answer, MAX_BYTES) if _readable(answer) else b""
    finally:
        os.close(answer)
    if told == IMPORTED:
        return ""
    if told:
        return told.decode("utf-8", "replace")
    if code is None:
        return f"its import did not end within {limit:g} s"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"its import ended the process ({how})"


def _import_and_leave(load: Callable[[], object], answering: int) -> None:
    """The child: import, answer, and leave without running anything that was registered for the end."""
    told = IMPORTED
    try:
        os.setsid()
        faulthandler.disable()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        load()
    except BaseException as error:  # whatever a stranger's module raises
        told = reasons.kind(error).encode("utf-8", "replace")[:MAX_BYTES] or b"it raised an error"
    finally:
        os.write(answering, told)
        os._exit(0)


def _ended(child: int, limit: float) -> int | None:
    """How a child ended, with all that it started; None if it was stopped at the limit."""
    deadline, wait = time.monotonic() + limit, 0.001
    code: int | None = None
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(wait)
        wait = min(0.05, 2 * wait)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return code


def _readable(answer: int) -> bool:
    """Whether something was answered; a process that the child left behind may hold the pipe open."""
    return bool(select.select([answer], [], [], 0)[0])
