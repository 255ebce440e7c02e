"""A comparison as CSV: a line for every score, with the smallest loss that would have been seen."""

from __future__ import annotations

import csv
import io

from mibench.gate.comparison import Comparison
from mibench.leaderboard.csv_text import inert

COLUMNS = (
    *("data", "model", "method", "metric", "family", "verdict", "before", "after", "better_by", "p", "visible_loss"),
    *("how", "rank_before", "rank_after", "reason"),
)


def to_csv(comparison: Comparison) -> str:
    """Every change, in the order of the table."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for each in comparison.changes:
        figures = [each.before, each.after, each.difference, each.p, each.visible]
        words = [*each.row, each.family, each.verdict]
        table.writerow([*map(inert, words), *map(_figure, figures), each.how, *each.ranks, inert(each.reason)])
    return text.getvalue()


def _figure(value: float) -> str:
    return "" if value != value else f"{value:.6g}"
