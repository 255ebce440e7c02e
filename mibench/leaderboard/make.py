"""A board made from results: worked out, and written as text."""

from __future__ import annotations

from mibench.leaderboard.page import to_html
from mibench.leaderboard.publish import ENDINGS
from mibench.leaderboard.results import Results
from mibench.leaderboard.tables import Board, board, to_agreement_csv, to_csv


def texts(results: Results) -> tuple[Board, dict[str, str]]:
    """A run's board, and its files' texts by their endings."""
    made = board(results)
    return made, dict(zip(ENDINGS, (to_csv(made), to_agreement_csv(made), to_html(made)), strict=True))
