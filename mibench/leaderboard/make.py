"""A board made from results: worked out, and written as text."""

from __future__ import annotations

from pathlib import Path

from mibench.files.reading import file_name
from mibench.leaderboard import stored_board
from mibench.leaderboard.board_files import ENDINGS, put
from mibench.leaderboard.page import to_html
from mibench.leaderboard.results import Results
from mibench.leaderboard.tables import Board, board, to_agreement_csv, to_csv
from mibench.record.panel import Panel


def texts(results: Results, known: Panel | None = None) -> tuple[Board, dict[str, str]]:
    """A run's board, by the committed panel or another, and its files' texts by their endings."""
    made = board(results, known)
    data = stored_board.stored(results).written()
    return made, dict(zip(ENDINGS, (to_csv(made), to_agreement_csv(made), to_html(made), data), strict=True))


def write(results: Results, folder: Path, name: str = "leaderboard", known: Panel | None = None) -> Board:
    """Write a board's files into a folder."""
    made, files = texts(results, known)
    for ending, text in files.items():
        put(folder / f"{file_name(name)}{ending}", text)
    return made
