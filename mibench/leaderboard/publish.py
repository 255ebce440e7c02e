"""Boards on disk: NAME.csv, NAME-agreement.csv and NAME.html for a run, and index.html for a folder of them.

A board is made where something has changed since; one that is as it would be made now is copied.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mibench.errors import MibenchError, UsageError, one_line
from mibench.files.reading import MIB, file_name, read_text
from mibench.leaderboard import overview, stored_board
from mibench.leaderboard.board_files import DATA, ENDINGS, packed, put, unpacked
from mibench.leaderboard.csv_text import restored
from mibench.leaderboard.identity import identity_of
from mibench.leaderboard.placing import placed_scores
from mibench.leaderboard.results import LOST
from mibench.leaderboard.row import COLUMNS
from mibench.leaderboard.template import template
from mibench.record.identity import Identity
from mibench.record.store import Store

if TYPE_CHECKING:
    import pandas as pd

MAX_PAGE = 512 * MIB
MEND = "make it by `mibench report RUN`"
MADE = "mibench:"  # how the names of a page's own facts begin
Rows = list[dict[str, str]]


def publish(runs: Sequence[Path], folder: Path, *, replace: bool = False) -> list[Path]:
    """Write the boards of runs into a folder under their suites' names, and its index.

    A board with more results than the run is only replaced on request.
    """
    written: list[Path] = []
    for run in runs:
        with Store(run) as store:
            texts, places = _texts(store)
            name, identity, scores = store.about().suite.name, identity_of(store, places), placed_scores(store)
        if not replace and (more := _more(folder, name, texts[".csv"], identity)):
            raise UsageError(f"{folder / name}.csv has {more}; give --output, or --replace")
        for ending, text in texts.items():
            put(_place(folder, name, ending), text)
        written += _beside(folder, name, identity, scores)
    index(folder)
    return [*written, folder / "index.html"]


def _texts(store: Store) -> tuple[dict[str, str], Mapping[str, int]]:
    """A run's board: its own files where they are what would be made now, or made now; and the methods' places."""
    if known := overview.current(store):
        return {ending: store.read_text(f"leaderboard{ending}") for ending in ENDINGS}, known.places
    from mibench.leaderboard import make
    from mibench.leaderboard.reporting import results_of

    made, texts = make.texts(results_of(store))
    return texts, made.order().ranks


def shelve(run: Path, folder: Path) -> list[Path]:
    """Put the board that a run has just written into a folder of leaderboards, and renew its index."""
    with Store(run) as store:
        name, identity = store.about().suite.name, identity_of(store)
        for ending in ENDINGS:
            put(_place(folder, name, ending), store.read_text(f"leaderboard{ending}"))
        files = _beside(folder, name, identity, placed_scores(store))
    index(folder)
    return [*files, folder / "index.html"]


def outdone(run: Path, folder: Path) -> str:
    """What a folder's board of the same suite has and the board that a run has just written has not, in words."""
    with Store(run) as store:
        name, identity = store.about().suite.name, identity_of(store)
        table = store.read_text("leaderboard.csv")
    return _more(folder, name, table, identity)


def _more(folder: Path, name: str, table: str, identity: Identity) -> str:
    """What a board has that another table of the suite has not: values, samples or seeds."""
    try:
        kept = _counted(read_text(folder / f"{name}.csv"))
        before = Identity.read_file(folder / f"{name}.json", "")
    except (UsageError, ValueError, KeyError):
        return ""  # no board, or none of ours
    made = _counted(table)
    lost = sorted(kept.keys() - made.keys())
    if lost:
        return f"{len(lost)} values that {name} has not here, such as {' '.join(lost[0])}"
    if any(samples > made[place] for place, samples in kept.items()):
        return "more samples"
    fewer_seeds = any(
        metric in before.metrics and before.metrics[metric].seeds > each.seeds > 0
        for metric, each in identity.metrics.items()
    )
    return "more seeds" if fewer_seeds else ""


def _counted(table: str) -> Mapping[tuple[str, ...], int]:
    """Over how many samples each value of a board is."""
    rows = (row for row in _rows(table) if row["value"] and _is_score(row))
    return {(row["data"], row["model"], row["method"], row["metric"]): int(row["samples"]) for row in rows}


def _is_score(row: Mapping[str, str]) -> bool:
    return row["family"] != "runtime" and row["status"] != "published"


def _place(folder: Path, name: str, ending: str) -> Path:
    """Where a board's file is in a folder of boards."""
    return stored_board.file_of(folder, name) if ending == DATA else folder / f"{file_name(name)}{ending}"


def _beside(folder: Path, name: str, identity: Identity, scores: pd.DataFrame) -> list[Path]:
    """Write what a later run must share with a board to be compared with it, and its samples; the board's files."""
    put(folder / f"{file_name(name)}.json", identity.written())
    put(folder / f"{file_name(name)}.parquet", packed(scores))
    return [_place(folder, name, ending) for ending in (*ENDINGS, ".json", ".parquet")]


def remake(folder: Path, output: Path) -> list[Path]:
    """Write tables and pages of the boards of a folder again, from their data alone, and the index."""
    from mibench.leaderboard import make

    files = sorted((folder / stored_board.FOLDER).glob("*.json"))
    if not files:
        raise UsageError(f"{folder} is neither a run's folder nor has boards as data (data/NAME.json): {MEND}")
    written: list[Path] = []
    for file in files:
        scores = unpacked(folder / f"{file.stem}.parquet", MEND)
        if scores is None:
            raise UsageError(f"{folder / file.stem}.parquet is missing: {MEND}")
        _, texts = make.texts(stored_board.results_of(stored_board.read(file), scores))
        for ending, text in texts.items():
            if ending != DATA:
                put(output / f"{file.stem}{ending}", text)
                written.append(output / f"{file.stem}{ending}")
    index(output)
    return [*written, output / "index.html"]


def index(folder: Path) -> None:
    """Write the list of all boards in a folder, from their tables and pages."""
    tables = {path: _table(path) for path in sorted(folder.glob("*.csv"))}
    boards = [_entry(path, table) for path, table in tables.items() if table is not None]
    others = [one_line(path.name) for path, table in tables.items() if table is None]
    put(folder / "index.html", str(template("index.html").render(boards=boards, others=others)))


def _table(path: Path) -> Rows | None:
    """A board's table; None for any other file."""
    try:
        return [{key: restored(value) for key, value in row.items()} for row in _rows(read_text(path))]
    except (MibenchError, ValueError):
        return None


def _rows(text: str) -> Rows:
    """The rows of a board's CSV, or a ValueError where it is none."""
    try:
        table = csv.reader(io.StringIO(text), strict=True)
        if tuple(next(table, ())) != COLUMNS:
            raise ValueError("it has other columns")
        return [dict(zip(COLUMNS, row, strict=True)) for row in table if row]
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _entry(path: Path, table: Rows) -> dict[str, Any]:
    """One line of the index."""
    scores = [row for row in table if _is_score(row)]
    failed = [row for row in scores if (row["status"] in LOST or not row["value"]) and row["status"] != "skipped"]
    page = path.with_suffix(".html")
    facts = dict(_facts(page)) if page.is_file() else {}
    return {
        "name": path.stem,
        "page": page.is_file(),
        "tasks": sorted({f"{row['data']} / {row['model']}" for row in scores}),
        "rows": len({row["method"] for row in scores}),
        "metrics": len({row["metric"] for row in scores}),
        "scored": sum(bool(row["value"]) for row in scores),
        "failed": len(failed),
        "skipped": sum(row["status"] == "skipped" for row in scores),
        "made": " at ".join(facts[name] for name in ("date", "commit") if facts.get(name)),
    }


def _facts(page: Path) -> Iterator[tuple[str, str]]:
    """The facts about its run in the head of a page."""
    found: list[tuple[str, str]] = []

    class Head(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            said = dict(attrs)
            if tag == "meta" and (said.get("name") or "").startswith(MADE):
                found.append((str(said["name"]).removeprefix(MADE), said.get("content") or ""))

    Head().feed(read_text(page, MAX_PAGE).partition("<style>")[0])
    yield from found
