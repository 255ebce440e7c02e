"""Average drop and increase: what becomes of the class's probability when the image keeps only what the map shows
(Chattopadhay et al. 2018, Grad-CAM++).

With m the positive part of the map, its largest value 1, and p the probability of the explained class,

    e = black + m (x - black),      drop = max(0, p(x) - p(e)) / p(x),      increase = 1 if p(e) > p(x) else 0

The paper reports the means over images in percent. One forward a row and sample, which the two share. A map that is 1
everywhere has no drop: read them with complexity.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from mibench.metrics.perturbation import Baseline, forwards, join, parts
from mibench.metrics.sharing import RowMetric, image, once
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Scene, Unsupported


class Parameters(contract.Parameters):
    """What the map's dark parts become."""

    baseline: Baseline = "black"


class ConfidenceChange(RowMetric[Parameters]):
    """Compares the probability of what the map shows with the whole image's."""

    family = "faithfulness"
    cost = "forwards"
    range = (0.0, 1.0)
    paper = "Chattopadhay et al. 2018, arXiv:1710.11063"
    needs = frozenset({"image"})
    no_score = "the map has no positive part"
    default = False

    @abstractmethod
    def change(self, before: Tensor, after: Tensor) -> Tensor:
        """The score (B,) of probabilities (B,)."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        before = forwards(scene).unperturbed().probability[:, 0]
        scores = self.change(before, shown(scene, row, self.parameters.baseline))
        return torch.where(row.map.flatten(1).amax(1) > 0, scores, torch.nan)


class AverageDrop(ConfidenceChange):
    """0 when what the map shows is enough for the class, 1 when nothing of the probability is left."""

    name = "average-drop"
    title = "Average drop: share of the probability that is missing when only what the map shows is kept"
    direction = "lower"

    def change(self, before: Tensor, after: Tensor) -> Tensor:
        return (before - after).clamp(min=0) / before


class AverageIncrease(ConfidenceChange):
    """1 when what the map shows is more convincing than the whole image."""

    name = "average-increase"
    title = "Average increase: is the class more probable when only what the map shows is kept?"
    direction = "higher"

    def change(self, before: Tensor, after: Tensor) -> Tensor:
        return (after > before).double()


@once
def shown(scene: Scene, row: Evidence, baseline: str) -> Tensor:
    """The class's probability (B,) on what the map shows of each image."""
    image(scene)
    if baseline not in scene.baselines:
        raise Unsupported(f"no baseline {baseline!r} for these data, only {', '.join(scene.baselines)}")
    positive = row.map.clamp(min=0)
    light = (positive / positive.amax((1, 2), keepdim=True).clamp(min=1e-30))[:, None]  # (B, 1, H, W)
    dark = scene.baselines[baseline]
    kept = (dark + light * (scene.x - dark)).float()  # (B, C, H, W)
    ask = forwards(scene)
    return join([ask.shown(part, kept[part][:, None]) for part in parts(scene.x, 1)]).probability[:, 0]
