"""Two runs of the same suite side by side: what became better or worse, and whether that is more than noise.

A score has changed when its mean difference is larger than the family's threshold *and* significant. Where both sides
have every sample's score the samples are paired, and both of two tests must reject: Student's, which trusts the mean,
and Wilcoxon's, which trusts no outlier. Where one side has intervals alone, they are all that is used. The level holds
for the whole table (Holm), so that a gate over hundreds of unchanged scores stays silent 99 times in 100.

Some samples are drawn and small networks trained where they are used, and another processor rounds otherwise: the same
recipe ends at other weights. Such a network answers the same question again, so it is compared; but its samples no
longer pair (they all move with the network), and sampling errors alone would be too small: as much is added to them
as networks of one recipe were seen to differ (`thresholds.Retrained`). Any other samples or weights are not compared.

Counts (FLOPs, passes) have no noise: any rise beyond their tolerance is a change. Multiples of a forward are judged
coarsely, and between processors of one kind alone. Seconds and memory are not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, ttest_1samp, wilcoxon
from scipy.stats import t as student

from mibench.errors import MibenchError
from mibench.leaderboard.results import COSTS
from mibench.statistics import holm
from mibench.thresholds import Effects, Retrained, Thresholds

EXACT = tuple(cost.name for cost in COSTS if cost.exact)
MULTIPLE = "forwards"
FEWEST = 6  # paired samples; with fewer, intervals are used
NORMAL = float(norm.ppf(0.975))  # half a 95 % interval in standard errors

Verdict = Literal["same", "better", "worse", "lost", "gated", "new", "absent"]


class NotComparable(MibenchError):
    """The two sides do not answer the same question."""

    code = 4


class Row(NamedTuple):
    """Where a score stands."""

    data: str
    model: str
    method: str
    metric: str

    @property
    def task(self) -> str:
        """The task's name."""
        return f"{self.data}/{self.model}"


@dataclass(frozen=True)
class Side:
    """One run, or one committed leaderboard, as far as a comparison needs it.

    `identity` says by name what it was made from: "data of TASK", "weights of TASK" and "metric NAME" must be equal on
    both sides; "drawing of TASK" excuses samples whose last digits differ, "recipe of TASK" and "accuracy of TASK"
    other weights; "machine" is where it was made; "asks" names what was asked for in full ("methods", "metrics"), so
    that what is not there has vanished.
    """

    name: str
    identity: Mapping[str, str]
    table: pd.DataFrame  # the long-form leaderboard
    scores: pd.DataFrame | None = None  # per sample: Row's columns, seed, sample, value; None where not at hand
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of the metrics

    def says(self, kind: str) -> dict[str, str]:
        """The identity's entries of one kind ("data of", "metric" …), by the name of what they speak of."""
        start = f"{kind} "
        return {key.removeprefix(start): value for key, value in self.identity.items() if key.startswith(start)}

    @cached_property
    def rows(self) -> dict[Row, dict[str, Any]]:
        """The table by row."""
        records = self.table.to_dict("records")
        named = ({str(column): value for column, value in record.items()} for record in records)
        return {Row(*(str(record[column]) for column in Row._fields)): record for record in named}

    @cached_property
    def samples(self) -> dict[Row, pd.Series[float]]:
        """Every sample's score by row, averaged over seeds."""
        if self.scores is None:
            return {}
        means = self.scores.groupby([*Row._fields, "sample"], sort=True)["value"].mean()
        grouped = means.groupby(level=list(range(4)), sort=False)
        keyed: Iterable[tuple[Any, pd.Series[float]]] = grouped
        return {Row(*map(str, key)): values.droplevel([0, 1, 2, 3]) for key, values in keyed}

    @cached_property
    def has(self) -> dict[str, set[str]]:
        """The methods and metrics that have a row, and the tasks."""
        return {
            "methods": {row.method for row in self.rows},
            "metrics": {row.metric for row in self.rows},
            "tasks": {row.task for row in self.rows},
        }


@dataclass(frozen=True)
class Change:
    """What became of one score; `difference` is positive where the later side is better."""

    row: Row
    family: str
    before: float = np.nan
    after: float = np.nan
    difference: float = np.nan
    p: float = np.nan  # adjusted for the whole table; NaN for counts
    verdict: Verdict = "same"
    reason: str = ""

    @property
    def is_regression(self) -> bool:
        """Whether a gate should stop this."""
        return self.verdict in ("worse", "lost", "gated")


@dataclass(frozen=True)
class Comparison:
    """Every row that either side has a number for, in the order of the table."""

    changes: tuple[Change, ...]
    thresholds: Thresholds
    retrained: tuple[str, ...] = ()  # the tasks whose networks were trained again, or ran on another processor
    paired: int = 0  # scores whose samples were paired

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What a gate should stop."""
        return tuple(change for change in self.changes if change.is_regression)


def compare(before: Side, after: Side, thresholds: Thresholds) -> Comparison:
    """What became of everything that either side has a number for."""
    _refuse_other_questions(before, after, thresholds)
    retrained = _retrained(before, after)
    same_machine = before.identity.get("machine") == after.identity.get("machine")
    changes = [*_newly_gated(before, after, retrained)]
    quality: list[_Judged] = []
    for row in sorted(set(before.rows) | set(after.rows)):
        was, now = before.rows.get(row, {}), after.rows.get(row, {})
        if not (_has_value(was) and _has_value(now)):
            changes += _one_sided(row, was, now, after)
        elif now["family"] != "runtime":
            effects = thresholds.retrained if row.task in retrained else thresholds
            quality.append(_Judged(row, before, after, effects))
        elif row.metric in EXACT:
            tolerance = (thresholds.retrained if row.task in retrained else thresholds).counts
            changes.append(_count(row, was["value"], now["value"], tolerance * was["value"]))
        elif row.metric == MULTIPLE and same_machine:
            allowed = max(1.0, thresholds.forwards * was["value"])
            changes.append(_count(row, was["value"], now["value"], allowed))
    reach = thresholds.level / max(1, len(quality))
    differences = [each.difference(reach) for each in quality]
    adjusted = holm(np.array([p for _, p in differences]))
    for each, (difference, _), p in zip(quality, differences, adjusted, strict=True):
        changes.append(each.change(difference, float(p), thresholds.level))
    paired = sum(each.pairs is not None for each in quality)
    ordered = tuple(sorted(changes, key=lambda change: change.row))
    return Comparison(ordered, thresholds, tuple(sorted(retrained)), paired)


def _refuse_other_questions(before: Side, after: Side, thresholds: Thresholds) -> None:
    """Refuse other samples, another metric, and weights that the same recipe does not excuse, naming them all."""
    names = f"{before.name} and {after.name}"
    if not set(before.says("data of")) & set(after.says("data of")):
        raise NotComparable(f"{names} have no task in common: compare runs of the same suite")
    differing = [f"the version of metric {name}" for name in _differing("metric", before, after)]
    drawn, taught = _shared("drawing of", before, after), _shared("recipe of", before, after)
    differing += [f"the samples of {task}" for task in _differing("data of", before, after) if task not in drawn]
    for task in _differing("weights of", before, after):
        if task not in taught:
            known = task in before.says("recipe of") and task in after.says("recipe of")
            differing.append(f"the {'recipe of the network' if known else 'weights'} of {task}")
        elif abs(gap := _accuracy(after, task) - _accuracy(before, task)) > thresholds.retrained.accuracy:
            differing.append(f"the accuracy of the network of {task}, trained anew by the same recipe ({gap:+.1%})")
    if differing:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise NotComparable(
            f"{names} cannot be compared, for they differ in {'; '.join(differing[:5])}{more}: "
            "make the older side again with this version"
        )
    if not any(_has_value(before.rows[row]) and _has_value(after.rows[row]) for row in {*before.rows} & {*after.rows}):
        raise NotComparable(f"{names} have no score in common: compare runs that share a method and a metric")


def _shared(kind: str, before: Side, after: Side) -> list[str]:
    was, now = before.says(kind), after.says(kind)
    return [name for name in was if was[name] == now.get(name)]


def _differing(kind: str, before: Side, after: Side) -> list[str]:
    was, now = before.says(kind), after.says(kind)
    return [name for name in was if name in now and was[name] != now[name]]


def _accuracy(side: Side, task: str) -> float:
    return float(side.says("accuracy of").get(task, "nan"))


def _retrained(before: Side, after: Side) -> set[str]:
    """The tasks on which the last digits differ: of samples, of weights, or of what a file's weights answer."""
    tasks = {*_differing("weights of", before, after), *_differing("data of", before, after)}
    if before.identity.get("machine") != after.identity.get("machine"):
        ours = before.says("recipe of")
        tasks |= {task for task in before.says("weights of") if task in after.says("weights of") and task not in ours}
    return tasks


def _newly_gated(before: Side, after: Side, retrained: set[str]) -> Iterator[Change]:
    """Methods that passed the sanity gates and do so no longer; of the same network alone, for gates have an edge."""
    was, now = ({row[:3]: record for row, record in side.rows.items() if _gated(record)} for side in (before, after))
    stood = {row[:3] for row in before.rows}
    for place in sorted(now.keys() & stood - was.keys()):
        row = Row(*place, "")
        if row.task not in retrained:
            yield Change(row, "gate", verdict="gated", reason=_words(now[place], "reason"))


def _gated(row: Mapping[str, Any]) -> bool:
    return row.get("status") == "gated"


def _words(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column, "")
    return value if isinstance(value, str) else ""


def _has_value(row: Mapping[str, Any]) -> bool:
    return bool(row) and row["value"] == row["value"]


def _one_sided(row: Row, was: Mapping[str, Any], now: Mapping[str, Any], after: Side) -> Iterator[Change]:
    """A row with a number on one side only; what the later side was not asked for says nothing."""
    judged = (was or now)["family"] != "runtime" or row.metric in EXACT
    if _has_value(was) and judged:
        reason = _words(now, "reason") or "no longer there"
        verdict: Verdict = "lost" if now or _was_asked(row, after) else "absent"
        yield Change(row, was["family"], before=was["value"], verdict=verdict, reason=reason)
    elif _has_value(now) and judged:
        yield Change(row, now["family"], after=now["value"], verdict="new")


def _was_asked(row: Row, side: Side) -> bool:
    """Whether a side that lacks a row should have it."""
    asks = side.identity.get("asks", "").split()
    there = {"methods": row.method in side.has["methods"], "metrics": row.metric in side.has["metrics"]}
    return row.task in side.has["tasks"] and all(there[what] or what in asks for what in there)


def _count(row: Row, before: float, after: float, allowed: float) -> Change:
    verdict: Verdict = "same"
    if abs(after - before) > allowed:
        verdict = "worse" if after > before else "better"
    return Change(row, "runtime", before, after, before - after, np.nan, verdict)


@dataclass(frozen=True)
class _Judged:
    """A score that both sides have."""

    row: Row
    before: Side
    after: Side
    effects: Effects

    @property
    def records(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Before and after."""
        return self.before.rows[self.row], self.after.rows[self.row]

    @property
    def sign(self) -> float:
        """What a difference is multiplied by so that positive is better."""
        return 1.0 if self.records[1]["direction"] == "higher" else -1.0

    @cached_property
    def pairs(self) -> np.ndarray | None:
        """How much better each sample's score is; None where samples do not pair."""
        row = self.row
        if isinstance(self.effects, Retrained) or row not in self.before.samples or row not in self.after.samples:
            return None
        paired = self.sign * self.after.samples[row].sub(self.before.samples[row]).dropna().to_numpy(float)
        return paired if len(paired) >= FEWEST else None

    def difference(self, reach: float) -> tuple[float, float]:
        """How much better the later side is, with the unadjusted p value of no difference."""
        if self.pairs is not None:
            return float(self.pairs.mean()), paired_p(self.pairs, reach)
        was, now = self.records
        difference = self.sign * float(now["value"] - was["value"])
        more = self.smallest if isinstance(self.effects, Retrained) else 0.0
        return difference, unpaired_p(difference, _error(was), _error(now), was["samples"], now["samples"], more)

    def change(self, difference: float, p: float, level: float) -> Change:
        """What became of the score, by its adjusted p value."""
        was, now = self.records
        change = Change(self.row, now["family"], was["value"], now["value"], difference, p)
        fewer = float(was.get("coverage", np.nan)) - float(now.get("coverage", np.nan))
        if fewer > self.effects.effect(now["family"]):
            return replace(change, verdict="lost", reason=f"{fewer:.0%} of the samples have no score any more")
        if p <= level and abs(difference) > self.smallest:
            return replace(change, verdict="better" if difference > 0 else "worse")
        return change

    @property
    def smallest(self) -> float:
        """The smallest difference that matters: a share of the metric's range, or of its spread where it has none."""
        low, high = {**self.before.ranges, **self.after.ranges}.get(self.row.metric, (-np.inf, np.inf))
        was = self.before.rows[self.row]
        share = self.effects.effect(was["family"])
        if np.isfinite(high - low):
            return share * float(high - low)
        if isinstance(self.effects, Retrained):
            share = self.effects.unbounded
        scored = self.before.samples.get(self.row)
        return share * float(scored.std() if scored is not None else _error(was) * was["samples"] ** 0.5)


def _error(row: Mapping[str, Any]) -> float:
    return float(row["high"] - row["low"]) / (2 * NORMAL)


def paired_p(differences: np.ndarray, reach: float = 1.0) -> float:
    """The larger of Student's and Wilcoxon's p values that paired differences are around zero.

    So few samples that no signed ranks could reach the p value that is asked for are left to Student alone.
    """
    if not np.any(differences):
        return 1.0
    constant = np.ptp(differences) <= 1e-12 * np.abs(differences).max()  # no spread: to Student it is sure
    by_mean = 0.0 if constant else float(ttest_1samp(differences, 0).pvalue)
    if 2.0 ** (1 - len(differences)) > reach:
        return by_mean
    return max(by_mean, float(wilcoxon(differences, zero_method="zsplit").pvalue))


def unpaired_p(
    difference: float, first: float, second: float, samples: float, others: float, more: float = 0.0
) -> float:
    """Welch's p value of a difference of two means with these standard errors, over so many samples each.

    `more` is an error that no sample tells. Without errors nothing can be told; where nothing scatters, everything.
    """
    variances = np.square([first, second, more])
    if difference == 0 or not np.isfinite(variances).all():
        return 1.0
    if not variances.any():
        return 0.0
    told = (variances[:2] ** 2 / np.maximum(1, np.array([samples, others]) - 1)).sum()
    freedom = variances.sum() ** 2 / told if told > 0 else np.inf
    return float(2 * student.sf(abs(difference) / variances.sum() ** 0.5, freedom))
