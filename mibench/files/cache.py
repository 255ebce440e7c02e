"""The user's cache: a folder for what costs time to make and can be made again. A cache that cannot be used is none."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mibench.errors import NotWritten
from mibench.files import writing

COARSE = 10**9  # nanoseconds: the clock of some file systems
FINE = 10**8  # … and of others at most


def folder() -> Path:
    """Where it is."""
    return Path(os.environ.get("MIBENCH_CACHE") or Path.home() / ".cache" / "mibench")


def read(name: str) -> bytes:
    """A file of the cache; empty where there is none that can be read."""
    try:
        return (folder() / name).read_bytes()
    except OSError:
        return b""


def write(name: str, content: bytes) -> None:
    """Keep a file if the cache can be written."""
    path = folder() / name
    with contextlib.suppress(NotWritten, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        writing.write(path, content)


def settled(changed: int, now: int) -> bool:
    """Whether a file that was changed at a time (both in nanoseconds) cannot be changed again without showing another.

    File systems count time in steps: within the same step a second change of the same length goes unseen.
    """
    return now - changed > (2 * COARSE if changed % COARSE == 0 else FINE)
