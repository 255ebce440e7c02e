"""What a run found when it opened its tasks, kept so that the next run need not open them where nothing has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mibench.files import cache
from mibench.record.cells import Prepared, TaskSpec
from mibench.record.stored import Digest, Line, Name, Part, Stored

FILE = "tasks.json"
MEND = "run the suite again, which writes it"
MAX_FILES = 200_000  # of a folder of pictures that are looked at
UNSURE = ""  # the state of files that may have been changed since they were read


class KeptTask(Part):
    """A task, and what it was opened from."""

    spec: TaskSpec
    code: Digest  # of all that opens a task
    device: Line  # its kind
    precision: Line
    files: dict[Name, Line]  # path, or name in the cache -> state
    prepared: Prepared

    @property
    def sure(self) -> bool:
        """Whether a change to any of the files would show."""
        return UNSURE not in self.files.values()


class KeptTasks(Stored):
    """All that the file holds."""

    schema_number: Literal[1] = 1
    tasks: tuple[KeptTask, ...]


def state(name: str, read: int) -> str:
    """Times and sizes of a file, or of all in a folder; UNSURE where one may have changed since it was read."""
    found: list[tuple[str, int, int]] = []
    try:
        for path, entry in _under(cache.folder() / name):
            if not cache.settled(entry.st_mtime_ns, read) or len(found) > MAX_FILES:
                return UNSURE
            found.append((path, entry.st_mtime_ns, entry.st_size))
    except (OSError, ValueError):
        return UNSURE
    return hashlib.sha256(repr(sorted(found)).encode("utf-8", "backslashreplace")).hexdigest()[:24]


def _under(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """A file, or all files of a folder."""
    if not path.is_dir():
        yield "", path.stat()
        return
    for folder, folders, names in os.walk(path, onerror=_raise, followlinks=True):
        for name in [*folders, *names]:
            yield os.path.join(folder, name), os.stat(os.path.join(folder, name))


def _raise(error: OSError) -> None:
    raise error
