"""The page of a board: one self-contained file, from the template page.html beside this one."""

from __future__ import annotations

from mibench.leaderboard.tables import Board


def to_html(board: Board) -> str:
    """The page as text."""
    return f"<!doctype html><title>{board.results.suite}</title>"
