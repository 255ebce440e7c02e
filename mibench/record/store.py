"""The record of a run: a folder with run.json, suite.toml, results.sqlite, maps/ and logs/, written by one process.

SQLite keeps one row a cell and one a sample's score. Each outcome is committed whole, so a run that is killed
loses only what was being computed. Cells that are no longer planned stay for later use, and are never shown. Every
file has its SHA-256 here and every row its checksum, and both are compared before anything that was read is used.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from mibench.errors import Damaged, NotWritten, RecordError, UsageError
from mibench.files import writing
from mibench.files.reading import MIB, check_file
from mibench.record import database, maps
from mibench.record.about import About
from mibench.record.cells import USABLE, Cell, Outcome
from mibench.record.database import OUTCOME, SAMPLES, checksum, scores_sum
from mibench.record.folder import laid_out, locked, refuse_foreign, sizes, withdraw

if TYPE_CHECKING:  # slow to import, and only scores are wanted as a table
    import pandas as pd

PLAN = "plan"  # the name under which the plan's checksum is kept
IDENTITY = tuple(each.name for each in fields(Cell) if each.name != "needs")
UNDONE = ("", "", 0.0, "", "{}", "", 0, "")  # the columns of OUTCOME for a cell that was not computed
FILED = ("fit", "explain")  # the stages that leave a file
MAX_FILE = 512 * MIB  # bytes of a file of text
AGAIN = "the same run makes it again"


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
    digest: str  # SHA-256 of its file; empty where it has none
    scores: str  # checksum of its scores; empty where it has none


class Store:
    """A run's folder. Opened for writing it is locked: a second run in the same folder is refused."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.folder = folder
        self._write, self._made = write, False
        self._lock: int | None = None
        self._seen: tuple[tuple[int, int], list[Recorded]] | None = None  # planned cells, as of a state of the database
        if not write and not (folder / database.NAME).exists():
            raise UsageError(f"{folder} is not the folder of a run: it has no {database.NAME}")
        with self._told():
            if write:
                self._made = not folder.exists()
                folder.mkdir(parents=True, exist_ok=True)
                refuse_foreign(folder)
                self._lock = locked(folder / "lock")
            try:
                if write:
                    laid_out(folder)
                self._database = database.opened(folder, write=write)
            except BaseException:
                self._unlock()
                raise

    def close(self) -> None:
        """Let go of the folder."""
        self._database.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._made and not (self.folder / "run.json").exists():
            withdraw(self.folder)
        self.close()

    def write_text(self, name: str, text: str) -> None:
        """Put a file into the folder, whole or not at all, and keep its SHA-256."""
        content = text.encode()
        self._check(name, writing.write(self.folder / name, content), len(content))

    def adopt(self, names: Iterable[str], digests: Mapping[str, str] = MappingProxyType({})) -> None:
        """Keep the SHA-256 of files in the folder that others have written."""
        for name in names:
            file = self.folder / name
            with self._told():
                size = file.stat().st_size
                digest = digests.get(name) or writing.sha256(file.read_bytes())
            self._check(name, digest, size)

    def read_text(self, name: str) -> str:
        """A file of the folder, if it is as it was written."""
        if not (self.folder / name).exists():
            raise UsageError(f"{self.folder / name} cannot be read: it does not exist; {AGAIN}")
        check_file(self.folder / name, MAX_FILE)
        try:
            return writing.read(self.folder / name, self.digest(name)).decode()
        except Damaged as error:
            if error.__cause__ is not None:
                raise  # it could not be read at all
            raise Damaged(
                f"{self.folder / name} was changed after the run wrote it, or the run was killed while it did "
                "(its SHA-256 is not the recorded one); run again to write it again"
            ) from error

    def digest(self, name: str) -> str:
        """The SHA-256 that a file of the folder must have; empty where none is recorded."""
        return self.checks().get(name, ("", 0))[0]

    def checks(self) -> dict[str, tuple[str, int]]:
        """Digest and size of files that belong to no cell, of the plan, and of the samples of tasks."""
        rows = self._rows("SELECT name, digest, size, checksum FROM checks")
        for row in rows:
            if row[3] != checksum(*row[:3]):
                raise self._damage(f"the row of {row[0]!r} in the table checks")
        return {name: (digest, size) for name, digest, size, _ in rows}

    def files(self) -> dict[str, tuple[str, int]]:
        """Digest and size of files that belong to no cell."""
        return {name: each for name, each in self.checks().items() if name != PLAN and not name.startswith(SAMPLES)}

    def _check(self, name: str, digest: str, size: int = 0) -> None:
        with self._transaction() as connection:
            connection.execute("REPLACE INTO checks VALUES (?, ?, ?, ?)", _check_row(name, digest, size))

    def about(self) -> About:
        """What the run was, of run.json."""
        mend = "run the suite again, which writes it"
        return About.read(self.read_text("run.json"), self.folder / "run.json", mend)

    def plan(self, cells: Iterable[Cell]) -> None:
        """Make these cells the ones that are shown; what is known of them already holds."""
        cells = list(cells)
        holes = ", ".join("?" * (len(IDENTITY) + 3))
        rows = [
            (*_identity(cell), checksum(*_identity(cell)), place, checksum(cell.key, *UNDONE))
            for place, cell in enumerate(cells, 1)
        ]
        columns = (*IDENTITY, "identity", "planned")
        renewed = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
        with self._transaction() as connection:
            connection.execute("UPDATE cells SET planned = 0 WHERE planned != 0")
            connection.executemany(
                f"INSERT INTO cells ({', '.join(columns)}, checksum) VALUES ({holes}) "
                f"ON CONFLICT (key) DO UPDATE SET {renewed}",
                rows,
            )
            keys = checksum([cell.key for cell in cells])
            connection.execute("REPLACE INTO checks VALUES (?, ?, ?, ?)", _check_row(PLAN, keys, len(cells)))

    def known(self) -> dict[str, Outcome]:
        """The outcomes that still hold, by key: what was damaged counts as never computed."""
        faults = self.faults()
        query = "SELECT key, status, reason, digest FROM cells WHERE status != ''"
        return {
            key: Outcome(key, status, reason, digest=digest)
            for key, status, reason, digest in self._rows(query)
            if key not in faults
        }

    def faults(self) -> dict[str, str]:
        """Why outcomes that were recorded hold no longer, by key, from rows and the sizes of files alone."""
        there = sizes(self.folder / "maps")
        found: dict[str, str] = {}
        for row in self._rows("SELECT * FROM cells"):
            key, stage, status, digest, size = row[0], row[1], row[11], row[16], row[17]
            file = maps.path(Path(), str(key))
            if not database.is_sound(row):
                found[key] = f"the row of {_name(row)} does not match its checksum"
            elif digest and file.name not in there:
                found[key] = f"{file} is missing"
            elif digest and there[file.name] != size:
                found[key] = f"{file} has {there[file.name]} bytes instead of {size}"
            elif stage in FILED and status in USABLE and not digest:
                found[key] = f"no SHA-256 of {file} is recorded"
        return found

    def repair(self) -> dict[str, str]:
        """Drop every row that is not as it was written; the cells that are not known any more, by key."""
        with self._told():
            found = database.every_row(self._database)
        rows, dropped = database.sound(found)
        if rows != found:
            with self._transaction() as connection:
                database.replace(connection, rows)
        return {row[0]: f"the row or the scores of {_name(row)} do not match their checksum" for row in dropped}

    def unreadable(self, keys: Iterable[str]) -> dict[str, str]:
        """Why files of cells are not what was written, by key, from all their bytes."""
        wanted = set(keys)
        rows = self._rows("SELECT key, digest, size FROM cells WHERE digest != ''")
        looked = {key: writing.fault(maps.path(self.folder, key), *known) for key, *known in rows if key in wanted}
        return {key: f"{maps.path(Path(), key)} {fault}" for key, fault in looked.items() if fault}

    def strike(self, keys: Iterable[str]) -> int:
        """Count outcomes as never computed; how many there were."""
        struck = 0
        columns = ", ".join(f"{column} = ?" for column in (*OUTCOME, "checksum"))
        with self._transaction() as connection:
            for key in keys:
                values = (*UNDONE, checksum(key, *UNDONE), key)
                struck += connection.execute(f"UPDATE cells SET {columns} WHERE key = ?", values).rowcount
                connection.execute("DELETE FROM scores WHERE key = ?", (key,))
        return struck

    def record(self, outcomes: Sequence[Outcome], log: str) -> None:
        """Keep what became of cells, all of it or nothing."""
        kept = log if (self.folder / "logs" / log).is_file() else ""
        columns = ", ".join(f"{column} = ?" for column in (*OUTCOME, "checksum"))
        with self._transaction() as connection:
            for outcome in outcomes:
                scores = [
                    [sample, None if value != value else float(value), _text(reason)]
                    for sample, (value, reason) in enumerate(zip(outcome.scores, outcome.reasons, strict=True))
                ]
                row = (
                    outcome.status,
                    _text(outcome.reason),
                    float(outcome.seconds),
                    kept,
                    json.dumps(dict(outcome.facts)),
                    outcome.digest,
                    self._size(outcome),
                    scores_sum(scores),
                )
                values = (*row, checksum(outcome.key, *row), outcome.key)
                if connection.execute(f"UPDATE cells SET {columns} WHERE key = ?", values).rowcount != 1:
                    raise self._damage(f"the row of the cell {outcome.key}")
                connection.execute("DELETE FROM scores WHERE key = ?", (outcome.key,))
                connection.executemany(
                    "INSERT INTO scores VALUES (?, ?, ?, ?)", [(outcome.key, *score) for score in scores]
                )

    def _size(self, outcome: Outcome) -> int:
        """How long a cell's file is; 0 where it leaves none, or somebody has removed it meanwhile."""
        with contextlib.suppress(OSError):
            return maps.path(self.folder, outcome.key).stat().st_size if outcome.digest else 0
        return 0

    def record_samples(self, task: str, rows: Iterable[tuple[str, str, str]]) -> None:
        """Keep the id, label and explained class of a task's samples."""
        found = [tuple(map(_text, row)) for row in rows]
        with self._transaction() as connection:
            connection.execute("DELETE FROM samples WHERE task = ?", (task,))
            connection.executemany(
                "INSERT INTO samples VALUES (?, ?, ?, ?, ?)", [(task, n, *row) for n, row in enumerate(found)]
            )
            check = _check_row(_samples_of(task), checksum(found), len(found))
            connection.execute("REPLACE INTO checks VALUES (?, ?, ?, ?)", check)

    def cells(self, stage: str = "") -> list[Recorded]:
        """The planned cells in the order of the plan."""
        return [cell for cell in self._planned() if stage in ("", cell.stage)]

    def _planned(self) -> list[Recorded]:
        """Every planned cell, if all are as they were written; looked at once for each state of the database."""
        state = (self._database.total_changes, self._rows("PRAGMA data_version")[0][0])
        if self._seen is None or self._seen[0] != state:
            query = f"SELECT {', '.join((*IDENTITY, 'identity', *OUTCOME, 'checksum'))} FROM cells WHERE planned "
            cells = [self._recorded(row) for row in self._rows(query + "ORDER BY planned")]
            if self.digest(PLAN) != (checksum([cell.key for cell in cells]) if self.digest(PLAN) or cells else ""):
                raise self._damage("the list of planned cells")
            self._seen = state, cells
        return self._seen[1]

    def _recorded(self, row: Sequence[Any]) -> Recorded:
        """A row as it was written."""
        identity, (sum_, *outcome) = row[: len(IDENTITY)], row[len(IDENTITY) :]
        key = str(identity[0])
        if sum_ != checksum(*identity) or outcome[-1] != checksum(key, *outcome[:-1]):
            raise self._damage(f"the row of {_name(row)}", key)
        found = {**dict(zip(IDENTITY, identity, strict=True)), **dict(zip(OUTCOME, outcome[:-1], strict=True))}
        found["facts"] = json.loads(found["facts"])
        return Recorded(**{each.name: found[each.name] for each in fields(Recorded)})

    def scores(self) -> pd.DataFrame:
        """Every sample's score of the planned cells: task, method, metric, seed, sample, value, reason."""
        import pandas as pd

        query = """
            SELECT scores.key, sample, value, scores.reason FROM cells JOIN scores USING (key)
            WHERE planned ORDER BY planned, sample
        """
        by_cell = {key: list(rows) for key, rows in itertools.groupby(self._rows(query), key=lambda row: row[0])}
        samples = {task: self.samples(task) for task in {cell.task for cell in self.cells("score")}}
        table = []
        for cell in self.cells("score"):
            rows = by_cell.get(cell.key, [])
            if cell.scores != scores_sum([row[1:] for row in rows]):
                raise self._damage(f"the scores of the cell {cell.key} ({cell.method} · {cell.metric})", cell.key)
            ids = samples[cell.task]
            about = (cell.task, cell.method, cell.metric, cell.seed)
            table += [(*about, ids[n][0], value, reason) for _, n, value, reason in rows if n < len(ids)]
        columns = ["task", "method", "metric", "seed", "sample", "value", "reason"]
        return pd.DataFrame(table, columns=columns).astype({"value": "float64"})

    def samples(self, task: str) -> list[tuple[str, str, str]]:
        """The id, label and explained class of a task's samples, in order."""
        rows = self._rows("SELECT sample, id, label, target FROM samples WHERE task = ? ORDER BY sample", (task,))
        found = [row[1:] for row in rows]
        digest = self.digest(_samples_of(task))
        if digest != (checksum(found) if digest or found else ""):
            raise self._damage(f"the samples of {task}")
        return found

    def seconds(self) -> dict[tuple[str, str, str], float]:
        """How long cells took: the mean by stage, method and metric, of whatever was computed here, planned or not."""
        query = (
            "SELECT stage, method, metric, avg(seconds) FROM cells WHERE status != '' GROUP BY stage, method, metric"
        )
        return {(stage, method, metric): seconds for stage, method, metric, seconds in self._rows(query)}

    def damaged_rows(self) -> dict[str, str]:
        """The cells that `repair` would drop."""
        with self._told():
            _, dropped = database.sound(database.every_row(self._database))
        return {row[0]: f"the row or the scores of {_name(row)} do not match their checksum" for row in dropped}

    def tasks(self) -> list[str]:
        """The tasks whose samples are recorded."""
        return [name.removeprefix(SAMPLES) for name in self.checks() if name.startswith(SAMPLES)]

    def all_keys(self) -> set[str]:
        """The keys of all cells, planned or not."""
        return {key for (key,) in self._rows("SELECT key FROM cells")}

    def tidy(self) -> None:
        """Remove the files of maps that nothing refers to: what was written for a task that was then refused."""
        known = {maps.path(self.folder, key) for key in self.all_keys()} | {self.folder / name for name in self.files()}
        for file in {*(self.folder / "maps").glob("*.safetensors")} - known:
            file.unlink(missing_ok=True)

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with its file."""
        with self._told():
            return database.integrity(self._database)

    def _damage(self, what: str, key: str = "") -> Damaged:
        return Damaged(f"{self.folder / database.NAME}: {_text(what)} does not match its checksum; {AGAIN}", key)

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._told():
            return self._database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told(), self._database:
            yield self._database

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Report in one line that the folder cannot be written or read."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.DatabaseError) and type(error) is sqlite3.DatabaseError:
                raise database.damaged(self.folder / database.NAME, str(error)) from error
            what = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if not self._write:
                raise RecordError(f"the record in {self.folder} cannot be read: {what}") from error
            raise NotWritten(f"the record in {self.folder} cannot be written: {what}; {writing.MEND}") from error


def _identity(cell: Cell) -> tuple[Any, ...]:
    return tuple(getattr(cell, column) for column in IDENTITY)


def _check_row(name: str, digest: str, size: int) -> tuple[Any, ...]:
    return name, digest, size, checksum(name, digest, size)


def _samples_of(task: str) -> str:
    return SAMPLES + task


def _name(row: Sequence[Any]) -> str:
    """The cell of a row of the table cells, in words that can be printed even where they are damaged."""
    return _text(" · ".join(str(part) for part in row[:5] if part))


def _text(text: str) -> str:
    """A text that SQLite and terminals can take: a lone surrogate is none."""
    return text.encode("utf-8", "backslashreplace").decode()
