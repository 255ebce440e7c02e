"""Attacks on what belongs to the user and not to the worker: the record's files and the run's other processes.

Nobody can stop them, for a plug-in runs as the user. What must hold is that no score is another number for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .sabotage import callers, own_file

Deed = Callable[[], object]


def record() -> Path:
    """The run's folder."""
    return Path(callers("job").setting.folder)


def database() -> sqlite3.Connection:
    return sqlite3.connect(record() / "results.sqlite", timeout=5.0)


def change_maps() -> None:
    """Flip a bit in the middle of every map that others have written so far."""
    mine = own_file()
    for file in mine.parent.glob("*.safetensors"):
        if file != mine:
            content = bytearray(file.read_bytes())
            content[-4] ^= 1
            file.write_bytes(content)


def swap_maps() -> None:
    """Give every map the place of the next one."""
    files = sorted(own_file().parent.glob("*.safetensors"))
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, contents[1:] + contents[:1], strict=True):
        file.write_bytes(content)


def change_scores() -> None:
    with contextlib.closing(database()) as connection, connection:
        connection.execute("UPDATE scores SET value = 1.0")


def change_outcomes() -> None:
    with contextlib.closing(database()) as connection, connection:
        connection.execute("UPDATE cells SET status = 'ok', reason = '' WHERE status != ''")
        connection.execute("UPDATE cells SET digest = 'f00' WHERE digest != ''")


def hold_database() -> None:
    HELD.append(database())
    HELD[-1].execute("BEGIN EXCLUSIVE")


HELD: list[sqlite3.Connection] = []


def overwrite_database() -> None:
    with open(record() / "results.sqlite", "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 5000)


def move_record() -> None:
    record().rename(record().with_name("moved"))


def lock_record() -> None:
    (record() / "maps").chmod(0)


def processes() -> Iterator[tuple[int, int]]:
    """Every process of this machine and its parent."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            yield (
                int(entry),
                int(Path("/proc", entry, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]),
            )


def fork_server() -> int:
    """The keeper's parent, unless that has adopted it from a fork server that was killed."""
    parent = dict(processes())[os.getppid()]
    assert b"multiprocessing.forkserver" in Path("/proc", str(parent), "cmdline").read_bytes()
    return parent


def kill_siblings() -> None:
    """Kill the other workers, and those who watch over them."""
    server = fork_server()
    for keeper in [process for process, parent in processes() if parent == server and process != os.getppid()]:
        for each in [process for process, parent in processes() if parent == keeper] + [keeper]:
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)


ATTACKS: Mapping[str, Deed] = {
    "changemaps": change_maps,
    "swapmaps": swap_maps,
    "changescores": change_scores,
    "changeoutcomes": change_outcomes,
    "holddb": hold_database,
    "overwritedb": overwrite_database,
    "moverecord": move_record,
    "lockrecord": lock_record,
    "killsiblings": kill_siblings,
    "killforkserver": lambda: os.kill(fork_server(), signal.SIGKILL),
}
