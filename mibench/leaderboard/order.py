"""The order of the methods: who is best, who cannot be told from it, and the rest.

    standing = mean over tasks, of the mean over families, of the mean over the scores that count, of
               (score - random) / (top - random)                                                       (1)

with constants of the committed panel: what random maps score there, and what the truth does, or occlusion where the
truth is not known. Only scores with sight count, by the panel, and only where that top is well above its random maps:
below them it would put the order upside down. Complexity describes; and where the truth is known information alone
decides. A method has one vote, however many maps it gives: its first map's. A standing is a mean over samples like any
score (2), so it has the same intervals, ties and bars, and no other row has a part in it. A method that lacks a score
that counts has no place; its pairs are judged on the scores that both have. Fewer than METHODS methods have no places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mibench.leaderboard.panels import ALONE, METHODS, Panel, why
from mibench.statistics.arrays import LEVEL, Counts
from mibench.statistics.means import Means
from mibench.statistics.pairs import holm, pairs

Task = tuple[str, str]  # data, model
Score = tuple[Task, Panel]


@dataclass(frozen=True)
class Standing:
    """One row's standing; a place only where it has one."""

    method: str
    value: float
    low: float
    high: float
    bar: float = np.nan  # half the length of its comparison bar
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    leading: str = ""  # "best", "with the best", or nothing
    why: str = ""  # why it has no place


@dataclass(frozen=True)
class Order:
    """The standings over some tasks, best first."""

    scores: tuple[Score, ...]  # that count
    places: tuple[Standing, ...] = ()  # of methods that have them all
    controls: tuple[Standing, ...] = ()  # of controls that have them all, never placed
    incomplete: tuple[tuple[str, str], ...] = ()  # other methods, and which scores they lack and why
    compared: int = 0  # pairs
    why: str = ""  # why there is no order, or no places in it
    baselines: frozenset[str] = frozenset()

    @property
    def placed(self) -> tuple[Standing, ...]:
        """Those that have a place."""
        return tuple(each for each in self.places if each.rank is not None)

    @property
    def ranks(self) -> dict[str, int]:
        """The place of each method that has one."""
        return {each.method: each.rank for each in self.places if each.rank is not None}

    def leading(self, word: str) -> list[str]:
        """The rows that are "best" or "with the best"."""
        return [each.method for each in self.placed if each.leading == word]

    @property
    def baseline(self) -> Standing | None:
        """The best of the methods that draw nothing at random and claim no unit of information."""
        return next((each for each in self.placed if each.method in self.baselines), None)

    def known(self, known_good: Sequence[str]) -> str:
        """The truth's own place and the best baseline's, in words."""
        truth = next((each for name in known_good for each in self.controls if each.method == name), None)
        found = []
        if truth and self.placed:
            place = 1 + sum(each.value > truth.value for each in self.placed)
            found = [f"the truth ({truth.method}) would have place {place} ({truth.value:.2f})"]
        if self.baseline:
            found += [f"the best baseline is {self.baseline.method}, place {self.baseline.rank}"]
        return "; ".join(found)

    @cached_property
    def partial(self) -> Mapping[str, Partial]:
        """How each method without all scores compares with the others, on the scores that both have."""
        others = [each.method for each in self.places] + [method for method, _ in self.incomplete]
        return {method: _partial(self.scores, method, others) for method, _ in self.incomplete}


@dataclass(frozen=True)
class Partial:
    """The rows that a method is significantly above, below, or neither, where they share a score that counts."""

    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()


def order(
    panels: Mapping[Task, Sequence[Panel]], methods: Sequence[str], controls: Sequence[str], baselines: frozenset[str]
) -> Order:
    """Put methods in order over some tasks; `methods` names each by its first map."""
    scores = tuple((task, panel) for task, some in panels.items() for panel in some if panel.counts)
    if not scores:
        return Order((), why=_why_none([panel for some in panels.values() for panel in some]))
    lacks = {method: _lacks(scores, method) for method in methods}
    whole = [method for method, missing in lacks.items() if not missing]
    incomplete = tuple((method, missing) for method, missing in lacks.items() if missing)
    shown = [row for row in controls if all(panel.samples(row) for _, panel in scores)]
    places, compared = _places(scores, whole)
    few = f"fewer than {METHODS} methods have all scores that count and are known beyond their own fit"
    reason = "" if any(each.rank for each in places) else few
    known = _standings(standing(scores, shown)[0], shown)
    return Order(scores, places, known, incomplete, compared, reason, baselines)


def _why_none(panels: Sequence[Panel]) -> str:
    """Why no score counts: what the panel lacks, or which scores have no sight."""
    deciding = [panel for panel in panels if panel.decides]
    unknown = list(dict.fromkeys(panel.card.name for panel in deciding if panel.entry is None or panel.sight is None))
    sightless = list(dict.fromkeys(panel.card.name for panel in deciding if panel.sight is False))
    found = [f"the panel lacks {_some(unknown)}"] if unknown else []
    found += [f"no sight: {_some(sightless)}"] if sightless else []
    found += [
        f"in the panel {top} is not well above random: {_some(names)}" for top, names in _unscaled(deciding).items()
    ]
    return "; ".join(found) or "no score is requested that could decide it"


def _unscaled(panels: Sequence[Panel]) -> Mapping[str, Sequence[str]]:
    """The scores with sight that have no scale, by whose score would be its top."""
    found: dict[str, list[str]] = {}
    for panel in panels:
        if panel.sight and panel.entry and not panel.has_scale:
            found.setdefault(panel.entry.top_is, []).append(panel.card.name)
    return {top: list(dict.fromkeys(names)) for top, names in found.items()}


def _some(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more scores" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _lacks(scores: Sequence[Score], method: str) -> str:
    """Which scores that count a method lacks and why, in words; nothing where it has all."""
    found = []
    for task in dict.fromkeys(task for task, _ in scores):
        here = [panel for place, panel in scores if place == task]
        missing = [panel for panel in here if method not in panel.sound]
        if missing:
            names = ", ".join(panel.card.name for panel in missing)
            where = "/".join(task) + ("" if len(missing) == len(here) else f" ({names})")
            found.append(f"{where}: {why(missing, method) or 'it was not run there'}")
    return "; ".join(found)


def standing(scores: Sequence[Score], rows: Sequence[str]) -> tuple[Means, Counts]:
    """The standings (1) of rows that have all these scores, as means over samples (2), and their resamples.

        y_si = sum over scores k of c_k (mean_ks + (y_ksi - mean_ks) N / n_k) + a constant                     (2)

    over the N samples of all tasks, of which n_k have score k: its mean is (1), its variance that of (1). Seeds are
    expected to move all scores of a task together, the most that they can add up to.
    """
    tasks = {task: panel.weights for task, panel in scores}
    ends = np.cumsum([0, *(weights.shape[1] for weights in tasks.values())])
    place = {task: slice(*ends[k : k + 2]) for k, task in enumerate(tasks)}
    found = [
        (task, panel, panel.scores(rows), share) for (task, panel), share in zip(scores, _shares(scores), strict=True)
    ]
    seeds = max(means.scores.shape[1] for _, _, means, _ in found)
    y, ran = np.zeros((len(rows), seeds, ends[-1])), np.ones((len(rows), seeds), bool)
    spread = {task: np.zeros(len(rows)) for task in tasks}
    for task, panel, means, share in found:
        assert panel.entry is not None
        wide = panel.entry.top - panel.entry.random
        scale = share * panel.card.sign / wide
        there = np.isfinite(means.averaged)[:, None]  # (M, 1, n)
        mine = np.pad(means.scores, ((0, 0), (0, seeds - means.scores.shape[1]), (0, 0)), constant_values=np.nan)
        mean = np.where(there, np.nan_to_num(mine), 0).sum(2) / there.sum(2)  # (M, S)
        ran &= np.isfinite(mine).any(2)
        y += scale * mean[..., None] - share * panel.entry.random / wide
        y[..., place[task]] += scale * np.where(there, mine - mean[..., None], 0) * ends[-1] / there.sum(2)[..., None]
        spread[task] += abs(scale) * np.sqrt(means.fits.prior)
    first = found[0][2].fits
    prior = np.sum([each**2 for each in spread.values()], axis=0)
    freedom = float(np.min([means.fits.freedom for _, _, means, _ in found]))
    networks = any(means.fits.networks for _, _, means, _ in found)
    fits = replace(first, prior=prior, freedom=freedom, networks=networks)
    weights = np.concatenate([*tasks.values()], 1)
    return Means(np.where(ran[..., None], y, np.nan), fits), weights


def _shares(scores: Sequence[Score]) -> Iterator[float]:
    """The share of each score in a standing: tasks count once each, families once in each, scores once in each."""
    tasks = {task for task, _ in scores}
    for task, panel in scores:
        here = [other.card.family for place, other in scores if place == task]
        yield 1 / len(tasks) / len({*here}) / here.count(panel.card.family)


def _standings(means: Means, rows: Sequence[str], bars: Sequence[float] | None = None) -> tuple[Standing, ...]:
    """Values with their intervals, best first."""
    if not rows:
        return ()
    columns = rows, means.mean.tolist(), *(each.tolist() for each in means.intervals()), bars or [np.nan] * len(rows)
    return tuple(
        sorted((Standing(*row) for row in zip(*columns, strict=True)), key=lambda each: (-each.value, each.method))
    )


def _places(scores: Sequence[Score], rows: Sequence[str]) -> tuple[tuple[Standing, ...], int]:
    """The standings of rows that have all scores, and the places of those that are known beyond their own fit."""
    if not rows:
        return (), 0
    means, weights = standing(scores, rows)
    compared = pairs(means, weights)
    shown = _standings(means, rows, compared.bars.tolist())
    ranked = np.flatnonzero(~means.alone).tolist()
    if len(ranked) < METHODS:
        return tuple(
            replace(each, why=ALONE if means.alone[rows.index(each.method)] else "") for each in shown
        ), compared.compared
    among = compared[ranked]
    columns = zip(
        ranked, among.rank.tolist(), *(each.tolist() for each in among.rank_interval), among.leading, strict=True
    )
    placed = {rows[k]: words for k, *words in columns}
    names = ("rank", "rank_low", "rank_high", "leading")
    found = [
        replace(each, **dict(zip(names, placed[each.method], strict=True)))
        if each.method in placed
        else replace(each, why=ALONE)
        for each in shown
    ]
    return tuple(found), compared.compared


def _partial(scores: Sequence[Score], method: str, others: Sequence[str]) -> Partial:
    """One method against each of the others, on the scores that both have; adjusted for all of them (Holm)."""
    found: list[tuple[str, float, float]] = []
    for other in others:
        both = [(task, panel) for task, panel in scores if {method, other} <= {*panel.sound}]
        if other != method and both:
            pair = pairs(*standing(both, [method, other]))
            found.append((other, float(pair.difference[0, 1]), float(pair.p[0, 1])))
    sure = holm(np.array([p for *_, p in found], float)) <= 1 - LEVEL
    sign = [int(apart) * (1 if difference > 0 else -1) for (_, difference, _), apart in zip(found, sure, strict=True)]
    return Partial(
        *(tuple(name for (name, *_), s in zip(found, sign, strict=True) if s == wanted) for wanted in (1, -1, 0))
    )
