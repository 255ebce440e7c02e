"""From per-sample scores to the long-form table: one row for each (data, model, method, metric), sorted.

Every pair of a method and a metric of its task is a row, failures and cells missing in the record included. Costs are
rows of the family `runtime`; of these only exact counts are ranked, because times and memory are noisy. A published
value is a row of its own, `METHOD, published`, which takes part in no statistic.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd

from mibench.leaderboard.agreement import Agreement, agreements
from mibench.leaderboard.csv_text import inert
from mibench.leaderboard.order import Order, order
from mibench.leaderboard.panels import Panel, Referee, judge, read
from mibench.leaderboard.results import COSTS, Results, TaskCard
from mibench.leaderboard.row import COLUMNS, Row
from mibench.record import panel as committed
from mibench.statistics.resampling import generator, resamples

Task = tuple[str, str]  # data, model


@dataclass(frozen=True)
class Board:
    """A run's results with their statistics: intervals, tests, ranks."""

    results: Results
    rows: tuple[Row, ...]  # sorted by data, model, method, metric
    panels: Mapping[Task, tuple[Panel, ...]]  # in the order of the metrics
    published: tuple[Row, ...] = ()  # published values, of tasks and metrics that are on the board
    _orders: dict[Task | None, Order] = field(default_factory=dict, init=False, repr=False)

    def order(self, task: Task | None = None) -> Order:
        """The order of the methods on one task or over all; worked out once."""
        if task not in self._orders:
            panels = {place: self.panels[place] for place in ([task] if task else self.panels)}
            controls, origins = self.results.controls, self.results.origins
            rows = sorted({row for some in panels.values() for panel in some for row in panel.methods})
            methods = [row for row in rows if row not in controls and origins.get(row, (row, ""))[0] == row]
            plain = frozenset(card.name for card in self.results.methods if card.unit == "none" and not card.seeded)
            self._orders[task] = order(panels, methods, [row for row in rows if row in controls], plain)
        return self._orders[task]

    @cached_property
    def agreements(self) -> Mapping[Task, tuple[Agreement, ...]]:
        """How far every two metrics of each task agree."""
        return {task: tuple(agreements(panels)) for task, panels in self.panels.items()}

    def on(self, task: Task) -> Iterator[Row]:
        """The rows of one task."""
        return (row for row in self.rows if (row.data, row.model) == task)


def board(results: Results, known: committed.Panel | None = None) -> Board:
    """Work out values, intervals, ranks and ties of all results, by the committed panel or another."""
    known = committed.committed() if known is None else known
    tables = [each[["data", "model"]].drop_duplicates() for each in (results.scores, results.cells)]
    tasks = sorted({(str(data), str(model)) for data, model in pd.concat(tables).itertuples(index=False)})
    panels = {task: tuple(_panels(results, task, known)) for task in tasks}
    rows = [row for judged in panels.values() for panel in judged for row in panel.rows]
    rows += [row for task in tasks for row in _costs(results, task)]
    published = [row for task in tasks for row in _published(results, task)]
    return Board(results, _sorted(rows), panels, _sorted(published))


def _sorted(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (row.data, row.model, row.method, row.metric)))


def _published(results: Results, task: Task) -> Iterator[Row]:
    """A paper's figures for one task's network, whichever weights it has."""
    cards = {card.name: card for card in results.metrics}
    for model, method, metric, value in results.published:
        if metric in cards and model == task[1].partition("[")[0]:
            card, name = cards[metric], f"{method}, published"
            row = Row(results.suite, *task, name, metric, card.family, card.direction, card.unit, value)
            yield replace(row, status="published", reason=results.published_in)


def _at(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    return table[(table["data"] == task[0]) & (table["model"] == task[1])]


def _panels(results: Results, task: Task, known: committed.Panel) -> Iterator[Panel]:
    """Every metric of the suite on one task."""
    card_of = {(card.data, card.model): card for card in results.tasks}.get(task, TaskCard(*task))
    scores, cells = _at(results.scores, task), _at(results.cells, task)
    methods = sorted({*scores["method"].unique(), *cells["method"].unique()})
    samples = pd.Index(sorted(scores["sample"].unique()))
    weights = resamples(len(samples), generator("samples", *task))
    referee = _referee(results, card_of, methods, scores, cells)
    by_metric = dict(iter(scores.groupby("metric", observed=True, sort=False)))
    for card in results.metrics:
        blank = Row(results.suite, *task, "", card.name, card.family, card.direction, card.unit)
        asked = [results.seeds.get((*task, method, card.name), 0) for method in methods]
        arranged = read(by_metric.get(card.name, scores[:0]), methods, samples, card, asked)
        entry, seen = (
            known.entry(card.name, card.version, truth, card_of.network) for truth in (card_of.truth, "planted")
        )
        yield judge(blank, card, arranged, weights, referee, card_of.truth, entry, seen)


def _referee(
    results: Results, task: TaskCard, methods: list[str], scores: pd.DataFrame, cells: pd.DataFrame
) -> Referee:
    return Referee(
        results.controls,
        _gated(results, (task.data, task.model)),
        _failed(results, methods, scores, cells),
        results.chance,
        results.known_good,
        results.encoding,
        frozenset(card.name for card in results.methods if not card.seeded),
        task.networks > 1,
        results.origins,
    )


def _failed(
    results: Results, methods: list[str], scores: pd.DataFrame, cells: pd.DataFrame
) -> dict[tuple[str, str], tuple[str, str]]:
    """Status and reason of every (row, metric) of a task that did not come to scores."""
    have = set(scores[["method", "metric"]].drop_duplicates().itertuples(index=False, name=None))
    told = cells[["method", "metric", "status", "reason"]].fillna("").astype(str)
    named = {(method, metric): (status, reason) for method, metric, status, reason in told.to_numpy().tolist()}
    failed: dict[tuple[str, str], tuple[str, str]] = {}
    for method, card in product(methods, results.metrics):
        known = named.get((method, card.name)) or named.get((method, ""))
        if known is None and (method, card.name) not in have:
            known = "missing", "not in the record of the run"
        if known is not None and known[0] != "ok":
            failed[method, card.name] = known
    return failed


def _gated(results: Results, task: Task) -> dict[str, str]:
    """Why each row that failed a gate on a task did."""
    failures: dict[str, list[str]] = {}
    for gate in results.gates:
        if (gate.data, gate.model) == task and gate.verdict == "failed":
            why = f"failed the gate {gate.gate}" + (f": {gate.reason}" if gate.reason else "")
            failures.setdefault(gate.method, []).append(why)
    return {method: "; ".join(sorted(whys)) for method, whys in failures.items()}


def _costs(results: Results, task: Task) -> Iterator[Row]:
    """What each row of a task costs; a cost that was not given has no row."""
    controls = results.controls
    costs = {method: given for (data, model, method), given in results.costs.items() if (data, model) == task}
    for cost in COSTS:
        known = {
            method: given[cost.name] for method, given in costs.items() if np.isfinite(given.get(cost.name, np.nan))
        }
        others = [value for method, value in known.items() if method not in controls]
        for method, value in known.items():
            row = Row(results.suite, *task, method, cost.name, "runtime", "lower", cost.unit, float(value))
            if method in controls:
                yield replace(row, status="control", reason="a control is shown, not ranked")
            elif cost.exact:
                rank = 1 + sum(other < value for other in others)
                yield replace(row, rank=rank, rank_low=rank, rank_high=rank)
            else:
                yield row


def to_csv(board: Board) -> str:
    """The long-form table as text, the same to the byte for the same scores."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    rows = _sorted((*board.rows, *board.published))
    table.writerows([_cell(getattr(row, column)) for column in COLUMNS] for row in rows)
    return text.getvalue()


def to_agreement_csv(board: Board) -> str:
    """Every two metrics of each task: how far they order the rows alike, and which rows change places."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("data", "model", *(field.name for field in fields(Agreement)), "variants"))
    for task, pairs in board.agreements.items():
        for pair in pairs:
            *figures, moved = (getattr(pair, field.name) for field in fields(Agreement))
            places = "; ".join(f"{method} {left} to {right}" for method, left, right in moved)
            table.writerow((*map(_cell, (*task, *figures, places)), "yes" if pair.variants else "no"))
    return text.getvalue()


def _cell(value: str | float | None) -> str:
    """Six significant digits, whole numbers in full, empty for no number; text never starts a formula."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else f"{value:.6g}"
    return inert(value) if isinstance(value, str) else str(value)
