"""Whether two sides answer the same question: on each task, and by each metric.

Samples pair where both sides explained the same samples on the same network: equal digests, or samples of the same
drawing, whose last digits another processor may round otherwise. A network trained again by the same recipe answers
the same question, but all its samples move with it, so its scores are compared by intervals. Other samples, other
weights and another version of a metric are another question: reported, and never a regression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mibench.errors import MibenchError
from mibench.gate.side import Row, Side
from mibench.record.identity import TaskIdentity

CHANGED = "definition changed"
Kind = Literal["paired", "retrained", "other"]


class NotComparable(MibenchError):
    """The two sides answer no question in common."""

    code = 4


@dataclass(frozen=True)
class Questions:
    """How the tasks that both sides have can be compared, and in what the others differ."""

    kinds: Mapping[str, Kind]
    differing: Mapping[str, str]  # by the name of a task, or of a metric: in what it differs

    def kind(self, row: Row) -> Kind:
        """How a row can be compared."""
        return "other" if row.metric in self.differing else self.kinds.get(row.task, "other")

    def reason(self, row: Row) -> str:
        """Why a row cannot be compared."""
        return self.differing.get(row.metric) or self.differing.get(row.task, "")

    @property
    def retrained(self) -> tuple[str, ...]:
        """The tasks whose networks have other weights by the same recipe."""
        return tuple(sorted(task for task, kind in self.kinds.items() if kind == "retrained"))


def questions(before: Side, after: Side, accuracy: float) -> Questions:
    """Compare what both sides were made from; networks of one recipe may differ by so much accuracy."""
    was, now = before.identity, after.identity
    shared = [task for task in was.tasks if task in now.tasks]
    if not shared:
        raise NotComparable(f"{before.name} and {after.name} have no task in common: compare runs of the same suite")
    differing = {
        name: f"{CHANGED}: version {metric.version} before, {now.metrics[name].version} after"
        for name, metric in was.metrics.items()
        if name in now.metrics and now.metrics[name].version != metric.version
    }
    kinds: dict[str, Kind] = {}
    for task in shared:
        kinds[task], reason = _kind(was.tasks[task], now.tasks[task], accuracy)
        differing |= {task: reason} if reason else {}
    found = Questions(kinds, differing)
    if not any(
        _has_value(before, row) and _has_value(after, row) and found.kind(row) != "other"
        for row in before.rows.keys() & after.rows.keys()
    ):
        raise NotComparable(_nothing(before.name, after.name, differing))
    return found


def _nothing(before: str, after: str, differing: Mapping[str, str]) -> str:
    """Why no score can be compared."""
    if not differing:
        return f"{before} and {after} have no score in common: compare runs that share a method and a metric"
    first = "; ".join(f"{name} ({reason})" for name, reason in list(differing.items())[:5])
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    return f"{before} and {after} cannot be compared because they differ in {first}{more}: run the older side again"


def _kind(was: TaskIdentity, now: TaskIdentity, accuracy: float) -> tuple[Kind, str]:
    """How a task can be compared, and in what it differs if it cannot.

    Where the seeds take several networks in turn, those of the seeds that both sides have must be the same.
    """
    if was.data_hash != now.data_hash and not (was.drawing and was.drawing == now.drawing):
        return "other", "other samples"
    networks = [*zip(_weights(was), _weights(now), strict=False)]
    if all(before == after for before, after in networks):
        return "paired", ""
    if not (was.recipe and was.recipe == now.recipe):
        return "other", "another recipe of the network" if was.recipe and now.recipe else "other weights"
    gap = (now.accuracy or 0.0) - (was.accuracy or 0.0)
    if None not in (was.accuracy, now.accuracy) and abs(gap) > accuracy:
        return "other", f"a network of another accuracy by the same recipe ({gap:+.1%})"
    return "retrained", ""


def _weights(task: TaskIdentity) -> list[str]:
    """The digests of the weights that the seeds take in turn."""
    return [weights for weights, _ in task.networks] or [task.weights_hash]


def _has_value(side: Side, row: Row) -> bool:
    value = side.rows[row]["value"]
    return bool(value == value)
