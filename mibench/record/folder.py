"""The folder of a record: held by one process, refused where it holds something else, and tried for room."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mibench.errors import RecordError, UsageError

ENOUGH = 2**20  # bytes that a record must have room for
BEGUN = {"lock", "maps", "logs", "results.sqlite-journal"}  # what a record is before it has a database
TEXTS = ("run.json", "suite.toml", "tasks.json", "overview.json", "verified.json", "leaderboard")
HALVES = ("maps/*.part", "logs/*.part", *(f".{name}*.part" for name in TEXTS))


def laid_out(folder: Path) -> None:
    """Make the folders of maps and logs; remove what a run left that was killed while it wrote."""
    for part in ("maps", "logs"):
        (folder / part).mkdir(exist_ok=True)
    for half in (half for halves in HALVES for half in folder.glob(halves)):
        half.unlink()


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder in which there is something, but no record, not even one that was begun."""
    there = set(os.listdir(folder))
    begun = "lock" in there and there <= BEGUN
    if there and "results.sqlite" not in there and not begun:
        raise UsageError(f"{folder} is not empty, and holds no run (results.sqlite): name a new folder or an empty one")


def withdraw(folder: Path) -> None:
    """Leave no folder behind where nothing was recorded and no map or log is kept."""
    with contextlib.suppress(OSError):
        for log in (folder / "logs").iterdir():
            if log.stat().st_size == 0:  # of a job that was stopped
                log.unlink()
        for part in ("maps", "logs"):
            (folder / part).rmdir()
        for name in ("results.sqlite", "results.sqlite-journal", "lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def sizes(folder: Path) -> dict[str, int]:
    """The files of a folder and how long they are."""
    with os.scandir(folder) as found:
        return {each.name: each.stat().st_size for each in found}


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep runs out of a folder meanwhile."""
    handle = locked(folder / "lock")
    try:
        yield
    finally:
        os.close(handle)


def locked(file: Path) -> int:
    """Hold the folder's lock until the process ends, however it ends."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise RecordError(f"another run (process {holder}) is at work in {file.parent}; wait for it") from error
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def writable(folder: Path) -> bool:
    """Whether a record has room: tried, because a plug-in may raise the same error as a full disk."""
    try:
        with tempfile.TemporaryFile(dir=folder / "maps") as file:
            file.write(bytes(ENOUGH))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True
