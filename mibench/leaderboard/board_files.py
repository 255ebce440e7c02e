"""The files of a board: its table, how its metrics agree, and its page, each written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from mibench.errors import NotWritten
from mibench.files import writing

ENDINGS = (".csv", "-agreement.csv", ".html")


def put(path: Path, text: str) -> None:
    """Write a whole file or leave the old one, whatever happens half-way."""
    mend = "free the disk or name a folder that can be written"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror}; {mend}") from error
    writing.sweep(path.parent)
    writing.write(path, text.encode(), mend)
