"""Boards on disk: NAME.csv, NAME-agreement.csv and NAME.html for a run, and index.html for a folder of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

from mibench.errors import MibenchError, NotWritten, one_line
from mibench.files import writing
from mibench.files.reading import MIB, file_name, read_text
from mibench.leaderboard.csv_text import restored
from mibench.leaderboard.page import template, to_html
from mibench.leaderboard.results import LOST, Results
from mibench.leaderboard.tables import COLUMNS, Board, board, to_agreement_csv, to_csv

ENDINGS = (".csv", "-agreement.csv", ".html")
MAX_PAGE = 512 * MIB
MADE = "mibench:"  # how the names of a page's own facts begin


def write(results: Results, folder: Path, name: str = "leaderboard") -> Board:
    """Write a run's table and page into a folder."""
    made = board(results)
    for ending, text in zip(ENDINGS, (to_csv(made), to_agreement_csv(made), to_html(made)), strict=True):
        put(folder / f"{file_name(name)}{ending}", text)
    return made


def index(folder: Path) -> None:
    """Write the list of all boards in a folder, from what their tables and pages say."""
    tables = {path: _table(path) for path in sorted(folder.glob("*.csv"))}
    boards = [_entry(path, table) for path, table in tables.items() if tuple(table.columns) == COLUMNS]
    others = [one_line(path.name) for path, table in tables.items() if tuple(table.columns) != COLUMNS]
    put(folder / "index.html", str(template("index.html").render(boards=boards, others=others)))


def _table(path: Path) -> pd.DataFrame:
    """A CSV file of any kind, as text; one that is no regular file, or no table, has no columns."""
    try:
        table = pd.read_csv(io.StringIO(read_text(path)), keep_default_na=False, dtype=str)
    except (MibenchError, ValueError):  # pandas' own errors are of this kind
        return pd.DataFrame()
    return table.map(restored) if tuple(table.columns) == COLUMNS else table


def _entry(path: Path, table: pd.DataFrame) -> dict[str, Any]:
    """One line of the index."""
    scores = table[(table["family"] != "runtime") & (table["status"] != "published")]
    failed = scores["status"].isin(LOST) | (scores["value"] == "")
    page = path.with_suffix(".html")
    facts = dict(_facts(page)) if page.is_file() else {}
    return {
        "name": path.stem,
        "page": page.is_file(),
        "tasks": sorted(set(scores["data"] + " / " + scores["model"])),
        "rows": scores["method"].nunique(),
        "metrics": scores["metric"].nunique(),
        "scored": int((scores["value"] != "").sum()),
        "failed": int((failed & (scores["status"] != "skipped")).sum()),
        "skipped": int((scores["status"] == "skipped").sum()),
        "made": " at ".join(facts[name] for name in ("date", "commit") if facts.get(name)),
    }


def _facts(page: Path) -> Iterator[tuple[str, str]]:
    """The facts that a page says of its run, in its head."""
    found: list[tuple[str, str]] = []

    class Head(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            said = dict(attrs)
            if tag == "meta" and (said.get("name") or "").startswith(MADE):
                found.append((str(said["name"]).removeprefix(MADE), said.get("content") or ""))

    Head().feed(read_text(page, MAX_PAGE).partition("<style>")[0])
    yield from found


def put(path: Path, text: str) -> None:
    """Write a whole file or leave the old one, whatever happens half-way."""
    mend = "free the disk or name a folder that can be written"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror}; {mend}") from error
    writing.sweep(path.parent)
    writing.write(path, text.encode(), mend)
