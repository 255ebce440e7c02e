"""Networks that learn on first use, or whose trained weights come with the package.

Several weights of one network are trained alike, each from a seed of its own. They are numbered; `load` gives the first
unless another is wanted. `ship(SPEC, NUMBER)` trains some and puts them with the package.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

from mibench.files import writing
from mibench.files.tensors import pack
from mibench.models import cache, shipped
from mibench.models.training import Lesson, Recipe
from mibench.plugins import contract, registry
from mibench.plugins.contract import Model

P = TypeVar("P", bound=contract.Parameters)


class Trained(Model[P], Generic[P]):
    """A network with a recipe of ours."""

    number: int = 0  # of its weights
    retrain: bool = False  # whether weights of the package are left alone

    @property
    @abstractmethod
    def lesson(self) -> Lesson:
        """What these weights learn."""

    def lesson_of(self, floor: float, recipe: Recipe, *sources: str) -> Lesson:
        """A recipe with the seed of these weights."""
        return Lesson(registry.label(self), floor, replace(recipe, seed=self.number), sources, self.retrain)


def of(model: Model, number: int = 0, *, retrain: bool = False) -> Model:
    """The model with the weights of a number, where it has several."""
    if isinstance(model, Trained):
        model.number, model.retrain = number, retrain
    return model


def ship(spec: str, number: int) -> str:
    """Train a network, or take it from the cache, and put its weights with the package; what it came to, in words."""
    model = of(registry.model(spec), number, retrain=True)
    assert isinstance(model, Trained), f"{spec} has no recipe"
    model.load()
    tensors, facts = cache.read(model.lesson.path())
    kept = {name: each.half() if each.numel() >= shipped.LARGE else each for name, each in tensors.items()}
    facts |= {"number": number}
    file = shipped.path(registry.label(model), number)
    file.parent.mkdir(exist_ok=True)
    writing.write(file, pack(kept, {**facts, cache.DIGEST: cache.digest(kept, facts)}))
    return f"{file.name}: accuracy {facts['accuracy']:.4f}, {facts['seconds']} s, {file.stat().st_size} bytes"
