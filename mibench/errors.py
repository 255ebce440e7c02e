"""What goes wrong at the edges. Each message names what was wrong, where, and the mend, in one sentence."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class MibenchError(Exception):
    """The mother of our errors; the command line prints its message and exits with `code`."""

    code = 2


class UsageError(MibenchError):
    """A wrong name, parameter or combination on the command line or in a suite."""


class DataError(MibenchError):
    """Samples that cannot be used: an empty folder, an unreadable image, a label outside the classes."""


class ModelError(MibenchError):
    """A network or weights that cannot be used: NaN weights, a pickle with code, a layer that is not there."""


class RecordError(MibenchError):
    """A run folder that cannot be written or is in use."""


class Interrupted(KeyboardInterrupt):
    """The user's own Ctrl-C, which a KeyboardInterrupt that a plug-in raises is not."""


@contextlib.contextmanager
def interrupts_told_apart() -> Iterator[None]:
    """While plug-ins run in the process that the user may interrupt, raise `Interrupted` for Ctrl-C."""
    here = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if here else None
    if not callable(before):  # ignored, or not ours to handle
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
