"""The record of a run: a folder with run.json, suite.toml, results.sqlite, maps/ and logs/, written by one process.

SQLite keeps one row a cell and one a sample's score. Each outcome is committed whole, so a run that is killed has lost
nothing but what was being computed. The journal is a plain rollback journal: it works on network file systems, where
write-ahead logs do not. Cells that are no longer planned stay for later use, and are never shown.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from mibench import maps
from mibench.about import About
from mibench.errors import RecordError, UsageError
from mibench.jobs import Cell, Outcome

SCHEMA = """
CREATE TABLE IF NOT EXISTS cells (
    key TEXT PRIMARY KEY, stage TEXT, task TEXT, method TEXT, metric TEXT, seed INTEGER, variant TEXT,
    start INTEGER, stop INTEGER, planned INTEGER,  -- place in the plan, 0 for cells that are no longer in it
    status TEXT DEFAULT '', reason TEXT DEFAULT '', seconds REAL DEFAULT 0, log TEXT DEFAULT '', facts TEXT DEFAULT '{}'
);
CREATE TABLE IF NOT EXISTS scores (
    key TEXT, sample INTEGER, value REAL, reason TEXT, PRIMARY KEY (key, sample)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
    task TEXT, sample INTEGER, id TEXT, label TEXT, target TEXT, PRIMARY KEY (task, sample)
) WITHOUT ROWID;
"""
VERSION = 1  # of the schema
BEGUN = {"lock", "maps", "logs", "results.sqlite-journal"}  # what a record is before it has a database
HALVES = ("maps/*.part", "logs/*.part", ".run.json.part", ".suite.toml.part", "leaderboard*.part")
PATIENCE = 30.0  # seconds to wait for a reader to finish


@dataclass(frozen=True)
class Recorded:
    """A planned cell and what became of it; status is empty while nothing has."""

    key: str
    stage: str
    task: str
    method: str
    metric: str
    seed: int
    variant: str
    start: int
    stop: int
    status: str
    reason: str
    seconds: float
    log: str
    facts: dict[str, Any]


class Store:
    """A run's folder. Opened for writing it is locked: a second run in the same folder is refused."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.folder = folder
        self._write, self._made = write, False
        self._lock: int | None = None
        if not write and not (folder / "results.sqlite").exists():
            raise UsageError(f"{folder} is not the folder of a run: it has no results.sqlite")
        with self._told():
            if write:
                self._made = not folder.exists()
                folder.mkdir(parents=True, exist_ok=True)
                _refuse_foreign(folder)
                self._lock = _locked(folder / "lock")
                for part in ("maps", "logs"):
                    (folder / part).mkdir(exist_ok=True)
                for half in (half for halves in HALVES for half in folder.glob(halves)):
                    half.unlink()  # left by a run that was killed while it wrote
            self._database = _opened(folder / "results.sqlite", write)

    def close(self) -> None:
        """Let go of the folder."""
        self._database.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._made and not (self.folder / "run.json").exists():
            self._withdraw()
        self.close()

    def _withdraw(self) -> None:
        """Leave no folder behind where nothing was recorded and no map or log is kept."""
        with contextlib.suppress(OSError):
            for log in (self.folder / "logs").iterdir():
                if log.stat().st_size == 0:  # of a job that was stopped
                    log.unlink()
            for part in ("maps", "logs"):
                (self.folder / part).rmdir()
            for name in ("results.sqlite", "results.sqlite-journal", "lock"):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def write_text(self, name: str, text: str) -> None:
        """Put a file into the folder, whole or not at all."""
        with self._told():
            beside = self.folder / f".{name}.part"
            beside.write_text(text, "utf-8")
            os.replace(beside, self.folder / name)

    def about(self) -> About:
        """What the run was, of run.json."""
        return About.read_file(self.folder / "run.json", "run the suite again, which writes it")

    def plan(self, cells: Iterable[Cell]) -> None:
        """Make these cells the ones that are shown; what is known of them already holds."""
        columns = [each.name for each in fields(Cell) if each.name != "needs"]
        holes = ", ".join("?" * len(columns))
        rows = [(*(getattr(cell, column) for column in columns), place) for place, cell in enumerate(cells, 1)]
        with self._transaction() as database:
            database.execute("UPDATE cells SET planned = 0")
            database.executemany(
                f"INSERT INTO cells ({', '.join(columns)}, planned) VALUES ({holes}, ?) "
                "ON CONFLICT (key) DO UPDATE SET planned = excluded.planned",
                rows,
            )

    def known(self) -> dict[str, Outcome]:
        """The outcomes that still hold, by key: maps whose file is gone or damaged count as never computed."""
        query = "SELECT key, stage, status, reason FROM cells WHERE status != ''"
        return {
            key: Outcome(key, status, reason)
            for key, stage, status, reason in self._rows(query)
            if stage not in ("fit", "explain") or status not in ("ok", "nan") or maps.whole(maps.path(self.folder, key))
        }

    def record(self, outcomes: Sequence[Outcome], log: str) -> None:
        """Keep what became of cells, all of it or nothing."""
        kept = log if (self.folder / "logs" / log).exists() else ""
        with self._transaction() as database:
            for outcome in outcomes:
                database.execute(
                    "UPDATE cells SET status = ?, reason = ?, seconds = ?, facts = ?, log = ? WHERE key = ?",
                    (
                        outcome.status,
                        outcome.reason,
                        outcome.seconds,
                        json.dumps(dict(outcome.facts)),
                        kept,
                        outcome.key,
                    ),
                )
                database.execute("DELETE FROM scores WHERE key = ?", (outcome.key,))
                database.executemany(
                    "INSERT INTO scores VALUES (?, ?, ?, ?)",
                    [
                        (outcome.key, sample, None if value != value else value, reason)
                        for sample, (value, reason) in enumerate(zip(outcome.scores, outcome.reasons, strict=True))
                    ],
                )

    def record_samples(self, task: str, rows: Iterable[tuple[str, str, str]]) -> None:
        """Keep the id, label and explained class of a task's samples."""
        with self._transaction() as database:
            database.execute("DELETE FROM samples WHERE task = ?", (task,))
            database.executemany(
                "INSERT INTO samples VALUES (?, ?, ?, ?, ?)", [(task, n, *row) for n, row in enumerate(rows)]
            )

    def cells(self, stage: str = "") -> list[Recorded]:
        """The planned cells in the order of the plan."""
        columns = [each.name for each in fields(Recorded)]
        query = f"SELECT {', '.join(columns)} FROM cells WHERE planned AND (? = '' OR stage = ?) ORDER BY planned"
        rows = [dict(zip(columns, row, strict=True)) for row in self._rows(query, (stage, stage))]
        return [Recorded(**row | {"facts": json.loads(row["facts"])}) for row in rows]

    def scores(self) -> pd.DataFrame:
        """Every sample's score of the planned cells: task, method, metric, seed, sample, value, reason."""
        query = """
            SELECT cells.task, method, metric, seed, samples.id, value, scores.reason
            FROM cells JOIN scores USING (key)
            JOIN samples ON samples.task = cells.task AND samples.sample = scores.sample
            WHERE planned AND stage = 'score' ORDER BY planned, scores.sample
        """
        columns = ["task", "method", "metric", "seed", "sample", "value", "reason"]
        return pd.DataFrame(self._rows(query), columns=columns).astype({"value": "float64"})

    def samples(self, task: str) -> list[tuple[str, str, str]]:
        """The id, label and explained class of a task's samples, in order."""
        return self._rows("SELECT id, label, target FROM samples WHERE task = ? ORDER BY sample", (task,))

    def seconds(self) -> dict[tuple[str, str, str], float]:
        """How long cells took: the mean by stage, method and metric, of whatever was computed here, planned or not."""
        query = (
            "SELECT stage, method, metric, avg(seconds) FROM cells WHERE status != '' GROUP BY stage, method, metric"
        )
        return {(stage, method, metric): seconds for stage, method, metric, seconds in self._rows(query)}

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._told():
            return self._database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told(), self._database:
            yield self._database

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one line that the folder cannot be written or read."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            what = (error.strerror if isinstance(error, OSError) else None) or str(error)
            done = f"kept: {what}; what was recorded before is intact" if self._write else f"read: {what}"
            raise RecordError(f"the record in {self.folder} cannot be {done}") from error


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder in which there is something, but no record, not even one that was begun."""
    there = set(os.listdir(folder))
    begun = "lock" in there and there <= BEGUN
    if there and "results.sqlite" not in there and not begun:
        raise UsageError(f"{folder} is not empty, and holds no run (results.sqlite): name a new folder or an empty one")


def _locked(file: Path) -> int:
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


def _opened(file: Path, write: bool) -> sqlite3.Connection:
    mode = "rwc" if write else "ro"
    database = sqlite3.connect(f"{file.resolve().as_uri()}?mode={mode}", uri=True, timeout=PATIENCE)
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found == 0 and not write:
        raise RecordError(f"{file} holds no record; the same run again makes one")
    if found not in (0, VERSION):
        raise RecordError(
            f"{file} was written by another version of mibench (schema {found}); run again into another folder"
        )
    if write:
        database.execute("PRAGMA journal_mode = TRUNCATE")
        database.executescript(SCHEMA)
        database.execute(f"PRAGMA user_version = {VERSION}")
    return database
