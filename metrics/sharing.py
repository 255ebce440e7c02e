"""What several metrics need of one scene is computed once, and a metric that judges row by row defines only how.

Nothing here changes a number: a row's scores depend on the scene, the row and the parameters alone.
"""

from __future__ import annotations

import functools
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import ClassVar, Concatenate, Literal, ParamSpec, TypeVar, cast, final

import torch
from torch import Tensor

from mibench.plugins.contract import Evidence, Metric, P_co, Scene, Truth, Unsupported

P = ParamSpec("P")
T = TypeVar("T")
Cost = Literal["maps", "forwards", "explanations"]  # saved maps alone; also perturbed inputs; also new explanations
State = tuple[tuple[weakref.ref[Tensor], int], ...]
PLAIN = (int, float, str)  # compared by value, everything else by identity


def once(make: Callable[Concatenate[Scene, P], T]) -> Callable[Concatenate[Scene, P], T]:
    """Make once for the same scene and arguments, as long as no tensor of theirs is replaced or changed in place.

    What is made is kept by the scene, until it or an argument goes; it must hold neither.
    """

    @functools.wraps(make)
    def remembered(scene: Scene, /, *more: P.args, **named: P.kwargs) -> T:
        key = (make, *(each if isinstance(each, PLAIN) else id(each) for each in (*more, *named.values())))
        state = tuple(_tensors((scene, *more, *named.values())))
        before, made = cast(tuple[State, T], scene.shared.get(key, ((), None)))
        if not before or not _same(before, state):
            made = make(scene, *more, **named)
            scene.shared[key] = tuple((weakref.ref(tensor), changes) for tensor, changes in state), made
            for each in (*more, *named.values()):
                if not isinstance(each, PLAIN):
                    weakref.finalize(each, scene.shared.pop, key, None)
        return made

    return remembered


def _same(before: State, now: Sequence[tuple[Tensor, int]]) -> bool:
    """Whether these are the tensors that they were, and none was changed since."""
    return len(before) == len(now) and all(a() is b and m == n for (a, m), (b, n) in zip(before, now, strict=True))


def _tensors(subject: object) -> Iterator[tuple[Tensor, int]]:
    """All tensors of a scene or of evidence, each with the number of its changes in place."""
    if isinstance(subject, Tensor):
        yield subject, 0 if subject.is_inference() else subject._version
    elif isinstance(subject, Mapping):
        yield from _tensors(tuple(subject.values()))
    elif isinstance(subject, tuple):
        for each in subject:
            yield from _tensors(each)
    elif isinstance(subject, Scene | Evidence | Truth):
        yield from _tensors(tuple(getattr(subject, each.name) for each in fields(subject) if each.name != "shared"))


def image(scene: Scene) -> tuple[int, int]:
    """(H, W) of the scene's images; a table has no neighbourhoods, patches or segments."""
    if scene.x.dim() != 4:
        raise Unsupported("needs images: the columns of a table have no neighbours")
    height, width = scene.x.shape[2:]
    return height, width


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation along the last dimension, NaN where either side is constant."""
    a, b = a.double(), b.double()  # (..., n)
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    size: Tensor = a.square().sum(-1) * b.square().sum(-1)
    return ((a * b).sum(-1) / size.sqrt()).clamp(-1, 1)


def ranks(values: Tensor) -> Tensor:
    """Ranks along the last dimension from 0, equal values sharing their average rank (for Spearman's correlation)."""
    ordered, order = values.double().sort(dim=-1)  # (B, n)
    place = torch.arange(values.shape[-1], dtype=torch.float64).expand_as(ordered)
    return torch.zeros_like(ordered).scatter(1, order, mean_of_equals(place, ordered))


def mean_of_equals(values: Tensor, ordered: Tensor) -> Tensor:
    """Each of the values (B, n) becomes the mean over the places where `ordered` (B, n), which is sorted, is equal."""
    rises = ordered[:, 1:] != ordered[:, :-1]
    if rises.all():
        return values
    group = torch.nn.functional.pad(rises.cumsum(1), (1, 0))
    return mean_by(values, group).gather(1, group)


def mean_by(values: Tensor, group: Tensor) -> Tensor:
    """Mean of values (B, n) over each group (B, n); groups are numbered from 0, absent ones give 0."""
    size = torch.zeros_like(values).scatter_add(1, group, torch.ones_like(values))
    return torch.zeros_like(values).scatter_add(1, group, values) / size.clamp(min=1)


class Costed(Metric[P_co]):
    """A metric that declares its cost in addition to reading the saved maps."""

    cost: ClassVar[Cost] = "maps"


class RowMetric(Costed[P_co]):
    """A metric that looks at one row at a time."""

    @abstractmethod
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        """One row's scores (B,), NaN where there is none."""

    @final
    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        return {name: self.judge(scene, row) for name, row in rows.items()}
