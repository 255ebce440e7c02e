"""Files of the record, of the cache and of boards: written whole or not at all, and read with their SHA-256.

A file is written as a draft next to its place, synced, and moved there; then its folder is synced, so that it is there
after a power cut too. What is read is hashed and parsed from the same bytes: nothing is read from the disk twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from mibench.errors import Damaged, NotWritten

DRAFT = ".part"  # how the names of drafts end
MAX_DRAFT_AGE = 86_400.0  # seconds: writing takes less, so an older draft has no owner, on whatever machine
MEND = "free the disk or make its folder writable; the same command goes on from here"

Content = bytes | memoryview


def sha256(content: Content) -> str:
    """The digest by which a file is known."""
    return hashlib.sha256(content).hexdigest()


def write(path: Path, content: Content, mend: str = MEND) -> str:
    """Write a file whole, or leave the one that is there; the SHA-256 of what was written."""
    draft = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{DRAFT}")
    try:
        try:
            with open(draft, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
            _sync(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror or error}; {mend}") from error
    return sha256(content)


def _sync(folder: Path) -> None:
    """Make a new name in a folder last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path, digest: str, key: str = "") -> bytes:
    """The bytes of a file whose SHA-256 is known; `key` names the cell that it belongs to."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Damaged(f"{path} is damaged: it is not a regular file; the same run makes it again", key)
            content = file.read()
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or error or "it does not fit into memory"
        raise Damaged(f"{path} cannot be read: {why}; the same run makes it again", key) from error
    if sha256(content) != digest:
        raise Damaged(f"{path} is damaged: its SHA-256 is not the recorded one; the same run makes it again", key)
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a named pipe that has taken its place does not wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def fault(path: Path, digest: str, size: int | None = None) -> str:
    """Why a file is not the one that was written, or an empty string."""
    try:
        if size is not None and (found := path.stat().st_size) != size:
            return f"has {found} bytes instead of {size}"
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return "is not a regular file"
            found_digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "" if found_digest == digest else "does not have the recorded SHA-256"


def sweep(folder: Path) -> None:
    """Remove the drafts of processes that were killed: on this machine by their number, on others by their age."""
    for draft in _drafts(folder):
        with contextlib.suppress(OSError):  # another process was faster, or it belongs to somebody else
            if _abandoned(draft):
                draft.unlink()


def _drafts(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from folder.glob(f".*{DRAFT}")


def _abandoned(draft: Path) -> bool:
    """Whether no process can be writing a draft any more."""
    host, _, number = draft.name.rpartition("-")[0].rpartition("-")
    if host.endswith(f".{socket.gethostname()}") and number.isdigit() and not _alive(int(number)):
        return True
    return time.time() - draft.stat().st_mtime > MAX_DRAFT_AGE


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is somebody else's
    return True
