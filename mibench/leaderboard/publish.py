"""Boards on disk: NAME.csv and NAME.html for a run, index.html for a folder of them."""

from __future__ import annotations

import os
from pathlib import Path

from mibench.leaderboard.page import to_html
from mibench.leaderboard.results import Results
from mibench.leaderboard.tables import Board, board, to_csv


def write(results: Results, folder: Path, name: str = "leaderboard") -> Board:
    """Write a run's table and page into a folder."""
    made = board(results)
    _replace(folder / f"{name}.csv", to_csv(made))
    _replace(folder / f"{name}.html", to_html(made))
    return made


def _replace(path: Path, text: str) -> None:
    """Write a whole file or leave the old one, whatever happens half-way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8", newline="\n")
    os.replace(beside, path)
