"""A comparison by method, and by family: a line for each, for whoever reads a comment and not a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mibench.gate.comparison import COMBINED, Change, Comparison

COSTLY = ("worse", "better")


class Summary(NamedTuple):
    """What became of one method, in words."""

    method: str
    verdict: str
    counts: str  # of its scores
    together: str  # the one test over all its scores
    largest: str  # the worst change of a score
    costs: str  # that changed
    place: str  # in the order of the methods

    @property
    def is_regression(self) -> bool:
        """Whether a gate should stop this."""
        return self.verdict in ("lost", "gated", "worse", "costlier")


def summaries(comparison: Comparison) -> list[Summary]:
    """Every method that both sides should have, those that became worse first."""
    by_method: dict[str, list[Change]] = {}
    for each in comparison.changes:
        if each.verdict not in ("absent", "new", "other"):
            by_method.setdefault(each.row.method, []).append(each)
    moves = comparison.moves or {}
    found = [_summary(method, some, moves.get(method)) for method, some in by_method.items()]
    weight = {method: sum(each.is_regression for each in some) for method, some in by_method.items()}
    return sorted(found, key=lambda each: (-weight[each.method], each.method))


def _summary(method: str, changes: Sequence[Change], move: tuple[int, int] | None) -> Summary:
    together = next((each for each in changes if each.row.metric == COMBINED), None)
    scores = [each for each in changes if each.family not in ("runtime", "gate", COMBINED)]
    costs = [each for each in changes if each.family == "runtime"]
    gated = any(each.verdict == "gated" for each in changes)
    worst = _worst([each for each in scores if each.verdict in ("worse", "better")])
    return Summary(
        method,
        _verdict(scores, costs, together, gated),
        _counts(scores),
        f"{together.difference:+.2f} (p {together.p:.1g})" if together and together.verdict != "same" else "",
        _change(worst)
        if worst
        else next((each.reason for each in changes if each.reason and each is not together), ""),
        ", ".join(sorted({_cost(each) for each in costs if each.verdict != "same"})),
        f"{move[0]} → {move[1]}" if move else "",
    )


def _verdict(scores: Sequence[Change], costs: Sequence[Change], together: Change | None, gated: bool) -> str:
    """The one word for a method: its worst."""
    kinds = {each.verdict for each in scores} | ({together.verdict} if together else set())
    if scores and all(each.verdict == "lost" for each in scores):
        return "lost"
    for verdict, holds in {"worse": kinds & {"worse", "lost"}, "gated": gated}.items():
        if holds:
            return verdict
    if any(each.is_regression for each in costs):
        return "costlier"
    if "better" in kinds:
        return "better"
    return "cheaper" if any(each.verdict == "better" for each in costs) else "same"


def _counts(scores: Sequence[Change]) -> str:
    counts = Counter(each.verdict for each in scores)
    if counts["lost"] == len(scores):
        return f"all {len(scores)} lost" if scores else ""
    parts = [f"{counts[verdict]} {verdict}" for verdict in ("lost", "worse", "better") if counts[verdict]]
    return f"{', '.join(parts)} of {len(scores)}" if parts else f"{len(scores)} unchanged"


def _worst(changes: Iterable[Change]) -> Change | None:
    """The largest fall by the metric's scale, or else the smallest rise."""
    return min(changes, key=lambda each: each.difference / each.scale if each.scale > 0 else 0.0, default=None)


def _change(change: Change) -> str:
    return f"{change.row.metric} on {change.row.task}: {change.before:.3g} to {change.after:.3g} (p {change.p:.1g})"


def _cost(change: Change) -> str:
    if change.verdict == "lost":
        return f"{change.row.metric} lost"
    return f"{change.row.metric} × {change.after / change.before:.3g}" if change.before else change.row.metric


def largest_visible(changes: Iterable[Change]) -> list[tuple[str, str, int, Change]]:
    """For each family and each way of comparing: how many scores, and the row in which the least would be seen."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for each in changes:
        if each.visible == each.visible:
            groups.setdefault((each.family, each.how or "as its scores"), []).append(each)
    return [(*key, len(some), max(some, key=lambda each: each.visible_share)) for key, some in sorted(groups.items())]
