"""One metric on one task: who is ranked there, who is not and why, and how sure the ranks are.

A row is ranked if it is not a control, failed no gate, has a score for COMPLETE of the samples that any row has one
for, and is known beyond its own fit. Its value and interval are over its own samples, and every two rows are compared
on the samples that both have, so that no row changes how two others compare. Every other row is shown with its
reason. A metric that cannot separate the known-good map from the random one is blind on the task: its values are shown,
its ranks are not. One that sees, but puts a row significantly above a known-good control, keeps its ranks and is
marked. Two marks are computed from the rows: *saturated* where the means of most ranked rows are at one end of the
metric's range, so that it settles nothing and ranks nobody, and *fooled* where a control whose maps only encode the
class, by their position, is significantly above a known-good method. Whether a metric has sight is a matter of the
committed panel, not of these rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from mibench.leaderboard.row import Row
from mibench.record.cards import MetricCard
from mibench.record.panel import Entry
from mibench.statistics.arrays import Array, Counts, Mask
from mibench.statistics.means import Means
from mibench.statistics.pairs import Pairs, pairs
from mibench.statistics.seeds import Fits, Ratio, parts

COMPLETE = 0.9
METHODS = 3  # with fewer there are no places
OUTDONE = 3  # rows above what is known that are named
ALONE = "of this fit alone: one seed, and the panel has no variance of fits for this score"
SHORT = 0.05  # of a range, about the standard error of the panel's constants (64 hits or misses): no scale to order by
END = 5e-3  # of a range: means that are so near its end are at it


@dataclass(frozen=True)
class Scores:
    """All scores of one metric on one task; NaN for no score, and for a seed that a row did not run."""

    methods: tuple[str, ...]
    values: Array  # (M, S, N), oriented: higher is better
    scored: Mask  # (M, N) a score in every seed that the row ran
    reasons: Mapping[str, str]  # row -> the commonest reason for no score
    bounds: tuple[float, float]  # of the values
    ran: Array  # (M,) the share of the requested seeds that have any line

    def by(self, method: str) -> Mask:
        """Which samples a row has a score for."""
        return np.asarray(self.scored[self.methods.index(method)])

    def coverage(self, method: str) -> float:
        """The share of the requested samples and seeds that a row has a score for."""
        scored = self.by(method)
        return float(self.ran[self.methods.index(method)]) * int(scored.sum()) / max(1, len(scored))

    def means(self, referee: Referee, entry: Entry | None) -> Means:
        """The rows' means, with what the panel knows of other seeds."""
        prior = None
        if entry is not None:
            prior = entry.prior_networks if referee.networks else entry.prior_fits
        low, high = self.bounds
        found = parts(self.values)
        wide = np.full(len(self.methods), high - low)
        square = np.where(
            np.isfinite(wide), wide**2, found.sampled * found.samples
        )  # (M,) a row's own where it has no ends
        sources = {name: k for k, name in enumerate(dict.fromkeys(map(referee.fit, self.methods)))}
        fits = Fits(
            np.array([method not in referee.unseeded for method in self.methods], bool),
            square * (np.nan if prior is None else prior.level),
            np.nan if prior is None else prior.freedom,
            np.array([sources[referee.fit(method)] for method in self.methods], int),
            referee.networks,
            None if prior is None or not prior.ratio else Ratio(prior.ratio, prior.ratio_freedom, prior.samples),
        )
        return Means(self.values, fits, self.bounds)


def read(
    table: pd.DataFrame, methods: Sequence[str], samples: pd.Index[str], card: MetricCard, asked: Sequence[int]
) -> Scores:
    """Arrange one metric's scores by method, seed and sample; the order of the table's rows does not matter.

    `asked` is the number of seeds requested of each method; a seed that failed has no line in the table.
    """
    seed, seeds = pd.factorize(table["seed"], sort=True)
    method = pd.Index(methods).get_indexer(pd.Index(table["method"]))
    values = np.full((len(methods), len(seeds), len(samples)), np.nan)
    values[method, seed, samples.get_indexer(pd.Index(table["sample"]))] = card.sign * table["value"].to_numpy(float)
    ran = np.zeros((len(methods), len(seeds), 1), bool)
    ran[method, seed] = True
    scored = (np.isfinite(values) | ~ran).all(1) & ran.any(1)
    silent = table[table["value"].isna()]
    silent = silent[silent["reason"].fillna("").ne("")]
    reasons = {str(name): _commonest(group) for name, group in silent["reason"].groupby(silent["method"])}
    low, high = sorted(card.sign * bound for bound in card.range)
    count = ran.sum((1, 2))  # (M,)
    return Scores(tuple(methods), values, scored, reasons, (low, high), count / np.maximum(1, np.maximum(count, asked)))


def _commonest(reasons: pd.Series[str]) -> str:
    counted = Counter(reasons)
    return min(counted, key=lambda reason: (-counted[reason], reason))


@dataclass(frozen=True)
class Referee:
    """What decides on one task whether a row or a metric takes part."""

    controls: frozenset[str]
    gated: Mapping[str, str]  # row -> why it failed a gate
    failed: Mapping[tuple[str, str], tuple[str, str]]  # (row, metric) -> (status, reason)
    chance: str
    known_good: tuple[str, ...]
    encoding: str = ""  # the control whose position encodes the class
    unseeded: frozenset[str] = frozenset()  # rows that no seed changes
    networks: bool = False  # whether each seed has a network of its own
    origins: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # row -> its method, and whose fit it shows

    def fit(self, row: str) -> str:
        """Whose fit a row shows."""
        return self.origins.get(row, (row, row))[1]

    def methods(self, rows: Sequence[str]) -> set[str]:
        """The methods that gave some rows."""
        return {self.origins.get(row, (row, row))[0] for row in rows}


@dataclass(frozen=True)
class Panel:
    """One metric on one task: a table row for every method, and every two sound ones compared."""

    card: MetricCard
    rows: tuple[Row, ...]
    methods: tuple[str, ...]  # of `means`
    means: Means  # oriented
    sound: tuple[str, ...]  # rows that can be compared; all but those that are `alone` can be ranked
    alone: frozenset[str]
    weights: Counts  # (B, N) the task's resamples
    pairs: Pairs | None  # of the sound rows
    blind: str | None  # "" where the metric sees, else its figures; None where there was nothing to judge it by
    few: bool = False  # whether there are too few methods for places
    outdone: str = ""  # which rows are significantly above the known-good control although it sees, with figures
    saturated: str = ""  # how many of the ranked rows are at which end of the range, where most are
    fooled: str = ""  # by what figures the encoding control is significantly above a known-good method
    truth: str = ""  # "planted" where it is known
    entry: Entry | None = None  # what the committed panel knows of the metric on such data and networks …
    seen: Entry | None = None  # … and where the truth is known, on such networks

    @property
    def ranked(self) -> tuple[str, ...]:
        """The rows that can be ranked."""
        return tuple(method for method in self.sound if method not in self.alone)

    @property
    def ranks(self) -> bool:
        """Whether this metric ranks anything here."""
        return bool(self.ranked) and not (self.blind or self.card.gate or self.saturated or self.few)

    @property
    def sight(self) -> bool | None:
        """Whether the metric has sight by the panel; None where it does not know."""
        return self.seen.sight if self.seen else None

    @property
    def decides(self) -> bool:
        """Whether the metric may have a part in the order: complexity describes, and known truth decides."""
        family = self.card.family
        informs = family == "information" or (self.truth != "planted" and family != "complexity")
        return bool(self.sound) and informs and not self.card.gate

    @property
    def counts(self) -> bool:
        """Whether it has one."""
        return self.decides and self.sight is True and self.has_scale

    @property
    def has_scale(self) -> bool:
        """Whether the panel's top is well above its random maps: below them it would put the order upside down."""
        if self.entry is None:
            return False
        ahead, width = self.card.sign * (self.entry.top - self.entry.random), self.card.range[1] - self.card.range[0]
        return ahead > (SHORT * width if np.isfinite(width) else 0)

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks in the head of its column, a few words each."""
        marks = {
            "gate, not ranked": self.card.gate,
            "no sight": self.sight is False,
            "blind here": self.blind and not self.card.gate,
            "sees, but rows beat the truth": self.outdone,
            "saturated": self.saturated,
            "fooled by an encoding": self.fooled,
        }
        return tuple(words for words, true in marks.items() if true)

    def scores(self, methods: Sequence[str]) -> Means:
        """Some rows' means."""
        return self.means[[self.methods.index(method) for method in methods]]

    def samples(self, method: str) -> int:
        """How many of its samples have a score."""
        return int(self.means.parts.samples[self.methods.index(method)]) if method in self.methods else 0

    def mean(self, method: str) -> float:
        """The oriented mean of a row."""
        return float(self.means.mean[self.methods.index(method)])

    def compare(self, first: str, second: str) -> tuple[float, bool]:
        """How far one sound row is ahead of another, and whether it surely is."""
        assert self.pairs is not None
        places = self.sound.index(first), self.sound.index(second)
        return float(self.pairs.difference[places]), bool(self.pairs.above[places])

    @cached_property
    def bars(self) -> Mapping[str, float]:
        """Half the length of each sound row's comparison bar."""
        return dict(zip(self.sound, self.pairs.bars.tolist(), strict=True)) if self.pairs else {}


def judge(
    blank: Row,
    card: MetricCard,
    scores: Scores,
    weights: Counts,
    referee: Referee,
    truth: str = "",
    entry: Entry | None = None,
    seen: Entry | None = None,
) -> Panel:
    """Decide who is ranked by one metric on one task, and rank them."""
    means = scores.means(referee, entry)
    two = _Two(card, scores, means, weights, referee)
    blind = _blind(two)
    verdicts = {method: _verdict(card, scores, method, referee) for method in scores.methods}
    sound = tuple(method for method, (status, _) in verdicts.items() if status == "ok")
    alone = frozenset(np.array(scores.methods, object)[means.alone].tolist()) & {*sound}
    compared = pairs(means[[scores.methods.index(method) for method in sound]], weights) if sound else None
    panel = Panel(
        card, (), scores.methods, means, sound, alone, weights, compared, blind, truth=truth, entry=entry, seen=seen
    )
    panel = replace(
        panel,
        few=len(referee.methods(panel.ranked)) < METHODS,
        outdone=_outdone(two) if blind == "" else "",
        saturated="" if card.gate else _saturated(card, panel),
        fooled=_fooled(two),
    )
    rows = _placed(_filled(blank, panel), panel)
    judged = (_judged(row, scores, verdicts[row.method], panel) for row in rows)
    return replace(panel, rows=tuple(judged))


def _judged(row: Row, scores: Scores, verdict: tuple[str, str], panel: Panel) -> Row:
    """A row with its coverage, status and reason; a fault of the metric is the reason for all sound rows."""
    status, reason = verdict
    if status == "ok" and panel.card.gate:
        status, reason = "gate", "a gate is passed or failed, not ranked"
    elif status == "ok" and panel.blind:
        status, reason = "blind", panel.blind
    elif row.method in panel.alone:
        status, reason = "alone", "; ".join(filter(None, (ALONE, reason)))
    return replace(row, status=status, reason=reason, coverage=scores.coverage(row.method))


def why(panels: Sequence[Panel], method: str) -> str:
    """Why a row is not ranked: a failed gate is the reason for all metrics, else each reason once."""
    some = [panel for panel in panels if panel.sound] or panels  # not those that no row has a score by
    rows = [(panel, row) for panel in some for row in panel.rows if row.method == method]
    gated = [row.reason for _, row in rows if row.status == "gated"]
    plain = ("ok", "control", "gated", "gate", "blind")  # no fault of the row's
    other = [row.reason for panel, row in rows if not panel.card.gate and row.status not in plain]
    return "; ".join(dict.fromkeys(gated or other))


def _verdict(card: MetricCard, scores: Scores, method: str, referee: Referee) -> tuple[str, str]:
    """Status and reason of one row before the metric itself is judged."""
    scored, scoreable = int(scores.by(method).sum()), int(scores.scored.any(0).sum())
    why = scores.reasons.get(method, "")
    if (method, card.name) in referee.failed:
        return referee.failed[method, card.name]
    if scored == 0:
        return "incomplete", f"no sample has a score: {why or 'none was given'}"
    if method in referee.controls:
        return "control", "a control is shown, not ranked"
    if method in referee.gated:
        return "gated", referee.gated[method]
    if scored < COMPLETE * scoreable:
        return "incomplete", f"a score for {scored} of {scoreable} samples that have one: {why or 'no reason given'}"
    samples = scores.scored.shape[1]
    lacking = f"{samples - scored} of {samples} samples have no score: {why or 'no reason given'}"
    return "ok", lacking if scored < samples else ""


@dataclass(frozen=True)
class _Two:
    """Any two rows of a metric, controls among them, and on how many samples."""

    card: MetricCard
    scores: Scores
    means: Means
    weights: Counts
    referee: Referee

    def shared(self, first: str, second: str) -> int:
        """The samples that both have."""
        there = {first, second} <= {*self.scores.methods}
        return int((self.scores.by(first) & self.scores.by(second)).sum()) if there else 0

    def compare(self, first: str, second: str) -> tuple[Pairs, str, str]:
        """The pair, and the mean of each in words."""
        found = self.means[[self.scores.methods.index(row) for row in (first, second)]]
        return pairs(found, self.weights), self.words(first), self.words(second)

    def words(self, row: str) -> str:
        """A row with its mean."""
        return f"{row} {self.mean(row):.3g}"

    def mean(self, row: str) -> float:
        """In the metric's own direction."""
        return float(self.card.sign * self.means.mean[self.scores.methods.index(row)])

    @property
    def known_good(self) -> str:
        """The first known-good row that shares samples with the random one, if any."""
        chance = self.referee.chance
        return next((good for good in self.referee.known_good if self.shared(good, chance) > 1), "")


def _blind(two: _Two) -> str | None:
    """The figures by which the metric fails to separate the first known-good row with scores from the random one."""
    if two.card.gate or not two.known_good:
        return None
    found, good, chance = two.compare(two.known_good, two.referee.chance)
    if found.above[0, 1]:
        return ""
    figures = f"{good}, {chance}, p = {found.p[0, 1]:.2g}"
    return f"blind here: the known-good map is not separated from random ({figures})"


def _outdone(two: _Two) -> str:
    """The rows that the metric surely puts above what is known, best first, with figures."""
    good = two.known_good
    if good not in two.referee.controls:
        return ""  # a method like any other, which a better one may beat
    rows = [row for row in two.scores.methods if row not in two.referee.controls and two.shared(row, good) > 1]
    places = [two.scores.methods.index(row) for row in (good, *rows)]
    above = pairs(two.means[places], two.weights).above[1:, 0]
    found = sorted((-two.card.sign * two.mean(rows[k]), rows[k]) for k in np.flatnonzero(above).tolist())
    told = ", ".join(two.words(row) for _, row in found[:OUTDONE])
    more = f" and {len(found) - OUTDONE} more" if len(found) > OUTDONE else ""
    return f"{told}{more} significantly above {two.words(good)}" if found else ""


def _saturated(card: MetricCard, panel: Panel) -> str:
    """How many rows have a mean at one end of the metric's range, if most of three or more have."""
    width = card.range[1] - card.range[0]
    means = np.array([card.sign * panel.mean(row) for row in panel.sound])
    for end in filter(np.isfinite, card.range):
        there = int((abs(means - end) <= END * (width if np.isfinite(width) else 1.0)).sum())
        if len(means) > 2 and 2 * there > len(means):
            return f"{there} of {len(means)} ranked rows are at {end:g}"
    return ""


def _fooled(two: _Two) -> str:
    """By what figures the encoding control is significantly above the first known-good row that is a method."""
    methods = [row for row in two.referee.known_good if row in two.scores.methods and row not in two.referee.controls]
    if two.card.gate or not methods or two.shared(two.referee.encoding, methods[0]) < 2:
        return ""
    found, encoded, good = two.compare(two.referee.encoding, methods[0])
    return f"{encoded} significantly above {good}" if found.above[0, 1] else ""


def _filled(blank: Row, panel: Panel) -> list[Row]:
    """Rows with values and intervals, back in the metric's own direction and inside its range."""
    sign, found = panel.card.sign, panel.means
    limits = np.sort(np.clip(sign * np.array(found.intervals()), *panel.card.range), axis=0).T  # (M, 2)
    rows = zip(panel.methods, sign * found.mean, *limits.T, found.parts.samples, strict=True)
    return [
        replace(blank, method=name, value=float(value), low=float(low), high=float(high), samples=int(n))
        for name, value, low, high, n in rows
    ]


def _placed(rows: Sequence[Row], panel: Panel) -> list[Row]:
    """Rows with their ranks, where the metric ranks."""
    if not panel.ranks or panel.pairs is None:
        return list(rows)
    found = panel.pairs[[panel.sound.index(method) for method in panel.ranked]]
    (low, high), place = found.rank_interval, {name: k for k, name in enumerate(panel.ranked)}

    def ranked(row: Row, k: int) -> Row:
        return replace(row, rank=int(found.rank[k]), rank_low=int(low[k]), rank_high=int(high[k]), tie=found.leading[k])

    return [ranked(row, place[row.method]) if row.method in place else row for row in rows]
