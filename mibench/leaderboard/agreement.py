"""Where metrics agree and where they disagree: Kendall's tau-b of the orders of their means, and rows that flip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mibench.leaderboard.panels import Panel
from mibench.statistics.agreement import around, taus
from mibench.statistics.arrays import Array, Whole

BLOCK = 100  # draws whose orders are held at once


@dataclass(frozen=True)
class Agreement:
    """How far two metrics order the same rows alike: Kendall's tau-b, from -1 to 1."""

    left: str
    right: str
    tau: float
    low: float
    high: float
    alike: int  # pairs of rows that both metrics surely put the same way round
    opposed: int  # and that they surely put opposite ways round
    moved: tuple[tuple[str, int, int], ...]  # row, its rank on the left and on the right, where they differ

    @property
    def variants(self) -> bool:
        """Whether both are one metric with other settings."""
        return self.left.partition("[")[0] == self.right.partition("[")[0]


def agreements(panels: Sequence[Panel]) -> Iterator[Agreement]:
    """Every two metrics of one task, blind ones too, over the rows that both score."""
    shown = [panel for panel in panels if panel.pairs and not panel.card.gate]
    methods = sorted({method for panel in shown for method in panel.sound})
    if len(shown) < 2:
        return
    means, drawn, surely = (
        np.stack(each, -2) for each in zip(*(_among(panel, methods) for panel in shown), strict=True)
    )
    observed = taus(means)  # (K, K)
    resampled = np.concatenate([taus(block) for block in np.array_split(drawn, len(drawn) // BLOCK + 1)])  # (B, K, K)
    for left, right in combinations(range(len(shown)), 2):
        common = np.isfinite(means[left]) & np.isfinite(means[right])
        if common.sum() > 2:
            low, high = np.clip(around(observed[left, right], resampled[:, left, right]), -1, 1)
            alike = surely[left] * surely[right]
            sure = int((alike > 0).sum()), int((alike < 0).sum())
            names = shown[left].card.name, shown[right].card.name
            moved = _moved(
                [method for method, each in zip(methods, common, strict=True) if each], *means[[left, right]][:, common]
            )
            yield Agreement(*names, float(observed[left, right]), float(low), float(high), *sure, moved)


def _among(panel: Panel, methods: Sequence[str]) -> tuple[Array, Array, Whole]:
    """A panel's means (M,), draws (B, M), and sure orders (P,) of every two methods, 1 or -1; NaN and 0: no score."""
    assert panel.pairs is not None
    places, found = [methods.index(method) for method in panel.sound], panel.scores(panel.sound)
    mean, draws = np.full(len(methods), np.nan), np.full((len(panel.weights), len(methods)), np.nan)
    mean[places], draws[:, places] = found.mean, found.draws(panel.weights)
    above = np.zeros((len(methods), len(methods)), int)
    above[np.ix_(places, places)] = panel.pairs.above
    return mean, draws, (above - above.T)[np.triu_indices(len(methods), 1)]


def _moved(methods: Sequence[str], *means: Array) -> tuple[tuple[str, int, int], ...]:
    """The rows whose rank among these is another on the right, farthest first."""
    left, right = (1 + (mean > mean[:, None]).sum(1) for mean in means)
    moved = [(m, a, b) for m, a, b in zip(methods, left.tolist(), right.tolist(), strict=True) if a != b]
    return tuple(sorted(moved, key=lambda row: -abs(row[1] - row[2])))


@dataclass(frozen=True)
class Flip:
    """Two rows whose order depends on the metric: each is significantly above the other somewhere."""

    first: str
    second: str
    first_above: tuple[str, ...]
    second_above: tuple[str, ...]


def flips(panels: Sequence[Panel]) -> Iterator[Flip]:
    """Every two rows that some metrics of one task put surely one way round, and others the other way."""
    shown = [panel for panel in panels if not (panel.card.gate or panel.blind)]
    for first, second in combinations(sorted({method for panel in shown for method in panel.sound}), 2):
        both = [panel for panel in shown if first in panel.sound and second in panel.sound]
        ahead = tuple(panel.card.name for panel in both if panel.compare(first, second)[1])
        behind = tuple(panel.card.name for panel in both if panel.compare(second, first)[1])
        if ahead and behind:
            yield Flip(first, second, ahead, behind)
