"""A run, or a committed leaderboard, as one side of a comparison; and the gate that a change must pass."""

from __future__ import annotations

import filecmp
import io
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mibench.errors import UsageError
from mibench.files.reading import read_text
from mibench.gate.comparison import Comparison, compare
from mibench.gate.priors import priors
from mibench.gate.side import Side
from mibench.gate.thresholds import Thresholds
from mibench.leaderboard import overview
from mibench.leaderboard.board_files import unpacked
from mibench.leaderboard.csv_text import restored
from mibench.leaderboard.identity import identity_of
from mibench.leaderboard.placing import placed_scores
from mibench.leaderboard.row import COLUMNS
from mibench.record.identity import Identity
from mibench.record.panel import committed
from mibench.record.store import Store

WORDS = ("suite", "data", "model", "method", "metric", "family", "direction", "unit", "tie", "status", "reason")
MEND = "make both by `mibench report RUN`"


def side(path: Path) -> Side:
    """A run's folder, with every sample's score, or a leaderboard's CSV with the JSON file of the same name."""
    if _is_run(path):
        with Store(path) as store:
            table, places = _table(store)
            identity = identity_of(store, places)
            return Side(str(path), identity, _read(table, path), placed_scores(store), places or None)
    if path.is_dir():
        raise UsageError(
            f"{path} is not the folder of a run: it has no results.sqlite; pass a run or a leaderboard's CSV"
        )
    if not path.exists():
        raise UsageError(f"{path} does not exist: pass a run or a leaderboard's CSV")
    beside = path.with_suffix(".json")
    if not beside.exists():
        raise UsageError(
            f"{path} cannot be compared without {beside.name} in its folder, which records its origin: {MEND}"
        )
    identity = Identity.read_file(beside, MEND)
    scores = unpacked(path.with_suffix(".parquet"), MEND)
    return Side(str(path), identity, _read(read_text(path), path), scores, identity.places or None)


def compared(before: Path, after: Path, thresholds: Thresholds) -> Comparison:
    """What two sides differ in, with what the committed panel knows of fits."""
    return _with_priors(side(before), side(after), thresholds)


def _with_priors(before: Side, after: Side, thresholds: Thresholds) -> Comparison:
    return compare(before, after, thresholds, priors(committed(), after.identity))


def gate(run: Path, baseline: Path, thresholds: Thresholds) -> Comparison:
    """What a run changed against the committed leaderboard of the same suite."""
    after = side(run)
    if baseline.is_dir() and not _is_run(baseline):
        suite = str(after.table["suite"].iloc[0])
        boards = sorted(file.stem for file in baseline.glob("*.json"))
        if suite not in boards:
            there = f"there are {', '.join(boards)}" if boards else "there is none"
            raise UsageError(f"{baseline} has no leaderboard of the suite {suite!r} ({there}); give another --baseline")
        baseline = baseline / f"{suite}.csv"
    return _with_priors(side(baseline), after, thresholds)


def refuse_itself(run: Path, baseline: Path) -> None:
    """Refuse a board that the run itself has written: measured seconds make no two runs' boards equal to the byte."""
    own = run / "leaderboard.csv"
    for board in sorted(baseline.glob("*.csv")) if baseline.is_dir() else [baseline]:
        if os.path.isfile(own) and os.path.isfile(board) and filecmp.cmp(own, board, shallow=False):
            raise UsageError(
                f"{board} was written by {run} itself, which is never worse than itself: "
                "restore the committed one, and run with --no-publish"
            )


def _is_run(folder: Path) -> bool:
    return (folder / "results.sqlite").exists()


def _table(store: Store) -> tuple[str, Mapping[str, int]]:
    """A run's own board where it is what would be made now, or made now; and the methods' places."""
    if known := overview.current(store):
        return store.read_text("leaderboard.csv"), known.places
    from mibench.leaderboard import reporting, tables

    made = tables.board(reporting.results_of(store))
    return tables.to_csv(made), made.order().ranks


def _read(text: str, origin: Path) -> pd.DataFrame:
    """A leaderboard's CSV; a method may be called `nan` or `null`."""
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        lacking = [column for column in COLUMNS if column not in table]
        if lacking or table.empty:
            raise ValueError(f"no column {lacking[0]!r}" if lacking else "it has no row")
        figures = [column for column in COLUMNS if column not in WORDS]
        numbers = {column: pd.to_numeric(table[column].replace("", None)) for column in figures}
        return table.assign(**{column: table[column].map(restored) for column in WORDS}, **numbers)
    except ValueError as error:  # pandas' own errors are of this kind
        raise UsageError(f"{origin} is not a leaderboard: {error}") from error
