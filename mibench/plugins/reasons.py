"""A reason is one printable line of at most MAX_LETTERS, whatever a plug-in's exception or library wrote."""

from __future__ import annotations

import traceback
from pathlib import Path

from mibench.errors import MibenchError, mend, one_line
from mibench.plugins.contract import Unsupported


def message(error: BaseException) -> str:
    """The message of an exception; its own `__str__` may fail."""
    try:
        return one_line(str(error))
    except BaseException as failure:  # a stranger's code
        return f"no message, for its __str__ raised {type(failure).__name__}"


def why(error: BaseException) -> str:
    """What an error was, and for errors that are not ours where it was raised."""
    if isinstance(error, Unsupported | MibenchError):
        return message(error) or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return one_line(kind(error)) + place


def kind(error: BaseException) -> str:
    """The kind of an exception with its message, and the mend where we know it."""
    try:
        return one_line(mend(error))
    except BaseException:  # a stranger's code
        return f"{type(error).__name__}: {message(error)}"
