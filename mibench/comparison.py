"""Two runs of the same suite side by side: what became better or worse, and whether that is more than noise.

A score has changed when its mean difference is larger than the family's threshold *and* significant. Where both sides
have every sample's score the samples are paired, and both of two tests must reject: Student's, which trusts the mean,
and Wilcoxon's, which trusts no outlier. Where one side has intervals alone, they are all that is used. The level holds
for the whole table (Holm), so that a gate over hundreds of unchanged scores stays silent 99 times in 100.

Counts (FLOPs, passes) have no noise: any rise beyond their tolerance is a change. Seconds and memory are not judged.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.stats import norm, ttest_1samp, wilcoxon

from mibench.errors import MibenchError, UsageError
from mibench.leaderboard.results import COSTS
from mibench.statistics import holm

EXACT = tuple(cost.name for cost in COSTS if cost.exact)
FEWEST = 6  # paired samples; with fewer, no signed-rank test can reject at any level in use
NORMAL = float(norm.ppf(0.975))  # half a 95 % interval in standard errors

Verdict = Literal["same", "better", "worse", "lost", "new"]


class NotComparable(MibenchError):
    """The two sides do not answer the same question."""

    code = 4


class Thresholds(BaseModel):
    """What counts as a change; effects are shares of a metric's range, or of its spread over samples if unbounded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float = Field(0.01, gt=0, lt=1)
    default: float = Field(0.02, ge=0)
    counts: float = Field(0.01, ge=0)  # the relative rise of a count
    families: dict[str, float] = Field(default_factory=dict)

    def effect(self, family: str) -> float:
        """The smallest share that matters in a family."""
        return self.families.get(family, self.default)


class Row(NamedTuple):
    """Where a score stands."""

    data: str
    model: str
    method: str
    metric: str


@dataclass(frozen=True)
class Side:
    """One run, or one committed leaderboard, as far as a comparison needs it."""

    name: str
    identity: Mapping[str, str]  # what must be equal on both sides: "data …", "weights …", "metric …" -> version
    table: pd.DataFrame  # the long-form leaderboard
    scores: pd.DataFrame | None = None  # per sample: Row's columns, seed, sample, value; None where not at hand
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of the metrics

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


@dataclass(frozen=True)
class Change:
    """What became of one score; `difference` is positive where the later side is better."""

    row: Row
    family: str
    before: float
    after: float
    difference: float
    p: float  # adjusted for the whole table; NaN for counts
    verdict: Verdict
    reason: str = ""

    @property
    def is_regression(self) -> bool:
        """Whether a gate should stop this."""
        return self.verdict in ("worse", "lost")


def read_thresholds(path: Path | None = None) -> Thresholds:
    """Thresholds from a TOML file, or those that come with the package."""
    source = path or resources.files("mibench") / "thresholds.toml"
    try:
        return Thresholds(**tomllib.loads(source.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise UsageError(f"{source}: the thresholds cannot be read: {' '.join(str(error).split())}") from error


def compare(before: Side, after: Side, thresholds: Thresholds) -> list[Change]:
    """Every row that either side has a number for, in the order of the table."""
    _refuse_other_questions(before, after)
    changes: list[Change] = []
    quality: list[tuple[Change, float]] = []  # with the smallest difference that matters
    for row in sorted(set(before.rows) | set(after.rows)):
        was, now = before.rows.get(row, {}), after.rows.get(row, {})
        if not (_has_value(was) and _has_value(now)):
            changes += _one_sided(row, was, now)
        elif now["family"] != "runtime":
            change = _difference(row, before, after)
            quality.append((change, thresholds.effect(change.family) * _scale(row, before, after)))
        elif row.metric in EXACT:
            changes.append(_count(row, was["value"], now["value"], thresholds.counts))
    adjusted = holm(np.array([change.p for change, _ in quality]))
    for (change, effect), p in zip(quality, adjusted, strict=True):
        verdict: Verdict = "same"
        if p <= thresholds.level and abs(change.difference) > effect:
            verdict = "better" if change.difference > 0 else "worse"
        changes.append(replace(change, p=float(p), verdict=verdict))
    return sorted(changes, key=lambda change: change.row)


def to_markdown(changes: list[Change], before: str, after: str) -> str:
    """The changes as a comment for a pull request: regressions first, unchanged rows only counted."""
    order = {"worse": 0, "lost": 1, "better": 2, "new": 3}
    told = sorted((each for each in changes if each.verdict != "same"), key=lambda each: order[each.verdict])
    regressions = sum(each.is_regression for each in changes)
    lines = [
        f"### mibench: {regressions or 'no'} regression{'' if regressions == 1 else 's'}",
        "",
        f"`{before}` → `{after}`: {len(changes) - len(told)} of {len(changes)} scores unchanged.",
    ]
    if told:
        lines += ["", "| verdict | task | method | metric | before | after | better by | p |", "| " + "--- | " * 8]
    for each in told:
        verdict = f"**{each.verdict}**" if each.is_regression else each.verdict
        why = f" ({each.reason})" if each.reason else ""
        words = (f"{each.row.data}/{each.row.model}", each.row.method, each.row.metric + why)
        figures = [
            "" if value != value else format(value, form)
            for value, form in ((each.before, ".4g"), (each.after, ".4g"), (each.difference, "+.3g"), (each.p, ".1g"))
        ]
        lines.append("| " + " | ".join([verdict, *map(_escaped, words), *figures]) + " |")
    return "\n".join(lines) + "\n"


def _refuse_other_questions(before: Side, after: Side) -> None:
    shared = sorted(set(before.identity) & set(after.identity))
    if not shared:
        raise NotComparable(f"{before.name} and {after.name} have no task and no metric in common")
    for key in shared:
        if before.identity[key] != after.identity[key]:
            raise NotComparable(
                f"{key} is not the same in {before.name} ({before.identity[key]}) and in {after.name} "
                f"({after.identity[key]}): make the older side again with this version"
            )


def _has_value(row: Mapping[str, Any]) -> bool:
    return bool(row) and row["value"] == row["value"]


def _one_sided(row: Row, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """A row with a number on one side only; one that the later side was not asked for says nothing."""
    if _has_value(was) and now:
        return [Change(row, was["family"], was["value"], np.nan, np.nan, np.nan, "lost", str(now["reason"]))]
    if _has_value(now):
        return [Change(row, now["family"], np.nan, now["value"], np.nan, np.nan, "new")]
    return []


def _count(row: Row, before: float, after: float, tolerance: float) -> Change:
    verdict: Verdict = "same"
    if abs(after - before) > tolerance * abs(before):
        verdict = "worse" if after > before else "better"
    return Change(row, "runtime", before, after, before - after, np.nan, verdict)


def _difference(row: Row, before: Side, after: Side) -> Change:
    """How much better the later side is, with the unadjusted p value of no difference."""
    was, now = before.rows[row], after.rows[row]
    sign = 1.0 if now["direction"] == "higher" else -1.0
    difference, p = sign * (now["value"] - was["value"]), np.nan
    if row in before.samples and row in after.samples:
        paired = sign * after.samples[row].sub(before.samples[row]).dropna().to_numpy(float)
        if len(paired) >= FEWEST:
            difference, p = float(paired.mean()), paired_p(paired)
    if p != p:
        p = unpaired_p(difference, float(np.hypot(was["high"] - was["low"], now["high"] - now["low"])) / (2 * NORMAL))
    return Change(row, now["family"], was["value"], now["value"], difference, p, "same")


def paired_p(differences: np.ndarray) -> float:
    """The larger of Student's and Wilcoxon's p values that paired differences are around zero."""
    if not np.any(differences):
        return 1.0
    ranks = float(wilcoxon(differences, zero_method="zsplit").pvalue)
    constant = np.ptp(differences) <= 1e-12 * np.abs(differences).max()  # Student's is then 0, or not a number
    return ranks if constant else max(ranks, float(ttest_1samp(differences, 0).pvalue))


def unpaired_p(difference: float, error: float) -> float:
    """The p value of a difference of two means with this standard error; without an error nothing can be told."""
    if difference == 0 or not np.isfinite(error):
        return 1.0
    return float(2 * norm.sf(abs(difference) / error)) if error > 0 else 0.0


def _scale(row: Row, before: Side, after: Side) -> float:
    """What an effect is a share of: the metric's range, or the spread of its scores where it is unbounded."""
    low, high = after.ranges.get(row.metric, (-np.inf, np.inf))
    if np.isfinite(high - low):
        return float(high - low)
    spread = float(before.samples[row].std()) if row in before.samples else np.nan
    return spread if spread == spread else abs(before.rows[row]["value"])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
