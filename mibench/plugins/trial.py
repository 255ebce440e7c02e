"""A stranger's module is imported in a child process alone: one that ends, stops or hangs that process is set aside.

Importing runs a module's code. What the child does not survive would have ended the run, perhaps with exit code 0, and
what it changes in its process (a patched function, a seed) would have reached every other method's scores.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import IO

from mibench.plugins import reasons

LIMIT = 60.0  # seconds that an import may take
ANSWERED, RAISED = b"+", b"-"  # how what the child wrote begins
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def ask(work: Callable[[], bytes], limit: float = LIMIT) -> tuple[bytes, str]:
    """What some work answers in a child process, or why it does not; where processes cannot fork it is done here."""
    if not hasattr(os, "fork"):
        return work(), ""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as answer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: the child only imports
            child = os.fork()
        if child == 0:
            _work_and_leave(work, answer)
        code = _ended(child, limit)
        answer.seek(0)
        content = answer.read()
    if content.startswith(ANSWERED):
        return content[1:], ""
    if content.startswith(RAISED):
        return b"", content[1:].decode("utf-8", "replace")
    if code is None:
        return b"", f"its import did not end within {limit:g} s"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return b"", f"its import ended the process ({how})"


def _work_and_leave(work: Callable[[], bytes], answer: IO[bytes]) -> None:
    """The child: work, answer, and leave without running anything that was registered for the end."""
    content = RAISED + b"it raised an error"
    try:
        os.setsid()
        with contextlib.suppress(OSError, AttributeError):  # not Linux
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        faulthandler.disable()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        content = ANSWERED + work()
    except BaseException as error:  # whatever a stranger's module raises
        content = RAISED + reasons.kind(error).encode("utf-8", "replace")
    finally:
        with contextlib.suppress(BaseException):
            answer.write(content)
            answer.flush()
        os._exit(0)


def _ended(child: int, limit: float) -> int | None:
    """How a child ended, with all that it started; None if it was stopped at the limit."""
    deadline, wait = time.monotonic() + limit, 0.001
    code: int | None = None
    try:
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                break
            time.sleep(wait)
            wait = min(0.05, 2 * wait)
    finally:  # an interrupt, too
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        if code is None:
            with contextlib.suppress(ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    return code
