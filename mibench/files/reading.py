"""Files that came from outside: regular ones alone, of a bounded size, with names that can be printed and stored.

A named pipe would wait for ever, a device never ends, and a folder is not a file: each is refused before it is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from mibench.errors import MibenchError, UsageError, is_unprintable

MIB = 2**20
MAX_TEXT = 64 * MIB  # bytes of a record's or a board's own text files
MAX_NAME = 150  # letters of a file name that is made from other names; file systems allow 255 bytes
NOT_PLAIN = re.compile(r"[^A-Za-z0-9._,=+@\[\]-]")


_listening: list[list[Path]] = []


@contextlib.contextmanager
def noting() -> Iterator[list[Path]]:
    """The files of weights that are read meanwhile."""
    files: list[Path] = []
    _listening.append(files)
    try:
        yield files
    finally:
        _listening.remove(files)


def note(path: Path) -> None:
    """Notify listeners that a file's content affects what is computed."""
    for files in _listening:
        files.append(path)


def check_file(path: Path, most: int, error: type[MibenchError] = UsageError) -> None:
    """Refuse what is not a regular file (or a link to one), is larger than `most` bytes, or has an unusable name."""
    check_name(path, error)
    try:
        found = path.stat()
    except FileNotFoundError as fault:
        raise error(f"{path} does not exist: give the path of a file") from fault
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else str(fault)
        raise error(f"{path} cannot be read: {why}; give the path of a file") from fault
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path} is {_kind(found.st_mode)}, not a regular file: give the path of a file")
    if found.st_size > most:
        raise error(f"{path} has {found.st_size:,} bytes, more than the {most:,} that are read: give a smaller file")


def check_name(path: Path, error: type[MibenchError] = UsageError) -> None:
    """Refuse a name that is not UTF-8 or holds control characters: it could be neither stored nor printed."""
    if any(map(is_unprintable, str(path))):
        raise error(f"the name {os.fspath(path)!r} is not UTF-8 or has control characters: rename it")


def read_bytes(path: Path, most: int = MAX_TEXT, error: type[MibenchError] = UsageError) -> bytes:
    """The content of a checked file; of one that grows meanwhile, no more than `most` bytes."""
    check_file(path, most, error)
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as fault:
        raise error(f"{path} cannot be read: {fault.strerror}; give a file that can be") from fault


def read_text(path: Path, most: int = MAX_TEXT, error: type[MibenchError] = UsageError) -> str:
    """The content of a checked file as UTF-8, with any newlines as one kind."""
    try:
        text = read_bytes(path, most, error).decode("utf-8")
    except UnicodeDecodeError as fault:
        raise error(f"{path} is not UTF-8 text: {fault}; save it as UTF-8") from fault
    return text.replace("\r\n", "\n").replace("\r", "\n")


def file_name(*parts: str) -> str:
    """A file name, without its ending, made from names of suites, tasks, methods or samples.

    It stays in its folder (no separator, no leading dot) and is short; a hash keeps apart what was cut.
    """
    text = "-".join(parts)
    name = NOT_PLAIN.sub("-", text).lstrip(".") or "-"
    if len(name) > MAX_NAME:
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]
        name = f"{name[: MAX_NAME - len(digest) - 1]}-{digest}"
    return name


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
