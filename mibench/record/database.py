"""The record's database: its tables, a checksum for every row, and what to do with a file that is damaged.

SQLite notices damage to its own structure, and none to the numbers in it: so each row carries a checksum over its
values. The journal is a plain rollback journal: it works on network file systems, where write-ahead logs do not.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mibench.errors import Damaged, RecordError

NAME = "results.sqlite"
SCHEMA = """
CREATE TABLE cells (
    key TEXT PRIMARY KEY, stage TEXT, task TEXT, method TEXT, metric TEXT, seed INTEGER, variant TEXT,
    start INTEGER, stop INTEGER,
    identity TEXT,  -- checksum of what precedes
    planned INTEGER,  -- place in the plan, 0 for cells that are no longer in it
    status TEXT DEFAULT '', reason TEXT DEFAULT '', seconds REAL DEFAULT 0, log TEXT DEFAULT '',
    facts TEXT DEFAULT '{}', digest TEXT DEFAULT '', size INTEGER DEFAULT 0,  -- of the cell's file
    scores TEXT DEFAULT '',  -- checksum of its rows in the table scores
    checksum TEXT DEFAULT ''  -- of the key and of all from status to scores
) WITHOUT ROWID;
CREATE TABLE scores (
    key TEXT, sample INTEGER, value REAL, reason TEXT, PRIMARY KEY (key, sample)
) WITHOUT ROWID;
CREATE TABLE samples (
    task TEXT, sample INTEGER, id TEXT, label TEXT, target TEXT, PRIMARY KEY (task, sample)
) WITHOUT ROWID;
CREATE TABLE checks (  -- of files that belong to no cell, of the plan, and of each task's samples
    name TEXT PRIMARY KEY, digest TEXT, size INTEGER, checksum TEXT
) WITHOUT ROWID;
"""
VERSION = 2  # of the schema
PATIENCE = 30.0  # seconds to wait for a reader to finish
TABLES = {"cells": "key", "scores": "key, sample", "samples": "task, sample", "checks": "name"}  # and their keys
SAMPLES = "samples of "  # how the name begins under which the checksum of a task's samples is kept
OUTCOME = ("status", "reason", "seconds", "log", "facts", "digest", "size", "scores")


def checksum(*parts: Any) -> str:
    """Of values as SQLite gives them back."""
    return hashlib.blake2b(json.dumps(parts, default=repr).encode(), digest_size=8).hexdigest()


def opened(folder: Path, *, write: bool) -> sqlite3.Connection:
    """The database of a record, made where there is none yet. A damaged one is refused, never taken for a new one.

    Whoever only reads opens it for writing too where that is allowed, for a commit in which a run was killed has to be
    undone before anything can be read.
    """
    file = folder / NAME
    allowed = os.access(folder, os.W_OK) and (not file.exists() or os.access(file, os.W_OK))
    database = _connected(file, "rwc" if write else "rw" if allowed else "ro")
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            _refuse_emptied(file, write=write)
            database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise RecordError(
                f"{file} was written by another version of mibench (schema {version}); run again into another folder"
            )
        if faults := _faults(database, "quick_check"):
            raise damaged(file, faults[0])
        if _schema(database) != _written_schema():
            raise damaged(file, "its tables are not those that were made")
        if not write:
            database.execute("PRAGMA query_only = ON")
    except sqlite3.OperationalError as error:
        database.close()
        if not allowed and _has_journal(file):
            raise RecordError(
                f"{file} holds a commit in which a run was killed, and {folder} cannot be written to undo it: "
                "copy the folder to a place that can be written, and read it there"
            ) from error
        raise
    except sqlite3.DatabaseError as error:
        database.close()
        raise damaged(file, str(error)) from error
    except BaseException:
        database.close()
        raise
    return database


def integrity(database: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds wrong."""
    return _faults(database, "integrity_check")


def damaged(file: Path, why: str) -> Damaged:
    """The refusal of a database that SQLite cannot read."""
    line = " ".join(why.split())[:200]
    return Damaged(
        f"{file} is damaged ({line}): `mibench doctor {file.parent} --mend` moves it aside and keeps every row "
        "that still matches its checksum"
    )


Rows = dict[str, list[tuple[Any, ...]]]  # of each table


def salvage(folder: Path) -> tuple[Path, int, int]:
    """Move a damaged database aside and copy what is sound to a new one: where it is now, cells kept, cells dropped."""
    file = folder / NAME
    number = 1
    while (aside := folder / f"{NAME}.damaged-{number}").exists():
        number += 1
    found = {table: _readable(file, table, key) for table, key in TABLES.items()}
    os.replace(file, aside)
    if (journal := file.with_name(f"{NAME}-journal")).exists():
        os.replace(journal, aside.with_name(f"{aside.name}-journal"))
    rows, dropped = sound(found)
    with contextlib.closing(_connected(file, "rwc")) as database:
        database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        with database:
            replace(database, rows)
    return aside, len(rows["cells"]), len(dropped)


def sound(found: Rows) -> tuple[Rows, list[tuple[Any, ...]]]:
    """The rows that are as they were written, and the other rows of the table cells."""
    scores = {key: [list(row[1:]) for row in group] for key, group in _by_first(found["scores"])}
    samples = {task: [row[2:] for row in group] for task, group in _by_first(found["samples"])}
    cells = [row for row in found["cells"] if is_sound(row) and row[18] == scores_sum(scores.get(row[0], []))]
    checks = [row for row in found["checks"] if row[3] == checksum(*row[:3])]
    digests = {row[0]: row[1] for row in checks}
    kept, whole = (
        {row[0] for row in cells},
        {task for task in samples if digests.get(SAMPLES + task) == checksum(samples[task])},
    )
    rows = {
        "cells": cells,
        "scores": [row for row in found["scores"] if row[0] in kept],
        "samples": [row for row in found["samples"] if row[0] in whole],
        "checks": checks,
    }
    return rows, [row for row in found["cells"] if row[0] not in kept]


def replace(database: sqlite3.Connection, rows: Rows) -> None:
    """Write whole tables again, for a row whose key is damaged is in the wrong place and hides others."""
    for table, found in rows.items():
        database.execute(f"DELETE FROM {table}")
        if found:
            holes = ", ".join("?" * len(found[0]))
            database.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({holes})", found)


def every_row(database: sqlite3.Connection) -> Rows:
    """All that the tables hold."""
    return {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}


def is_sound(row: Sequence[Any]) -> bool:
    """Whether a row of the table cells is as it was written."""
    return bool(row[9] == checksum(*row[:9]) and row[19] == checksum(row[0], *row[11:19]))


def scores_sum(rows: Sequence[Sequence[Any]]) -> str:
    """The checksum over a cell's scores (sample, value, reason); empty where there are none."""
    return checksum(*rows) if rows else ""


def _by_first(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, Iterator[tuple[Any, ...]]]]:
    ordered = sorted(rows, key=lambda row: (str(row[0]), str(row[1]).zfill(20)))
    return itertools.groupby(ordered, key=lambda row: row[0])


def _connected(file: Path, mode: str) -> sqlite3.Connection:
    database = sqlite3.connect(f"{file.resolve().as_uri()}?mode={mode}", uri=True, timeout=PATIENCE)
    database.text_factory = lambda text: text.decode("utf-8", "surrogateescape")  # damage is for checksums to find
    if mode == "rwc":
        database.execute("PRAGMA journal_mode = TRUNCATE")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA cell_size_check = ON")
    return database


def _refuse_emptied(file: Path, *, write: bool) -> None:
    """Refuse a file without tables, unless it is that of a record in which nothing was kept yet."""
    kept = any((file.parent / "maps").glob("*.safetensors")) or (file.parent / "run.json").exists()
    if kept or file.stat().st_size:
        raise damaged(file, f"it has {file.stat().st_size} bytes and holds no record")
    if not write:
        raise RecordError(f"{file} holds no record; the same run again makes one")


def _faults(database: sqlite3.Connection, check: str) -> list[str]:
    return [line for (line,) in database.execute(f"PRAGMA {check}(20)") if line != "ok"]


def _schema(database: sqlite3.Connection) -> list[Any]:
    return database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


@functools.cache
def _written_schema() -> list[Any]:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.executescript(SCHEMA)
        return _schema(database)


def _has_journal(file: Path) -> bool:
    journal = file.with_name(f"{file.name}-journal")
    return journal.exists() and journal.stat().st_size > 0


def _readable(file: Path, table: str, key: str) -> list[tuple[Any, ...]]:
    """The rows of a table that can be read, from its beginning and from its end."""
    found: dict[tuple[Any, ...], None] = {}
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_connected(file, "rw")) as database:
            columns = ", ".join(f"{column} {order}" for column in key.split(", "))
            for row in _until_damage(database, f"SELECT * FROM {table} ORDER BY {columns}"):
                found[row] = None
    keys = len(key.split(", "))
    return list({row[:keys]: row for row in found}.values())


def _until_damage(database: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    with contextlib.suppress(sqlite3.Error):
        yield from database.execute(query)
