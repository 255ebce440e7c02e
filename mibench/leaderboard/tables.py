"""From per-sample scores to the long-form table: one row for each (data, model, method, metric), sorted."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mibench.leaderboard.results import Results

COLUMNS = tuple(
    "suite data model method metric family direction unit value low high samples coverage "
    "rank rank_low rank_high tie status reason".split()
)


@dataclass(frozen=True)
class Board:
    """A run's results with the statistics that say how sure they are."""

    results: Results
    rows: pd.DataFrame  # COLUMNS, sorted


def board(results: Results) -> Board:
    """Work out values, intervals, ranks and ties of all results."""
    raise NotImplementedError


def to_csv(board: Board) -> str:
    """The long-form table as text, the same to the byte for the same scores."""
    raise NotImplementedError
