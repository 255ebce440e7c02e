"""Several metrics combined: mean ranks, dominated rows, and where metrics disagree.

For a mean rank the rows are ranked on every single sample by every counted metric; a sample's rank is the mean over the
metrics that score it, a task's the mean over its samples, and each task counts once. No weights are made up, and a mean
rank is a mean over samples like any score: it has the same intervals, ties and rank intervals. Only rows that every
counted metric ranks take part. A row is dominated where another has a mean at least as good on every counted metric,
and is significantly better on one. How far two metrics agree is Kendall's tau-b of the orders of their means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mibench.leaderboard.panels import Panel, why
from mibench.statistics.across import Across, across
from mibench.statistics.agreement import around, sample_ranks, taus
from mibench.statistics.arrays import Array, Whole
from mibench.statistics.bootstrap import Bootstrap, bootstrap, generator, intervals, pool
from mibench.statistics.pairs import pairs

Task = tuple[str, str]  # data, model
BLOCK = 100  # draws whose orders are held at once


@dataclass(frozen=True)
class Standing:
    """One row's place over several metrics."""

    method: str
    mean: float
    low: float
    high: float
    rank: int
    rank_low: int
    rank_high: int
    tie: str
    dominated: str = ""  # by which row


@dataclass(frozen=True)
class Standings:
    """Mean ranks over some panels, best first, and who could not be counted."""

    places: tuple[Standing, ...] = ()
    panels: int = 0  # how many (task, metric) count
    incomplete: tuple[tuple[str, str], ...] = ()  # row, and where and why it has no rank


def standings(panels: Mapping[Task, Sequence[Panel]]) -> Standings:
    """Rank the rows that every counted panel ranks by their mean rank."""
    counted = {task: [panel for panel in some if panel.counts] for task, some in panels.items()}
    counted = {task: some for task, some in counted.items() if some}
    every = [panel for some in counted.values() for panel in some]
    anyone = sorted({method for panel in every for method in panel.ranked})
    lacks = {method: _lacks(counted, method) for method in anyone}
    methods = [method for method in anyone if not lacks[method]]
    incomplete = tuple((method, where) for method, where in lacks.items() if where)
    if not methods:
        return Standings((), len(every), incomplete)
    boot = pool([_mean_ranks(task, some, methods) for task, some in counted.items()])
    compared, (worst, best) = pairs(boot), intervals(boot)  # boot holds ranks with their sign turned
    worst, best = np.clip((-worst, -best), 1, len(methods))
    beaten = _dominated(every, [methods[k] for k in np.argsort(-boot.mean, kind="stable")])
    columns = (methods, -boot.mean, best, worst, compared.rank, *compared.rank_interval, compared.letters)
    places = [
        Standing(
            name, float(mean), float(low), float(high), int(rank), int(first), int(last), tie, beaten.get(name, "")
        )
        for name, mean, low, high, rank, first, last, tie in zip(*columns, strict=True)
    ]
    return Standings(tuple(sorted(places, key=lambda place: (place.mean, place.method))), len(every), incomplete)


def _lacks(counted: Mapping[Task, Sequence[Panel]], method: str) -> str:
    """Where a row has no rank and why, in words; nothing where it is ranked everywhere."""
    found = []
    for task, some in counted.items():
        missing = [panel for panel in some if method not in panel.ranked]
        if missing:
            names = ", ".join(panel.card.name for panel in missing)
            where = "/".join(task) + ("" if len(missing) == len(some) else f" ({names})")
            found.append(f"{where}: {why(missing, method) or 'it was not run there'}")
    return "; ".join(found)


def _mean_ranks(task: Task, panels: Sequence[Panel], methods: Sequence[str]) -> Bootstrap:
    """Resample the rank of each row on each sample, the mean over those metrics of one task that score the sample."""
    ranks = [sample_ranks(panel.scores[panel.places(methods)]) for panel in panels]  # each (M, S, N), S as it ran
    seeds = max(one.shape[1] for one in ranks)
    filled = np.stack([one[:, np.resize(np.arange(one.shape[1]), seeds)] for one in ranks])  # (K, M, S, N)
    scored = np.isfinite(filled[:, 0, 0]).any(0)  # (N,)
    mean = np.nanmean(filled[..., scored], axis=0)  # (M, S, n)
    names = sorted(panel.card.name for panel in panels)
    return bootstrap(-mean, panels[0].weights[:, scored], generator("ranks", *task, *names))


def _dominated(panels: Sequence[Panel], methods: Sequence[str]) -> dict[str, str]:
    """For each dominated row, the first row that is nowhere worse and somewhere significantly better."""
    compared = [(panel.pairs, np.ix_(panel.places(methods), panel.places(methods))) for panel in panels if panel.pairs]
    never_behind = np.all([pairs.difference[places] >= 0 for pairs, places in compared], axis=0)  # (M, M)
    better = never_behind & np.any([pairs.above[places] for pairs, places in compared], axis=0)
    return {methods[worse]: methods[int(better[:, worse].argmax())] for worse in np.flatnonzero(better.any(0)).tolist()}


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
    """Every two metrics of one task, blind ones too, over the rows that both rank."""
    shown = [panel for panel in panels if panel.boot and not panel.card.gate]

    methods = sorted({method for panel in shown for method in panel.ranked})
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
    """A panel's means (M,), draws (B, M), and sure orders (P,) of every two methods, 1 or -1; NaN and 0 for no rank."""
    assert panel.boot is not None
    assert panel.pairs is not None
    places = [methods.index(method) for method in panel.ranked]
    mean, draws = np.full(len(methods), np.nan), np.full((len(panel.boot.draws), len(methods)), np.nan)
    mean[places], draws[:, places] = panel.boot.mean, panel.boot.draws
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
    """Every two rows that some counted metrics of one task put surely one way round, and others the other way."""
    counted = [panel for panel in panels if panel.counts]
    for first, second in combinations(sorted({method for panel in counted for method in panel.ranked}), 2):
        both = [panel for panel in counted if first in panel.ranked and second in panel.ranked]
        ahead = tuple(panel.card.name for panel in both if panel.compare(first, second)[1])
        behind = tuple(panel.card.name for panel in both if panel.compare(second, first)[1])
        if ahead and behind:
            yield Flip(first, second, ahead, behind)


def over_tasks(tasks: Sequence[Standings]) -> tuple[tuple[str, ...], Across | None]:
    """Friedman's, Nemenyi's and Wilcoxon's tests of the mean ranks of the rows that are ranked on every task."""
    named = [{place.method: place.mean for place in task.places} for task in tasks if task.places]
    methods = tuple(sorted(set(named[0]).intersection(*named))) if named else ()
    ranks = np.array([[task[method] for method in methods] for task in named])
    return methods, across(-ranks) if methods else None
