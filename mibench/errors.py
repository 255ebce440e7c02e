"""What goes wrong at the edges. Each message names what was wrong, where, and the mend, in one sentence."""

from __future__ import annotations

import contextlib
import difflib
import signal
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from types import FrameType

MAX_LETTERS = 500  # of a message or a reason
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of characters (bytes that are not UTF-8), separators of lines


def is_unprintable(letter: str) -> bool:
    """Whether a character would break a line, a terminal or an encoder."""
    return unicodedata.category(letter) in UNPRINTABLE


def one_line(text: str, most: int = MAX_LETTERS) -> str:
    """Text from anywhere as one line that can be printed and stored: escaped, and cut in its middle where too long."""
    if len(text) > 4 * most:  # nothing is worked out for what is cut
        text = text[: 2 * most] + text[-2 * most :]
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in _joined(text))
    tail = most // 3
    return line if len(line) <= most else f"{line[: most - tail - 3]} … {line[-tail:]}"


def _joined(text: str) -> str:
    """Lines and tabs as single spaces."""
    return " ".join(part for part in text.replace("\r", "\n").replace("\t", "\n").split("\n") if part) or text


def nearest(name: str, known: Iterable[str]) -> str:
    """The mend of a name that does not exist: those most like it, or all that there are."""
    every = sorted(known)
    near = difflib.get_close_matches(name, every, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(every) or 'none'}"


class MibenchError(Exception):
    """The base of our errors; the command line prints its message, one line, and exits with `code`."""

    code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


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


@contextlib.contextmanager
def interrupts_later() -> Iterator[None]:
    """Deliver interrupts at the end: raised in the middle of an import they may be lost, or leave a library broken."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    came: list[int] = []
    for number in ours:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for pending in came[:1]:
            signal.raise_signal(pending)


class NotWritten(RecordError):
    """The harness cannot write a file of the record, of the cache or of a board: the run ends."""


class Damaged(RecordError):
    """Something that was stored is not what was written; `key` is the cell that it belongs to, if it is a cell's."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


MENDS = {
    "libGL": "opencv, which quantus imports, wants libGL: install libgl1 (apt install libgl1 libglib2.0-0) "
    "or replace opencv by its headless wheel (pip uninstall opencv-python; pip install opencv-python-headless)",
    "libgthread": "opencv, which quantus imports, wants glib: apt install libglib2.0-0",
}


def mend(error: BaseException) -> str:
    """What went wrong, in one line, with the mend where we know it."""
    text = " ".join(str(error).split()) or "no message"
    for sign, advice in MENDS.items():
        if isinstance(error, ImportError | OSError) and sign in text:
            return f"{text}: {advice}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the Python package {error.name!r} is not installed"
    return f"{type(error).__name__}: {text}"
