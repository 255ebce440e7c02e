"""Tables of scores as the page shows them: each number with its interval, place and ties, laid out as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mibench.leaderboard.order import Order, Standing
from mibench.leaderboard.panels import Panel
from mibench.leaderboard.row import Row


@dataclass(frozen=True)
class Span:
    """An interval as a bar, in per cent of the column's width."""

    low: float
    value: float
    high: float
    chance: float | None = None  # the random control
    bar: tuple[float, float] | None = None  # the ends of the comparison bar


@dataclass(frozen=True)
class Cell:
    """One number of a table, formatted for display; without text, the status is shown instead."""

    text: str = ""
    sort: float | str = ""
    metric: str = ""
    interval: str = ""
    span: Span | None = None
    place: str = ""
    tie: str = ""
    best: bool = False
    needed: str = ""
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    text: str
    unit: str = ""
    first: str = "ascending"
    sorted: str = "none"
    about: str = ""


@dataclass(frozen=True)
class Line:
    """One row of a table, and why it is not ranked if it is not."""

    name: str
    cells: tuple[Cell | None, ...]
    why: str = ""


@dataclass(frozen=True)
class Group:
    """Rows listed together; those under a title are not ranked."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A sortable table of scores."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]


def number(value: float) -> str:
    """A figure of any size in a few characters."""
    if not math.isfinite(value):
        return "∞" if value > 0 else ""
    rounded = float(f"{value:.3g}")
    for size, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k"), (1e3, "")):
        if abs(rounded) >= size:
            return f"{value:.0f}" if not letter else f"{rounded / (1e3 if size == 1e4 else size):g}{letter}"
    return f"{rounded:g}"


def places(low: int | None, high: int | None) -> str:
    """A rank interval in words: 3, or 1–3."""
    if low is None or high is None:
        return ""
    return str(low) if low == high else f"{low}–{high}"


def heads(panel: Panel) -> Column:
    """The head of a metric's column."""
    card = panel.card
    arrow = "↑" if card.direction == "higher" else "↓"
    notes = [*filter(None, [card.unit]), *panel.marks]
    first = "descending" if card.direction == "higher" else "ascending"
    return Column(f"{card.name} {arrow}", ", ".join(notes), first, about=f"{card.title}. {card.about}")


@dataclass(frozen=True)
class Scale:
    """How the numbers of one column are formatted and placed on its bars."""

    lowest: float
    highest: float
    decimals: int
    chance: float | None = None

    def write(self, value: float) -> str:
        """A number with the column's decimals and a true minus."""
        return f"{round(value, self.decimals) + 0.0:.{self.decimals}f}".replace("-", "−")

    def at(self, value: float) -> float:
        """The position of a number on the bar, in per cent."""
        width = self.highest - self.lowest
        return round(100 * (value - self.lowest) / width, 1) if width > 0 else 50.0

    def cell(self, value: float, low: float, high: float, half: float = math.nan) -> tuple[str, Span | None]:
        """An interval in words and as a line, with half a comparison bar to either side of the value."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return "one sample", None
        chance = None if self.chance is None else self.at(self.chance)
        bar = (self.end(value - half, math.floor), self.end(value + half, math.ceil)) if math.isfinite(half) else None
        return f"{self.write(low)} – {self.write(high)}", Span(self.at(low), self.at(value), self.at(high), chance, bar)

    def end(self, value: float, outward: Callable[[float], int]) -> float:
        """The position of a bar's end, rounded outward, so that bars that touch are seen to touch."""
        width = self.highest - self.lowest
        return outward(1000 * (value - self.lowest) / width) / 10 if width > 0 else 50.0


def scale(
    values: Sequence[tuple[float, float, float]],
    chance: float | None = None,
    bars: Sequence[tuple[float, float]] = (),
) -> Scale:
    """A scale on which all (low, value, high) and bars have room, as fine as half an interval needs two digits for."""
    finite = sorted(number for some in (*values, *bars) for number in some if math.isfinite(number))
    halves = sorted((high - low) / 2 for low, _, high in values if math.isfinite(high - low) and high > low)
    decimals = 3
    if halves:
        decimals = min(4, max(0, math.ceil(-math.log10(halves[len(halves) // 2])) + 1))
    return Scale(finite[0] if finite else 0.0, finite[-1] if finite else 1.0, decimals, chance)


def score_cells(panel: Panel, chance: str) -> dict[str, Cell]:
    """One metric's column: a cell for every row of the task."""
    shown = [row for row in panel.rows if row.samples]
    random = next((row.value for row in shown if row.method == chance), None)
    fine = scale([(row.low, row.value, row.high) for row in shown], random, [_ends(row, panel) for row in shown])
    return {row.method: _score_cell(row, panel, fine) for row in panel.rows}


def _score_cell(row: Row, panel: Panel, fine: Scale) -> Cell:
    if not row.samples:
        return Cell(metric=row.metric, status=row.status, reason=row.reason)
    interval, span = fine.cell(row.value, row.low, row.high, panel.bars.get(row.method, math.nan))
    place = places(row.rank_low, row.rank_high)
    needed = _needed(panel, row.method) if place else ""
    text = fine.write(row.value)
    return Cell(
        text, row.value, row.metric, interval, span, place, row.tie, bool(row.tie), needed, row.status, row.reason
    )


def _ends(row: Row, panel: Panel) -> tuple[float, float]:
    """Where a row's comparison bar ends."""
    half = panel.bars.get(row.method, math.nan)
    return row.value - half, row.value + half


def _needed(panel: Panel, method: str) -> str:
    """The samples needed to separate a row from the one above it, where the two tie; one sample has no spread."""
    samples = panel.samples(method)
    above = [other for other in panel.ranked if other != method and panel.compare(other, method)[0] > 0]
    if panel.pairs is None or samples < 2 or not above:
        return ""
    next_up = min(above, key=lambda other: panel.compare(other, method)[0])
    if panel.compare(next_up, method)[1]:
        return ""
    needed = float(f"{panel.pairs.needed[panel.sound.index(next_up), panel.sound.index(method)]:.2g}")
    if not math.isfinite(needed):
        return "more seeds"
    return f"n ≈ {number(needed)}" if needed > samples else ""


def order_cells(order: Order) -> dict[str, Cell]:
    """A column of standings, of rows that have a place and of others."""
    rows = (*order.places, *order.controls)
    ends = [(each.value - each.bar, each.value + each.bar) for each in rows]
    fine = scale([(each.low, each.value, each.high) for each in rows], bars=ends)
    return {each.method: _order_cell(each, fine) for each in rows}


def _order_cell(each: Standing, fine: Scale) -> Cell:
    interval, span = fine.cell(each.value, each.low, each.high, each.bar)
    place, status = places(each.rank_low, each.rank_high), "alone" if each.why else "control"
    status = "ok" if place else status
    return Cell(
        fine.write(each.value),
        each.value,
        "",
        interval,
        span,
        place,
        each.leading,
        bool(each.leading),
        "",
        status,
        each.why,
    )


def table(columns: Sequence[tuple[Column, Mapping[str, Cell]]], groups: Mapping[str, Mapping[str, str]]) -> Table:
    """Columns of cells side by side; `groups` maps the title of each group to its rows in order, each with its why."""
    made = []
    for title, rows in groups.items():
        lines = [Line(name, tuple(cells.get(name) for _, cells in columns), why) for name, why in rows.items()]
        made += [Group(title, tuple(lines))] if lines else []
    return Table(tuple(column for column, _ in columns), tuple(made))
