"""`mibench.compare`: several methods by several metrics on the same samples, with paired intervals.

The scores go through the same statistics as those of a run, so that values, intervals, ranks and ties mean the same.
One seed is explained: what another fit would change is not in the intervals, but in those of a run of several seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from mibench.api import scenes
from mibench.api.maps import Maps
from mibench.api.progress import bar
from mibench.api.shown import Shown
from mibench.api.single import Pair, maps_of, ready
from mibench.errors import UsageError
from mibench.leaderboard.declared import metric_card
from mibench.leaderboard.panels import Panel
from mibench.leaderboard.results import CELLS, SCORES, Results, TaskCard
from mibench.leaderboard.tables import board
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, Metric
from mibench.plugins.registry import Method
from mibench.record.cards import MethodCard
from mibench.record.cells import Outcome
from mibench.statistics.pairs import pairs

if TYPE_CHECKING:
    from mibench.api.opening import Net

DATA = "the samples given"


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Methods side by side: `frame()`, `pairs()`, the maps, and a table where a notebook shows it."""

    maps: Mapping[str, Maps]  # method -> its maps

    def pairs(self) -> pd.DataFrame:
        """Every two methods by every metric: how far the first is from the second, on the samples that both score.

        `low` and `high` hold the paired difference of their means with 95 % confidence, in the metric's own direction;
        `p`, that there is none, is adjusted for all pairs of the metric, and names the `better` one below 5 %.
        """
        lines = [line for panels in self.board.panels.values() for panel in panels for line in _differences(panel)]
        return pd.DataFrame(lines, columns=["metric", "first", "second", "difference", "low", "high", "p", "better"])


def compare(
    net: Net,
    x: Tensor,
    y: Tensor | int,
    methods: Sequence[str | Explainer],
    metrics: Sequence[str | Metric],
    *,
    calibration: Pair | None = None,
    reference: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
) -> Comparison:
    """Explain the classes y of x by every method, and score the maps by every metric.

    Methods are names or explainers; those that learn and have not been fitted to this network learn from
    `calibration`, samples and their labels. `reference` are samples whose mean takes the place of what is removed: the
    calibration samples, or x where there are none.
    """
    if not methods or not metrics:
        raise UsageError('name methods and metrics, such as compare(net, x, y, ["gradcam", "ig"], ["irof"])')
    found = [registry.metric(each) if isinstance(each, str) else each for each in metrics]
    fitted = [ready(net, each, calibration, seed) for each in bar(methods, len(methods), "fitting")]
    chosen = dict(_named(fitted))
    maps = {row: maps_of(net, each, x, y, seed) for row, each in bar(chosen.items(), len(chosen), "explaining")}
    scene = net.scene(x, y, reference if calibration is None or reference is not None else calibration[0], mask, seed)
    rows = {row: scenes.seen(each, scene) for row, each in maps.items()}
    scores: list[tuple[object, ...]] = []
    cells: list[tuple[object, ...]] = []
    with net.at_work({}):
        for metric in bar(found, len(found), "scoring"):
            label = registry.label(metric)
            for row, outcome in scenes.outcomes(metric, scene, rows).items():
                scores += _lines(net.name, row, label, outcome)
                cells.append((DATA, net.name, row, label, outcome.status, outcome.reason))
    results = Results(
        suite=f"{net.name}: {len(x)} samples",
        scores=pd.DataFrame(scores, columns=[*SCORES]),
        cells=pd.DataFrame(cells, columns=[*CELLS]),
        metrics=tuple(metric_card(metric) for metric in found),
        methods=tuple(_card(row, each) for row, each in chosen.items()),
        tasks=(TaskCard(DATA, net.name),),
    )
    return Comparison(board(results), maps)


def _named(methods: Sequence[Method]) -> Iterator[tuple[str, Method]]:
    """Methods by their labels; of two fits with the same parameters the second gets a number."""
    seen: dict[str, int] = {}
    for method in methods:
        label = method.label
        seen[label] = seen.get(label, 0) + 1
        yield label if seen[label] == 1 else f"{label} ({seen[label]})", method


def _card(row: str, method: Method) -> MethodCard:
    explainer, spec = method.explainer, method.explainer.maps[0]
    facts = (method.control, spec.unit, spec.signed, explainer.paper, explainer.of_class, explainer.seeded)
    return MethodCard(row, explainer.title, *facts)


def _lines(model: str, row: str, metric: str, outcome: Outcome) -> Iterator[tuple[object, ...]]:
    """One line for each sample, as a run records it."""
    for number, (value, reason) in enumerate(zip(outcome.scores, outcome.reasons, strict=True)):
        yield DATA, model, row, metric, 0, f"{number:06d}", value, reason


def _differences(panel: Panel) -> list[tuple[object, ...]]:
    """The paired differences of every two rows that one metric scored."""
    rows = [method for method in panel.methods if panel.samples(method)]
    found, sign = pairs(panel.scores(rows), panel.weights), panel.card.sign
    lines: list[tuple[object, ...]] = []
    for i, j in combinations(range(len(rows)), 2):
        difference, limits = sign * found.difference[i, j], sorted((sign * found.low[i, j], sign * found.high[i, j]))
        better = rows[i] if found.above[i, j] else rows[j] if found.above[j, i] else ""
        lines.append((panel.card.name, rows[i], rows[j], difference, *limits, found.p[i, j], better))
    return lines
