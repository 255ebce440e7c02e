"""Robustness: how far a map moves when its input moves a little, the worst (or mean) of a few seeded perturbations.

All methods explain the same perturbed inputs x' (uniform noise within `noise.RADIUS`); a and a' are the maps
of x and x', each divided by its own largest magnitude, h and h' the logits, r and r' the representations:

    max-sensitivity                    max |a - a'| / |a|                         (Yeh et al. 2019, section 3)
    avg-sensitivity                    mean |a - a'| / |a|                        (Yeh et al. 2019, Bhatt et al. 2020)
    local-lipschitz                    max |a - a'| / |x - x'|                    (Alvarez-Melis & Jaakkola 2018, eq. 1)
    relative-input-stability           max |(a - a') / a| / |(x - x') / x|        (Agarwal et al. 2022, eq. 2)
    relative-representation-stability  max |(a - a') / a| / |(r - r') / r|        (Agarwal et al. 2022)
    relative-output-stability          max |(a - a') / a| / |h - h'|              (Agarwal et al. 2022, eq. 5)

The last three hold for inputs x' of the same predicted class only. Offered, not default: each costs as many
explanations as there are perturbations, and a constant map wins all six.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor

from mibench.metrics.sharing import RowMetric, once
from mibench.network.noise import perturbed
from mibench.plugins.contract import PERTURBED, Evidence, Scene

BATCH = 32  # inputs that go through the network at once for their representations
TINY = 1e-6  # replaces a divisor of zero


class Robustness(RowMetric):
    """Compares each map with the maps of perturbed inputs; only the first samples have them."""

    family = "robustness"
    cost = "explanations"
    direction = "lower"
    range = (0.0, float("inf"))
    default = False
    needs = frozenset({PERTURBED})
    no_score = "this sample was not explained on perturbed inputs, or not with finite maps"
    same_class: ClassVar[bool] = False  # no score where a perturbation changes the predicted class
    worst: ClassVar[bool] = True  # of the perturbations; False: their mean

    @abstractmethod
    def moved(self, scene: Scene, variant: str, first: Tensor, second: Tensor) -> Tensor:
        """How far maps (V, F) have moved, (V,)."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        scores = torch.full((len(row.map),), torch.nan, dtype=torch.float64)
        found = []
        for variant in sorted(name for name in row.variants if name.startswith(PERTURBED)):
            second = row.variants[variant].flatten(1)  # (V, F)
            second = (second / second.abs().amax(1, keepdim=True).clamp(min=1e-30)).double()
            moved = self.moved(scene, variant, row.map[: len(second)].flatten(1).double(), second)
            if self.same_class:
                before, after = unperturbed(scene, len(second)).argmax(1), neighbours(scene, variant, len(second))[1]
                moved = moved.where(before == after.argmax(1), torch.nan)
            found.append(moved)
        if found:
            every = torch.stack(found)  # (perturbations, V)
            scores[: len(found[0])] = every.amax(0) if self.worst else every.mean(0)  # NaN if one is
        return scores


@once
def unperturbed(scene: Scene, count: int) -> Tensor:
    """Logits of the first samples, (V, classes)."""
    return scene.predict(scene.x[:count]).double()


@once
def neighbours(scene: Scene, variant: str, count: int) -> tuple[Tensor, Tensor]:
    """The first samples perturbed, flat (V, F), and their logits (V, classes)."""
    x = perturbed(scene.x[:count], scene.seeds[:count], variant)
    return x.flatten(1).double(), scene.predict(x).double()


@once
def representations(scene: Scene, variant: str, count: int) -> Tensor:
    """What the network makes of the first samples, or of a perturbation of them, at its representation, (V, D)."""
    x = perturbed(scene.x[:count], scene.seeds[:count], variant) if variant else scene.x[:count]
    with torch.no_grad():
        return torch.cat([scene.probe.features(part).representation.cpu() for part in torch.split(x, BATCH)]).double()


def nonzero(values: Tensor) -> Tensor:
    """What may be divided by."""
    return torch.where(values == 0, TINY, values)


def length(vectors: Tensor) -> Tensor:
    """Euclidean, of each row."""
    return vectors.square().sum(1).sqrt()


class MaxSensitivity(Robustness):
    """The distance between the maps over the size of the first."""

    name = "max-sensitivity"
    title = "Max-sensitivity: the farthest that the map moves, relative to its size"
    paper = "Yeh et al. 2019, arXiv:1901.09392"

    def moved(self, scene: Scene, variant: str, first: Tensor, second: Tensor) -> Tensor:
        return _relative(first, second)


class AvgSensitivity(Robustness):
    """The same, averaged over the perturbations."""

    name = "avg-sensitivity"
    title = "Avg-sensitivity: how far the map moves on average, relative to its size"
    paper = "Bhatt et al. 2020, arXiv:2005.00631"
    worst = False

    def moved(self, scene: Scene, variant: str, first: Tensor, second: Tensor) -> Tensor:
        return _relative(first, second)


class LocalLipschitz(Robustness):
    """The distance between the maps over the distance between the inputs."""

    name = "local-lipschitz"
    title = "Local Lipschitz estimate: how much faster than the input the map moves"
    paper = "Alvarez-Melis & Jaakkola 2018, arXiv:1806.08049"

    def moved(self, scene: Scene, variant: str, first: Tensor, second: Tensor) -> Tensor:
        x = scene.x[: len(first)].flatten(1).double()
        return length(first - second) / (length(x - neighbours(scene, variant, len(first))[0]) + 1e-10)


class RelativeInputStability(Robustness):
    """The relative change of the map over the relative change of the input."""

    name = "relative-input-stability"
    title = "Relative input stability: relative change of the map over that of the input"
    paper = "Agarwal et al. 2022, arXiv:2203.06877"
    same_class = True
    no_score = "noise changed the predicted class, or this sample was not explained on perturbed inputs"

    def moved(self, scene: Scene, variant: str, first: Tensor, second: Tensor) -> Tensor:
        x = scene.x[: len(first)].flatten(1).double()
        change = (x - neighbours(scene, variant, len(first))[0]) / nonzero(x)
        return length((first - second) / nonzero(first)) / nonzero(length(change))


class RelativeRepresentationStability(Robustness):
    """The relative change of the map over the relative change of the representation."""

    name = "relative-representation-stability"
    title = "Relative representation stability: relative change of the map over that of the representation"
    paper = "Agarwal et al. 2022, arXiv:2203.06877"
    same_class = True
    no_score = "noise changed the predicted class, or this sample was not explained on perturbed inputs"

    def moved(self, scene: Scene, variant: str, first: Tensor, second: Tensor) -> Tensor:
        plain = representations(scene, "", len(first))
        change = (plain - representations(scene, variant, len(first))) / nonzero(plain)
        return length((first - second) / nonzero(first)) / nonzero(length(change))


class RelativeOutputStability(Robustness):
    """The relative change of the map over the change of the logits."""

    name = "relative-output-stability"
    title = "Relative output stability: relative change of the map over the change of the logits"
    paper = "Agarwal et al. 2022, arXiv:2203.06877"
    same_class = True
    no_score = "noise changed the predicted class, or this sample was not explained on perturbed inputs"

    def moved(self, scene: Scene, variant: str, first: Tensor, second: Tensor) -> Tensor:
        change = unperturbed(scene, len(first)) - neighbours(scene, variant, len(first))[1]
        return length((first - second) / nonzero(first)) / nonzero(length(change))


def _relative(first: Tensor, second: Tensor) -> Tensor:
    """The distance (V,) between maps (V, F) over the size of the first."""
    return length(first - second) / length(first)
