"""A board as Python shows it: a pandas frame, a table in a notebook, the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape

import pandas as pd

from mibench.leaderboard.page import to_html
from mibench.leaderboard.row import COLUMNS, Row
from mibench.leaderboard.tables import Board


@dataclass(frozen=True, repr=False)
class Shown:
    """What a comparison and a run's board have in common."""

    board: Board

    def frame(self) -> pd.DataFrame:
        """One line for each task, method and metric: value, interval, rank, who is best, status and reason."""
        return pd.DataFrame([asdict(row) for row in self.board.rows], columns=[*COLUMNS])

    def page(self) -> str:
        """The whole page, as `mibench run` writes it."""
        return to_html(self.board)

    def summary(self) -> pd.DataFrame:
        """A line for each task and method, a column for each metric: `value [low, high]`, and who is best."""
        cells = [(f"{row.data} / {row.model}", row.method, _column(row), _cell(row)) for row in self._scores()]
        table = pd.DataFrame(cells, columns=["task", "method", "metric", "cell"])
        return table.pivot(index=["task", "method"], columns="metric", values="cell").fillna("").rename_axis(columns="")

    def _scores(self) -> list[Row]:
        return [row for row in self.board.rows if row.family != "runtime"]

    def __repr__(self) -> str:
        return self.summary().to_string()

    def _repr_html_(self) -> str:
        title = self.board.results.title or self.board.results.suite
        note = "Mean and 95 % interval; best: the best of a column; with the best: not told from it."
        return f"<h4>{escape(title)}</h4>{self.summary().to_html(escape=True)}<p>{note}</p>"


def _column(row: Row) -> str:
    return f"{row.metric} {'↑' if row.direction == 'higher' else '↓'}" + (f" ({row.unit})" if row.unit else "")


def _cell(row: Row) -> str:
    """A value with its interval; without a value, what became of it."""
    if pd.isna(row.value):
        return row.status
    interval = "" if pd.isna(row.low) else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.value:.3g}{interval}" + (
        f", {row.tie}" if row.tie else "" if row.status == "ok" else f" ({row.status})"
    )
