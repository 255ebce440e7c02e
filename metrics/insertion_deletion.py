"""Insertion and deletion: the class's probability as the most relevant pixels enter a blurred image, or leave the image
(Petsiuk et al. 2018, RISE).

With x_s the image of which the s / S most relevant pixels are replaced, y_s the blurred image that shows just those:

    deletion   area under p(x_0) … p(x_S), by trapezoids, the whole curve one unit long
    insertion  area under p(y_0) … p(y_S)

A pixel goes in all its channels, equal values in a random order of the sample's own. RISE replaces 224 pixels of its
photographs at a time (`steps=224`), by zero in the network's space, which is the mean, and blurs by a Gaussian of 11
pixels; ours grows with the image. Forwards a row and sample: deletion as many as steps, none where pixel flipping has
the same steps and baseline; insertion as many as steps. The image itself is shared by all rows.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from mibench.metrics.perturbation import Baseline, descending, forwards, in_steps
from mibench.metrics.sharing import RowMetric
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Scene, Unsupported


class DeletionParameters(contract.Parameters):
    """How finely the curve is cut, and what takes the place of pixels."""

    baseline: Baseline = "mean"
    steps: int = Field(24, ge=2)


class Deletion(RowMetric[DeletionParameters]):
    """Low when the probability falls as soon as the first pixels leave."""

    name = "deletion"
    title = "Deletion: area under the probability while the most relevant pixels leave the image"
    family = "faithfulness"
    cost = "forwards"
    direction = "lower"
    range = (0.0, 1.0)
    paper = "Petsiuk et al. 2018, arXiv:1806.07421"
    default = False

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        when, steps = _steps(scene, row, self.parameters.steps)
        ask = forwards(scene)
        replaced = ask.removed(when, steps, self.parameters.baseline).probability  # (B, S)
        return _area(torch.cat([ask.unperturbed().probability, replaced], 1))


class InsertionParameters(contract.Parameters):
    """How finely the curve is cut, and what the pixels enter."""

    baseline: Baseline = "blur"
    steps: int = Field(24, ge=2)


class Insertion(RowMetric[InsertionParameters]):
    """High when the probability rises as soon as the first pixels enter."""

    name = "insertion"
    title = "Insertion: area under the probability while the most relevant pixels enter a blurred image"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (0.0, 1.0)
    paper = "Petsiuk et al. 2018, arXiv:1806.07421"
    needs = frozenset({"image"})  # a table cannot be blurred
    default = False

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        if scene.x.dim() != 4:
            raise Unsupported("needs images: the columns of a table cannot be blurred")
        when, steps = _steps(scene, row, self.parameters.steps)
        ask = forwards(scene)
        least_first = ask.removed(steps - 1 - when, steps, self.parameters.baseline).probability  # (B, S)
        return _area(torch.cat([least_first.flip(1), ask.unperturbed().probability], 1))


def _steps(scene: Scene, row: Evidence, steps: int) -> tuple[Tensor, int]:
    """The step (B, F) of each pixel from the most relevant, and the number of steps."""
    when, number = in_steps(descending(scene, row.map.flatten(1)), steps)
    if number < 2:
        raise Unsupported("one feature cannot be ranked")
    return when, number


def _area(curve: Tensor) -> Tensor:
    """The area (B,) under curves (B, S + 1) that are one unit long."""
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)
