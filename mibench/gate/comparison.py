"""Two runs of the same suite compared: what became better or worse, and whether that is more than noise.

A score has changed when its mean difference is larger than the family's threshold *and* significant (`significance`).
One test a method asks the same of all its scores together (`combined`). The level holds for all tests of which anything
differs (Holm): a gate over hundreds of scores that did not change is silent 99 times in 100.

A score with a failed seed, or with too few samples left to be ranked, has the verdict "lost", whatever value remains.

Counts (FLOPs, passes) have no noise: any rise beyond their tolerance is a change. Multiples of a forward are judged
coarsely, and between processors of one kind alone. Seconds and memory are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np

from mibench.gate.combined import Combined, combined
from mibench.gate.question import Questions, questions
from mibench.gate.scored import How, Priors, Scored
from mibench.gate.side import Row, Side
from mibench.gate.significance import Prior
from mibench.gate.thresholds import Thresholds
from mibench.leaderboard.results import COSTS, LOST

EXACT = tuple(cost.name for cost in COSTS if cost.exact)
MULTIPLE = "forwards"
COMBINED = "all scores"  # the name of the one test a method

Verdict = Literal["same", "better", "worse", "lost", "gated", "new", "absent", "other"]


def no_priors(row: Row) -> Prior | None:
    """Nothing is known of the variance between fits beyond the seeds at hand and the thresholds."""
    return None


@dataclass(frozen=True)
class Change:
    """What became of one score; `difference` is positive where the later side is better."""

    row: Row
    family: str
    before: float = np.nan
    after: float = np.nan
    difference: float = np.nan
    p: float = np.nan  # in the direction of the difference, adjusted for the whole table; NaN for counts
    verdict: Verdict = "same"
    reason: str = ""
    visible: float = np.nan  # the smallest loss that would have been seen in 95 % of repetitions
    scale: float = np.nan  # the metric's range, or its spread; NaN where that is rounding
    how: How | Literal[""] = ""
    ranks: tuple[str, str] = ("", "")  # of the score, before and after

    @property
    def visible_share(self) -> float:
        """The smallest visible loss as a share of the scale, so that scores can be compared."""
        return self.visible / self.scale if self.scale > 0 else self.visible

    @property
    def is_regression(self) -> bool:
        """Whether a gate should stop this."""
        return self.verdict in ("worse", "lost", "gated")


@dataclass(frozen=True)
class Comparison:
    """Every row that either side has a number for, in the order of the table."""

    changes: tuple[Change, ...]
    thresholds: Thresholds
    retrained: tuple[str, ...] = ()  # the tasks whose networks were trained again
    redrawn: tuple[str, ...] = ()  # the methods that were fitted again
    unpaired_seeds: tuple[int, ...] = ()  # seeds that one side alone has
    suite: str = ""
    moves: Mapping[str, tuple[int, int]] | None = None  # by method: its place before and after; None without an order

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What a gate should stop."""
        return tuple(change for change in self.changes if change.is_regression)

    @property
    def paired(self) -> int:
        """How many scores were compared sample by sample."""
        paired: tuple[How, How] = ("nothing fitted again", "fitted again")
        return sum(change.how in paired and change.row.metric != COMBINED for change in self.changes)


def compare(before: Side, after: Side, thresholds: Thresholds, priors: Priors = no_priors) -> Comparison:
    """What became of everything that either side has a number for."""
    asked = questions(before, after, thresholds.retrained.accuracy)
    changes, scores = [*_newly_gated(before, after, asked)], []
    for row in sorted(set(before.rows) | set(after.rows)):
        was, now = before.rows.get(row, {}), after.rows.get(row, {})
        kind = asked.kind(row)
        if not (_has_value(was) and _has_value(now)):
            changes += _one_sided(row, was, now, after)
        elif kind == "other":
            changes += _other(row, was, now, asked.reason(row))
        elif now["family"] == "runtime":
            changes += _cost(row, before, after, asked, thresholds)
        else:
            scores.append(Scored(row, before, after, thresholds, kind, priors(row)))
    changes += _judged(scores, thresholds.level)
    return Comparison(
        tuple(sorted(changes, key=lambda change: change.row)),
        thresholds,
        asked.retrained,
        tuple(sorted({each.row.method for each in scores if each.differs and each.redrawn})),
        _unpaired_seeds(scores),
        str(after.table["suite"].iloc[0]) if "suite" in after.table else "",
        _moves(before, after),
    )


def _judged(scores: list[Scored], level: float) -> Iterator[Change]:
    """What became of the scores, and of each method's scores together."""
    by_method = groupby(sorted(scores, key=lambda each: each.row.method), key=lambda each: each.row.method)
    together = [test for test in (combined(method, list(some)) for method, some in by_method) if test]
    tests: list[Scored | Combined] = [*(each for each in scores if each.differs), *(t for t in together if t.differs)]
    adjusted = dict(zip(map(id, tests), _adjusted([test.p for test in tests]), strict=True))
    reach = level / (len(tests) + 2)  # were this score to fall, too: with it and its method
    for each in scores:
        yield _score_change(each, adjusted.get(id(each), 1.0), level, reach)
    for test in together:
        yield _method_change(test, adjusted.get(id(test), 1.0), level, reach)


def _adjusted(ps: list[float]) -> list[float]:
    """The p values of several tests by Holm's procedure."""
    if not ps:
        return []
    from mibench.statistics.pairs import holm

    return list(map(float, holm(np.array(ps))))


def _score_change(score: Scored, p: float, level: float, reach: float) -> Change:
    """What became of a score, by its adjusted p value."""
    was, now = score.records
    visible, ranks = score.visible(reach), (_rank(was), _rank(now))
    before, after = score.means
    change = Change(
        score.row,
        score.family,
        before,
        after,
        score.difference,
        p,
        visible=visible,
        scale=score.scale if score.scale > score.rounding else np.nan,
        how=score.how,
        ranks=ranks,
    )
    edge = score.retrained and now["status"] == "incomplete"  # how far the coverage fell decides
    if _loss(now) > _loss(was) and not edge:
        return replace(change, verdict="lost", reason=_words(now, "reason") or now["status"])
    fewer = float(was.get("coverage", np.nan)) - float(now.get("coverage", np.nan))
    effects = score.limits.retrained if score.retrained else score.limits
    if fewer > effects.effect(score.family):
        return replace(change, verdict="lost", reason=f"{fewer:.0%} of the scores are missing now")
    return replace(change, verdict=_verdict(p, level, score.difference, score.threshold))


def _method_change(test: Combined, p: float, level: float, reach: float) -> Change:
    """What became of a method's scores together."""
    verdict = _verdict(p, level, test.difference, test.threshold)
    row = Row("", "", test.method, COMBINED)
    reason = f"mean of {test.scores} scores, in standard deviations over samples"
    visible = test.visible(reach)
    return Change(row, COMBINED, difference=test.difference, p=p, verdict=verdict, reason=reason, visible=visible)


def _verdict(p: float, level: float, difference: float, threshold: float) -> Verdict:
    if p <= level and abs(difference) > threshold:
        return "better" if difference > 0 else "worse"
    return "same"


def _unpaired_seeds(scores: list[Scored]) -> tuple[int, ...]:
    """The seeds that one side alone has where samples pair."""
    found: set[int] = set()
    for each in scores:
        if each.common:
            was, now = ({int(seed) for seed in side.samples[each.row].columns} for side in (each.before, each.after))
            found |= was ^ now
    return tuple(sorted(found))


def _moves(before: Side, after: Side) -> dict[str, tuple[int, int]] | None:
    """The methods whose place has changed in the order of either side; None where a side has no order."""
    was, now = before.order, after.order
    if was is None or now is None:
        return None
    return {method: (was[method], now[method]) for method in sorted(was.keys() & now) if was[method] != now[method]}


def _newly_gated(before: Side, after: Side, asked: Questions) -> Iterator[Change]:
    """Methods that passed the sanity gates and do so no longer; of the same network alone, for gates have an edge."""
    was, now = ({row[:3]: record for row, record in side.rows.items() if _gated(record)} for side in (before, after))
    known = {row[:3] for row in before.rows}
    for place in sorted(now.keys() & known - was.keys()):
        row = Row(*place, "")
        if asked.kind(row) == "paired":
            yield Change(row, "gate", verdict="gated", reason=_words(now[place], "reason"))


def _other(row: Row, was: Mapping[str, Any], now: Mapping[str, Any], reason: str) -> Iterator[Change]:
    """A row that answers another question than before."""
    if _is_judged(row, now["family"]):
        yield Change(row, now["family"], was["value"], now["value"], verdict="other", reason=reason)


def _one_sided(row: Row, was: Mapping[str, Any], now: Mapping[str, Any], after: Side) -> Iterator[Change]:
    """A row with a number on one side only; what the later side did not request is not a loss."""
    judged = _is_judged(row, (was or now)["family"])
    if _has_value(was) and judged:
        reason = _words(now, "reason") or "missing now"
        verdict: Verdict = "lost" if now or _was_requested(row, after) else "absent"
        yield Change(row, was["family"], before=was["value"], verdict=verdict, reason=reason)
    elif _has_value(now) and judged:
        yield Change(row, now["family"], after=now["value"], verdict="new")


def _is_judged(row: Row, family: str) -> bool:
    return family != "runtime" or row.metric in EXACT


def _was_requested(row: Row, side: Side) -> bool:
    """Whether a side that lacks a row should have it."""
    complete = side.identity.complete
    there = {"methods": row.method in side.has["methods"], "metrics": row.metric in side.has["metrics"]}
    return row.task in side.has["tasks"] and all(there[what] or what in complete for what in there)


def _cost(row: Row, before: Side, after: Side, asked: Questions, limits: Thresholds) -> Iterator[Change]:
    """What became of a cost that is judged."""
    was, now = float(before.rows[row]["value"]), float(after.rows[row]["value"])
    if row.metric in EXACT:
        tolerance = (limits.retrained if asked.kind(row) == "retrained" else limits).counts
        allowed = tolerance * was
    elif row.metric == MULTIPLE and before.identity.machine == after.identity.machine:
        allowed = max(1.0, limits.forwards * was)
    else:
        return
    verdict: Verdict = "same"
    if abs(now - was) > allowed:
        verdict = "worse" if now > was else "better"
    yield Change(row, "runtime", was, now, was - now, verdict=verdict)


def _loss(row: Mapping[str, Any]) -> int:
    """The scores behind a row's number, from its status: 0 enough, 1 too few to be ranked, 2 cells failed."""
    return 2 if row["status"] in LOST else int(row["status"] == "incomplete")


def _gated(row: Mapping[str, Any]) -> bool:
    return row.get("status") == "gated"


def _words(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column, "")
    return value if isinstance(value, str) else ""


def _rank(row: Mapping[str, Any]) -> str:
    rank = row.get("rank", np.nan)
    return f"{rank:.0f}" if isinstance(rank, int | float) and rank == rank else ""


def _has_value(row: Mapping[str, Any]) -> bool:
    return bool(row) and row["value"] == row["value"]
