"""Two runs of the same suite side by side: what became better or worse, and whether that is more than noise.

A score has changed when its mean difference is larger than the family's threshold *and* significant. Where both sides
have every sample's score the samples are paired, and both of two tests must reject: Student's, which trusts the mean,
and Wilcoxon's, which trusts no outlier. Where one side has intervals alone, they are all that is used. The level holds
for all scores that differ at all (Holm), so that a gate over hundreds of unchanged ones is silent 99 times in 100.

An explainer that learns may have been fitted again, with other random draws. All its samples then move together, and
samples alone would show significant changes where there are none. So unless both sides' fits are equal to the byte, the
variance v between fits adds to the error: as much as the seeds of both sides show, a rough estimate where they are few,
but never more than `thresholds.Redrawn`, which is the only estimate where each side has one seed.

    p = E[ P(|t| > |difference| / sqrt(error^2 + v (1/S + 1/S'))) ],  v = min(most^2, squares / chi^2_{S+S'-2})      (1)

Some samples are drawn and small networks trained where they are used, and another processor rounds otherwise: the same
recipe ends at other weights. Such a network answers the same question again, so it is compared; but its samples no
longer pair (they all move with the network), and sampling errors alone would be too small: as much is added to them
as networks of one recipe were seen to differ (`thresholds.Retrained`). Any other samples or weights are not compared.

A score with a failed seed, or with too few samples left to be ranked, has the verdict "lost", whatever value remains.

Counts (FLOPs, passes) have no noise: any rise beyond their tolerance is a change. Multiples of a forward are judged
coarsely, and between processors of one kind alone. Seconds and memory are not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from mibench.errors import MibenchError
from mibench.gate.thresholds import Effects, Scatter, Thresholds
from mibench.leaderboard.results import COSTS, LOST
from mibench.record.identity import Identity, TaskIdentity

EXACT = tuple(cost.name for cost in COSTS if cost.exact)
MULTIPLE = "forwards"
FEWEST = 6  # paired samples; with fewer, intervals are used
NORMAL = NormalDist().inv_cdf(0.975)  # half a 95 % interval in standard errors

Verdict = Literal["same", "better", "worse", "lost", "gated", "new", "absent"]


class NotComparable(MibenchError):
    """The two sides do not answer the same question."""

    code = 4


class Row(NamedTuple):
    """The row of a score: its task, method and metric."""

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
    """One run, or one committed leaderboard, as far as a comparison needs it."""

    name: str
    identity: Identity
    table: pd.DataFrame  # the long-form leaderboard
    scores: pd.DataFrame | None = None  # per sample: Row's columns, seed, sample, value; None where not at hand

    @cached_property
    def rows(self) -> dict[Row, dict[str, Any]]:
        """The table by row."""
        records = self.table.to_dict("records")
        named = ({str(column): value for column, value in record.items()} for record in records)
        return {Row(*(str(record[column]) for column in Row._fields)): record for record in named}

    @cached_property
    def samples(self) -> dict[Row, pd.DataFrame]:
        """Every sample's score by row: a line a sample, a column a seed that has any."""
        if self.scores is None:
            return {}
        seeds = self.scores.set_index([*Row._fields, "sample", "seed"])["value"].unstack("seed")
        keyed: Iterable[tuple[Any, pd.DataFrame]] = seeds.groupby(level=list(range(4)), sort=False)
        return {Row(*map(str, key)): one.droplevel([0, 1, 2, 3]).dropna(axis=1, how="all") for key, one in keyed}

    def fit(self, row: Row) -> str:
        """The digest of what a row's method learned; empty where none is known."""
        task = self.identity.tasks.get(row.task)
        return task.fits.get(row.method, "") if task else ""

    def learns(self, row: Row) -> bool:
        """Whether a row's method was fitted."""
        return bool(self.fit(row)) or row._replace(metric="fit_seconds") in self.rows

    def seeds(self, row: Row) -> int:
        """How many seeds a row's score is the mean of, as far as is known."""
        known = self.samples.get(row)
        metric = self.identity.metrics.get(row.metric)
        return len(known.columns) if known is not None else max(1, metric.seeds if metric else 1)

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
    redrawn: tuple[str, ...] = ()  # the methods that were fitted again

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What a gate should stop."""
        return tuple(change for change in self.changes if change.is_regression)


def compare(before: Side, after: Side, thresholds: Thresholds) -> Comparison:
    """What became of everything that either side has a number for."""
    _refuse_other_questions(before, after, thresholds)
    retrained = _retrained(before, after)
    same_machine = before.identity.machine == after.identity.machine
    changes = [*_newly_gated(before, after, retrained)]
    quality: list[_Judged] = []
    for row in sorted(set(before.rows) | set(after.rows)):
        was, now = before.rows.get(row, {}), after.rows.get(row, {})
        if not (_has_value(was) and _has_value(now)):
            changes += _one_sided(row, was, now, after)
        elif now["family"] != "runtime":
            quality.append(_Judged(row, before, after, thresholds, row.task in retrained))
        elif row.metric in EXACT:
            tolerance = (thresholds.retrained if row.task in retrained else thresholds).counts
            changes.append(_count(row, was["value"], now["value"], tolerance * was["value"]))
        elif row.metric == MULTIPLE and same_machine:
            allowed = max(1.0, thresholds.forwards * was["value"])
            changes.append(_count(row, was["value"], now["value"], allowed))
    differing = [each for each in quality if each.differs]
    changes += [each.change(1.0, thresholds.level) for each in quality if not each.differs]
    reach = thresholds.level / max(1, len(differing))
    adjusted = _adjusted([each.p(reach) for each in differing])
    changes += [each.change(p, thresholds.level) for each, p in zip(differing, adjusted, strict=True)]
    return Comparison(
        tuple(sorted(changes, key=lambda change: change.row)),
        thresholds,
        tuple(sorted(retrained)),
        sum(each.pairs is not None for each in quality),
        tuple(sorted({each.row.method for each in differing if each.redrawn})),
    )


def _adjusted(ps: list[float]) -> list[float]:
    """The p values of several tests by Holm's procedure; where nothing differs no statistics are imported."""
    if not ps:
        return []
    from mibench.statistics.pairs import holm

    return list(map(float, holm(np.array(ps))))


def _refuse_other_questions(before: Side, after: Side, thresholds: Thresholds) -> None:
    """Refuse other samples, another metric, and weights that the same recipe does not excuse, naming them all."""
    names = f"{before.name} and {after.name}"
    was, now = before.identity, after.identity
    shared = [task for task in was.tasks if task in now.tasks]
    if not shared:
        raise NotComparable(f"{names} have no task in common: compare runs of the same suite")
    differing = [
        f"the version of metric {name}"
        for name, metric in was.metrics.items()
        if name in now.metrics and now.metrics[name].version != metric.version
    ]
    for task in shared:
        differing += _other_question(task, was.tasks[task], now.tasks[task], thresholds.retrained.accuracy)
    if differing:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise NotComparable(
            f"{names} cannot be compared because they differ in {'; '.join(differing[:5])}{more}: "
            "recompute the older side with this version"
        )
    if not any(_has_value(before.rows[row]) and _has_value(after.rows[row]) for row in {*before.rows} & {*after.rows}):
        raise NotComparable(f"{names} have no score in common: compare runs that share a method and a metric")


def _other_question(name: str, was: TaskIdentity, now: TaskIdentity, tolerance: float) -> Iterator[str]:
    """In what a task differs that its drawing and its recipe do not excuse, in words."""
    if was.data_hash != now.data_hash and not (was.drawing and was.drawing == now.drawing):
        yield f"the samples of {name}"
    if was.weights_hash == now.weights_hash:
        return
    if not was.recipe or was.recipe != now.recipe:
        yield f"the {'recipe of the network' if was.recipe and now.recipe else 'weights'} of {name}"
    elif was.accuracy is not None and now.accuracy is not None and abs(now.accuracy - was.accuracy) > tolerance:
        gap = now.accuracy - was.accuracy
        yield f"the accuracy of the network of {name}, retrained by the same recipe ({gap:+.1%})"


def _retrained(before: Side, after: Side) -> set[str]:
    """The tasks on which the last digits differ: of samples, of weights, or of what a file's weights answer."""
    elsewhere = before.identity.machine != after.identity.machine
    retrained = set()
    for name, was in before.identity.tasks.items():
        now = after.identity.tasks.get(name)
        if now is not None:
            other = (was.weights_hash, was.data_hash) != (now.weights_hash, now.data_hash)
            if other or (elsewhere and not was.recipe):
                retrained.add(name)
    return retrained


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
    """A row with a number on one side only; what the later side did not request is not a loss."""
    judged = (was or now)["family"] != "runtime" or row.metric in EXACT
    if _has_value(was) and judged:
        reason = _words(now, "reason") or "no longer there"
        verdict: Verdict = "lost" if now or _was_asked(row, after) else "absent"
        yield Change(row, was["family"], before=was["value"], verdict=verdict, reason=reason)
    elif _has_value(now) and judged:
        yield Change(row, now["family"], after=now["value"], verdict="new")


def _was_asked(row: Row, side: Side) -> bool:
    """Whether a side that lacks a row should have it."""
    complete = side.identity.complete
    there = {"methods": row.method in side.has["methods"], "metrics": row.metric in side.has["metrics"]}
    return row.task in side.has["tasks"] and all(there[what] or what in complete for what in there)


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
    limits: Thresholds
    retrained: bool

    @property
    def records(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Before and after."""
        return self.before.rows[self.row], self.after.rows[self.row]

    @property
    def sign(self) -> float:
        """What a difference is multiplied by so that positive is better."""
        return 1.0 if self.records[1]["direction"] == "higher" else -1.0

    @property
    def redrawn(self) -> bool:
        """Whether the method has learned, and not known to be the same; networks trained again cover that."""
        was, now = self.before.fit(self.row), self.after.fit(self.row)
        learns = self.before.learns(self.row) or self.after.learns(self.row)
        return learns and not self.retrained and (not was or was != now)

    @cached_property
    def common(self) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Both sides' scores of the samples that both have, oriented; None where samples do not pair."""
        was, now = (side.samples.get(self.row) for side in (self.before, self.after))
        if self.retrained or was is None or now is None:
            return None
        there = was.dropna(how="all").index.intersection(now.dropna(how="all").index)
        return (self.sign * was.loc[there], self.sign * now.loc[there]) if len(there) >= FEWEST else None

    @cached_property
    def pairs(self) -> np.ndarray | None:
        """How much better each sample's score is, averaged over seeds."""
        if self.common is None:
            return None
        was, now = self.common
        return (now.mean(axis=1) - was.mean(axis=1)).to_numpy(float)

    @cached_property
    def difference(self) -> float:
        """How much better the later side is."""
        if self.pairs is not None:
            return float(self.pairs.mean())
        was, now = self.records
        return self.sign * float(now["value"] - was["value"])

    @property
    def differs(self) -> bool:
        """Whether anything differs at all."""
        return bool(np.any(self.pairs)) if self.pairs is not None else self.difference != 0

    def p(self, reach: float) -> float:
        """The unadjusted p value of no difference; exact only as to whether it is below `reach`."""
        most = self.amount(self.limits.redrawn) if self.redrawn else 0.0
        if self.common is not None and self.pairs is not None:
            p = paired_p(self.pairs, reach)
            if not self.redrawn:
                return p
            error = float(self.pairs.std(ddof=1)) / len(self.pairs) ** 0.5
            seeds = [side.mean(axis=0).to_numpy(float) for side in self.common]
            return max(p, redrawn_p(self.difference, error, len(self.pairs), seeds[0], seeds[1], most))
        was, now = self.records
        more = self.amount(self.limits.retrained) if self.retrained else 0.0
        more += most * (1 / self.before.seeds(self.row) + 1 / self.after.seeds(self.row)) ** 0.5
        return unpaired_p(self.difference, _error(was), _error(now), was["samples"], now["samples"], more)

    def change(self, p: float, level: float) -> Change:
        """What became of the score, by its adjusted p value."""
        was, now = self.records
        effects = self.limits.retrained if self.retrained else self.limits
        change = Change(self.row, now["family"], was["value"], now["value"], self.difference, p)
        edge = self.retrained and now["status"] == "incomplete"  # how far the coverage fell decides
        if _loss(now) > _loss(was) and not edge:
            return replace(change, verdict="lost", reason=_words(now, "reason") or now["status"])
        fewer = float(was.get("coverage", np.nan)) - float(now.get("coverage", np.nan))
        if fewer > effects.effect(now["family"]):
            return replace(change, verdict="lost", reason=f"{fewer:.0%} of the scores are not there any more")
        if p <= level and abs(self.difference) > self.amount(effects):
            return replace(change, verdict="better" if self.difference > 0 else "worse")
        return change

    def amount(self, effects: Effects) -> float:
        """A family's share of the metric's range, or of its spread over samples where it has no range."""
        metric = (self.before.identity.metrics | self.after.identity.metrics).get(self.row.metric)
        low, high = metric.range if metric else (-np.inf, np.inf)
        was = self.before.rows[self.row]
        share = effects.effect(was["family"])
        if np.isfinite(high - low):
            return share * float(high - low)
        if isinstance(effects, Scatter):
            share = effects.unbounded
        scored = self.before.samples.get(self.row)
        return share * float(scored.mean(axis=1).std() if scored is not None else _error(was) * was["samples"] ** 0.5)


def _loss(row: Mapping[str, Any]) -> int:
    """The scores behind a row's number, from its status: 0 enough, 1 too few to be ranked, 2 cells failed."""
    return 2 if row["status"] in LOST else int(row["status"] == "incomplete")


def _error(row: Mapping[str, Any]) -> float:
    return float(row["high"] - row["low"]) / (2 * NORMAL)


def paired_p(differences: np.ndarray, reach: float = 1.0) -> float:
    """The larger of Student's and Wilcoxon's p values that paired differences are around zero.

    So few samples that no signed ranks could reach the required p value are left to Student alone.
    """
    if not np.any(differences):
        return 1.0
    from scipy.stats import ttest_1samp, wilcoxon

    constant = np.ptp(differences) <= 1e-12 * np.abs(differences).max()  # no spread: to Student it is sure
    by_mean = 0.0 if constant else float(ttest_1samp(differences, 0).pvalue)
    if 2.0 ** (1 - len(differences)) > reach:
        return by_mean
    return max(by_mean, float(wilcoxon(differences, zero_method="zsplit").pvalue))


def unpaired_p(
    difference: float, first: float, second: float, samples: float, others: float, more: float = 0.0
) -> float:
    """Welch's p value of a difference of two means with these standard errors, over so many samples each.

    `more` is an error that the samples do not show. Unknown errors (NaN) give 1; zero errors give 0.
    """
    variances = np.square([first, second, more])
    if difference == 0 or not np.isfinite(variances).all():
        return 1.0
    if not variances.any():
        return 0.0
    from scipy.stats import t as student

    told = (variances[:2] ** 2 / np.maximum(1, np.array([samples, others]) - 1)).sum()
    freedom = variances.sum() ** 2 / told if told > 0 else np.inf
    return float(2 * student.sf(abs(difference) / variances.sum() ** 0.5, freedom))


def redrawn_p(
    difference: float, error: float, samples: int, before: np.ndarray, after: np.ndarray, most: float
) -> float:
    """The p value of a difference between fits drawn independently, by the mean score of each seed on either side (1).

    `error` is the error from the samples; the seeds' standard deviation is at most `most`.
    """
    from scipy.stats import chi2
    from scipy.stats import t as student

    freedom = len(before) + len(after) - 2
    variance, weight = np.array([most**2]), np.ones(1)
    if freedom:
        squares = sum(float(np.square(each - each.mean()).sum()) for each in (before, after))
        chi = np.geomspace(1e-12, 1e3, 1000)
        variance, weight = np.minimum(most**2, squares / chi), chi2.pdf(chi, freedom) * chi
    errors = np.sqrt(error**2 + variance * (1 / len(before) + 1 / len(after)))
    with np.errstate(divide="ignore"):  # without errors, any difference is sure
        tails = 2 * student.sf(abs(difference) / errors, samples - 1)
    return float(weight @ tails / weight.sum())
