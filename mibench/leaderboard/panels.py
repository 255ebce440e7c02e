"""One metric on one task: who is ranked there, who is not and why, and how sure the ranks are.

A row is ranked if it is not a control, failed no gate, and has a score for COMPLETE of the samples that any row has
one for; their values, intervals and ranks are over the samples that all of them have. Every other row is shown with
its reason, and its value over as many of these samples as it has. A metric that cannot separate the known-good map from
the random one, both on the same samples, is blind on the task: its values are shown, its ranks are not. One that sees,
but puts a row significantly above a known-good control, keeps its ranks and is marked: it prefers something else.
Two marks are computed from the rows: *saturated* where the means of most ranked rows are at one end of the metric's
range, so that it can no longer separate them, and *fooled* where a control whose maps only encode the class, by their
position, is significantly above a known-good method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mibench.leaderboard.row import Row
from mibench.record.cards import MetricCard
from mibench.statistics.arrays import Array, Counts, Mask
from mibench.statistics.bootstrap import Bootstrap, bootstrap, generator, intervals
from mibench.statistics.pairs import Pairs, pairs

COMPLETE = 0.9
OUTDONE = 3  # rows above what is known that are named
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

    def bootstrap(self, methods: Sequence[str], keep: Mask, weights: Counts, *names: str) -> Bootstrap:
        """Resample some rows on some samples, with random numbers of these names."""
        places = [self.methods.index(method) for method in methods]
        return bootstrap(self.values[places][:, :, keep], weights[:, keep], generator(*names), self.bounds)


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


@dataclass(frozen=True)
class Panel:
    """One metric on one task: a table row for every method, and the joint bootstrap of the ranked ones."""

    card: MetricCard
    rows: tuple[Row, ...]
    ranked: tuple[str, ...]
    scores: Array  # (ranked, S, N), oriented; NaN where a ranked row has no score
    weights: Counts  # (B, N) the task's resamples
    boot: Bootstrap | None  # of the ranked, oriented
    pairs: Pairs | None
    blind: str | None  # "" where the metric sees, else its figures; None where there was nothing to judge it by
    outdone: str = (
        ""  # which rows are significantly above the known-good control although the metric sees, with figures
    )
    saturated: str = ""  # how many of the ranked rows are at which end of the range, where most are
    fooled: str = ""  # by what figures the encoding control is significantly above a known-good method
    aside: str = ""  # why it does not count in mean ranks although it ranks, if so

    @property
    def ranks(self) -> bool:
        """Whether this metric ranks anything here."""
        return self.boot is not None and not self.blind and not self.card.gate

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks in the head of its column, a few words each."""
        said = {
            "gate, not ranked": self.card.gate,
            "blind here": self.blind and not self.card.gate,
            "sees, but rows beat the truth": self.outdone,
            "saturated": self.saturated,
            "fooled by an encoding": self.fooled,
        }
        return tuple(words for words, true in said.items() if true)

    @property
    def counts(self) -> bool:
        """Whether these ranks count in a mean rank."""
        return self.ranks and not self.aside

    def over(self, methods: Sequence[str]) -> Bootstrap:
        """The joint bootstrap of some of the ranked rows."""
        assert self.boot is not None
        return self.boot[self.places(methods)]

    def places(self, methods: Sequence[str]) -> list[int]:
        """Where some rows are among the ranked."""
        return [self.ranked.index(method) for method in methods]

    def mean(self, method: str) -> float:
        """The oriented mean of a ranked row."""
        assert self.boot is not None
        return float(self.boot.mean[self.ranked.index(method)])

    def compare(self, first: str, second: str) -> tuple[float, bool]:
        """How far one ranked row is ahead of another, and whether it surely is."""
        assert self.pairs is not None
        places = self.ranked.index(first), self.ranked.index(second)
        return float(self.pairs.difference[places]), bool(self.pairs.above[places])


def judge(blank: Row, card: MetricCard, scores: Scores, weights: Counts, referee: Referee) -> Panel:
    """Decide who is ranked by one metric on one task, and rank them."""
    names = (blank.data, blank.model, card.name)
    blind = _blind(card, scores, weights, referee, *names)
    outdone = _outdone(card, scores, weights, referee, *names) if blind == "" else ""
    fooled = _fooled(card, scores, weights, referee, *names)
    verdicts = {method: _verdict(card, scores, method, referee) for method in scores.methods}
    ranked, common = _common(scores, [method for method, (status, _) in verdicts.items() if status == "ok"])
    boot = scores.bootstrap(ranked, common, weights, *names) if ranked else None
    compared = pairs(boot) if boot else None

    rows = {method: replace(blank, method=method) for method in scores.methods}
    rows |= _filled(blank, card, ranked, boot) if boot else {}
    if compared and not blind and not card.gate:
        rows |= _placed(rows, ranked, compared)
    for method in {*scores.methods} - {*ranked}:
        keep = scores.by(method) & common if (scores.by(method) & common).any() else scores.by(method)
        if keep.any():
            rows |= _filled(blank, card, [method], scores.bootstrap([method], keep, weights, *names, method))
    judged = tuple(
        _judged(row, scores, verdicts[method], method in ranked, card.gate, blind or "") for method, row in rows.items()
    )
    values = np.where(common, scores.values[[scores.methods.index(method) for method in ranked]], np.nan)
    saturated = "" if card.gate or boot is None else _saturated(card, boot)
    return Panel(card, judged, tuple(ranked), values, weights, boot, compared, blind, outdone, saturated, fooled)


def _judged(row: Row, scores: Scores, verdict: tuple[str, str], ranked: bool, gate: bool, blind: str) -> Row:
    """A row with its coverage, status and reason; a fault of the metric is the reason for all sound rows."""
    status, reason = verdict
    if status == "ok" and not ranked:
        status, reason = "incomplete", "no sample has a score in every row"
    elif status == "ok" and gate:
        status, reason = "gate", "a gate is passed or failed, not ranked"
    elif status == "ok" and blind:
        status, reason = "blind", blind
    return replace(row, status=status, reason=reason, coverage=scores.coverage(row.method))


def why(panels: Sequence[Panel], method: str) -> str:
    """Why a row is not ranked: a failed gate is the reason for all metrics, else each reason once."""
    rows = [(panel, row) for panel in panels for row in panel.rows if row.method == method]
    gated = [row.reason for _, row in rows if row.status == "gated"]
    other = [row.reason for panel, row in rows if panel.ranks and row.status not in ("ok", "control", "gated")]
    return "; ".join(dict.fromkeys(gated or other))


def set_aside(panels: Sequence[Panel]) -> list[Panel]:
    """Mark the metrics of one task that do not count in mean ranks: variants of others, and those that fit few rows."""
    names = {panel.card.name for panel in panels}
    rows = {method for panel in panels if panel.ranks for method in panel.ranked}
    found = []
    for panel in panels:
        why = ""
        if panel.card.name != panel.card.plain and panel.card.plain in names:
            why = f"a variant of {panel.card.plain}"
        elif 2 * len(panel.ranked) < len(rows):
            why = f"it ranks only {len(panel.ranked)} of {len(rows)} rows"
        found.append(replace(panel, aside=why))
    return found


def _common(scores: Scores, complete: list[str]) -> tuple[list[str], Mask]:
    """The rows to rank and the samples to rank them on: those that all of them have."""
    everything = np.asarray(scores.scored.any(0))
    common = np.logical_and.reduce([scores.by(method) for method in complete]) & everything
    return (complete, common) if common.any() else ([], everything)


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


def _blind(card: MetricCard, scores: Scores, weights: Counts, referee: Referee, *names: str) -> str | None:
    """The figures by which the metric fails to separate the first known-good row with scores from the random one."""
    known_good, shared = _known_good(scores, referee)
    if card.gate or not known_good:
        return None
    boot = scores.bootstrap([known_good, referee.chance], shared, weights, *names, "blind")
    compared = pairs(boot)
    if compared.above[0, 1]:
        return ""
    good, chance = card.sign * boot.mean
    figures = f"{known_good} {good:.3g}, {referee.chance} {chance:.3g}, p = {compared.p[0, 1]:.2g}"
    return f"blind here: the known-good map is not separated from random ({figures})"


def _known_good(scores: Scores, referee: Referee) -> tuple[str, Mask]:
    """The first known-good row that has scores, if any, and on which samples the random one has them, too."""
    for good in referee.known_good if referee.chance in scores.methods else ():
        if good in scores.methods and (shared := scores.by(good) & scores.by(referee.chance)).sum() > 1:
            return good, shared
    return "", np.asarray(scores.scored.any(0))


def _outdone(card: MetricCard, scores: Scores, weights: Counts, referee: Referee, *names: str) -> str:
    """The rows that the metric surely puts above what is known, best first, with figures."""
    known_good, shared = _known_good(scores, referee)
    if known_good not in referee.controls:
        return ""  # a method like any other, which a better one may beat
    rows = [row for row in scores.methods if row not in referee.controls and (scores.by(row) >= shared).all()]
    if not rows:
        return ""
    boot = scores.bootstrap([known_good, *rows], shared, weights, *names, "outdone")
    above = pairs(boot).above[1:, 0]
    found = sorted((-boot.mean[1 + k], rows[k]) for k in np.flatnonzero(above).tolist())
    told = ", ".join(f"{row} {-card.sign * mean:.3g}" for mean, row in found[:OUTDONE])
    more = f" and {len(found) - OUTDONE} more" if len(found) > OUTDONE else ""
    return f"{told}{more} significantly above {known_good} {card.sign * boot.mean[0]:.3g}" if found else ""


def _saturated(card: MetricCard, boot: Bootstrap) -> str:
    """How many rows have a mean at one end of the metric's range, if most of three or more have."""
    width = card.range[1] - card.range[0]
    for end in filter(np.isfinite, card.range):
        there = int((abs(card.sign * boot.mean - end) <= END * (width if np.isfinite(width) else 1.0)).sum())
        if len(boot.mean) > 2 and 2 * there > len(boot.mean):
            return f"{there} of {len(boot.mean)} ranked rows are at {end:g}"
    return ""


def _fooled(card: MetricCard, scores: Scores, weights: Counts, referee: Referee, *names: str) -> str:
    """By what figures the encoding control is significantly above the first known-good row that is a method."""
    methods = [row for row in referee.known_good if row in scores.methods and row not in referee.controls]
    if card.gate or not methods or referee.encoding not in scores.methods:
        return ""
    shared = scores.by(referee.encoding) & scores.by(methods[0])
    if shared.sum() < 2:
        return ""
    boot = scores.bootstrap([referee.encoding, methods[0]], shared, weights, *names, "fooled")
    encoded, good = card.sign * boot.mean
    above = bool(pairs(boot).above[0, 1])
    return f"{referee.encoding} {encoded:.3g} significantly above {methods[0]} {good:.3g}" if above else ""


def _filled(blank: Row, card: MetricCard, methods: Sequence[str], boot: Bootstrap) -> dict[str, Row]:
    """Rows with values and intervals, back in the metric's own direction and inside its range."""
    limits = np.sort(np.clip(card.sign * np.array(intervals(boot)), *card.range), axis=0).T  # (M, 2)
    values = zip(methods, card.sign * boot.mean, *limits.T, strict=True)
    return {
        method: replace(
            blank, method=method, value=float(value), low=float(low), high=float(high), samples=boot.samples
        )
        for method, value, low, high in values
    }


def _placed(rows: Mapping[str, Row], ranked: Sequence[str], compared: Pairs) -> dict[str, Row]:
    places = zip(ranked, compared.rank, *compared.rank_interval, compared.letters, strict=True)
    return {
        method: replace(rows[method], rank=int(rank), rank_low=int(low), rank_high=int(high), tie=letters)
        for method, rank, low, high, letters in places
    }
