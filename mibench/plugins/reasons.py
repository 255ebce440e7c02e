"""A reason is one printable line of at most MAX_LETTERS, whatever a plug-in's exception or library wrote."""

from __future__ import annotations

import traceback
from pathlib import Path

from mibench.errors import MibenchError, mend
from mibench.plugins.contract import Unsupported

MAX_LETTERS = 500
CUT = " … (cut)"
MAX_READ = 20 * MAX_LETTERS  # letters that are looked at: a text of 10 MB need not be split into words


def line(text: str) -> str:
    """Any text as one line of printable letters, cut with a mark where it is longer than MAX_LETTERS."""
    words = " ".join(text[:MAX_READ].split())
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
    if len(plain) <= MAX_LETTERS and len(text) <= MAX_READ:
        return plain
    return plain[: MAX_LETTERS - len(CUT)] + CUT


def message(error: BaseException) -> str:
    """The message of an exception; its own `__str__` may fail."""
    try:
        return line(str(error))
    except BaseException as failure:  # a stranger's code
        return f"no message, for its __str__ raised {type(failure).__name__}"


def why(error: BaseException) -> str:
    """What an error was, and for errors that are not ours where it was raised."""
    if isinstance(error, Unsupported | MibenchError):
        return message(error) or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return line(kind(error)) + place


def kind(error: BaseException) -> str:
    """The kind of an exception with its message, and the mend where we know it."""
    try:
        return line(mend(error))
    except BaseException:  # a stranger's code
        return f"{type(error).__name__}: {message(error)}"
