"""What several metrics say together: mean ranks, who is dominated, and where metrics disagree.

For a mean rank the rows are ranked on every single sample by every counted metric; a sample's rank is the mean over the
metrics that score it, a task's the mean over its samples, and each task counts once. No weights are made up, and a mean
rank is a mean over samples like any score: it has the same intervals, ties and rank intervals. Only rows that every
counted metric ranks take part. A row is dominated where another has a mean at least as good on every counted metric,
and can be told apart from it on one. How far two metrics agree is Kendall's tau-b of the orders of their means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from mibench.leaderboard.panels import Panel
from mibench.statistics import (
    Across,
    Bootstrap,
    Order,
    across,
    around,
    bootstrap,
    generator,
    intervals,
    orders,
    pairs,
    pool,
    sample_ranks,
    tau,
)

Task = tuple[str, str]  # data, model


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
    incomplete: tuple[tuple[str, str], ...] = ()  # row, and where it is not ranked


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
    """Where a row is not ranked, in words; nothing where it is ranked everywhere."""
    missing = {
        task: [panel.card.name for panel in some if method not in panel.ranked] for task, some in counted.items()
    }
    where = {
        "/".join(task): "" if len(names) == len(counted[task]) else f" ({', '.join(names)})"
        for task, names in missing.items()
        if names
    }
    return "; ".join(task + names for task, names in where.items())


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
    """For each row that some other is never behind and once surely above: the first such other."""
    beaten: dict[str, str] = {}
    for worse, better in permutations(methods, 2):
        ahead, surely = zip(*(panel.compare(better, worse) for panel in panels), strict=True)
        if min(ahead) >= 0 and any(surely):
            beaten.setdefault(worse, better)
    return beaten


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

    @cache
    def ordered(place: int, methods: tuple[str, ...]) -> tuple[Order, Order]:
        boot = shown[place].over(methods)
        return orders(boot.mean), orders(boot.draws)

    for left, right in combinations(range(len(shown)), 2):
        common = tuple(method for method in shown[left].ranked if method in shown[right].ranked)
        if len(common) > 2:
            (one, one_drawn), (other, other_drawn) = ordered(left, common), ordered(right, common)
            observed = float(tau(one, other))
            low, high = np.clip(around(observed, tau(one_drawn, other_drawn)), -1, 1)
            sure = _sure(shown[left], shown[right], common)
            names = shown[left].card.name, shown[right].card.name
            yield Agreement(*names, observed, float(low), float(high), *sure, _moved(shown[left], shown[right], common))


def _sure(left: Panel, right: Panel, methods: Sequence[str]) -> tuple[int, int]:
    """How many pairs of rows both metrics put surely the same way round, and how many surely the other way."""
    one, other = (_surely(panel, methods) for panel in (left, right))
    return int((one * other > 0).sum()) // 2, int((one * other < 0).sum()) // 2


def _moved(left: Panel, right: Panel, methods: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """The rows whose rank among these is another on the right, farthest first."""
    one, other = (rankdata([-panel.mean(method) for method in methods], "min").tolist() for panel in (left, right))
    moved = [(m, int(a), int(b)) for m, a, b in zip(methods, one, other, strict=True) if a != b]
    return tuple(sorted(moved, key=lambda row: -abs(row[1] - row[2])))


def _surely(panel: Panel, methods: Sequence[str]) -> npt.NDArray[np.int64]:
    """1 where the row is surely above the column, -1 where it is surely below, else 0."""
    assert panel.pairs is not None
    above = panel.pairs.above[np.ix_(panel.places(methods), panel.places(methods))]
    return above.astype(np.int64) - above.T


@dataclass(frozen=True)
class Flip:
    """Two rows whose order hangs on the metric: each is surely above the other somewhere."""

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
    """Friedman's, Nemenyi's and Wilcoxon's tests of the mean ranks of the rows that stand on every task."""
    named = [{place.method: place.mean for place in task.places} for task in tasks if task.places]
    methods = tuple(sorted(set(named[0]).intersection(*named))) if named else ()
    ranks = np.array([[task[method] for method in methods] for task in named])
    return methods, across(-ranks) if methods else None
