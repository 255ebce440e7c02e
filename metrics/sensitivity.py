"""Class sensitivity: how far apart are the maps of two classes of one sample (Deng et al. 2021, section 6.4)?

    raw          ||A_c - A_c'||_2
    normalised   the same after each map is divided by its own largest magnitude, as the paper's pictures are

The larger, the more the map depends on the class. The raw distance grows with the map's own scale, so that only the
normalised one compares explainers; a map that is scaled by its logit alone differs in the raw distance and not in this.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from mibench.metrics.sharing import RowMetric
from mibench.plugins.contract import Evidence, Scene


class Sensitivity(RowMetric):
    """Compares the saved maps with those of another class; only the first samples have one."""

    family = "randomisation"
    cost = "explanations"
    direction = "higher"
    range = (0.0, float("inf"))
    paper = "Deng et al. 2021, arXiv:2104.06629"
    needs = frozenset({"other-class"})
    no_score = "this sample was not explained for another class, or not with a finite map"
    default = False

    @abstractmethod
    def scaled(self, maps: Tensor) -> Tensor:
        """The maps (V, F) that are compared."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        other = row.variants["other-class"].flatten(1).double()  # (V, F)
        first = row.raw[: len(other)].flatten(1).double()
        distance = (self.scaled(first) - self.scaled(other)).norm(dim=1)
        scores = torch.full((len(row.raw),), torch.nan, dtype=torch.float64)
        scores[: len(other)] = torch.where(other.isfinite().all(1), distance, torch.nan)
        return scores


class ClassSensitivity(Sensitivity):
    """Between maps that are divided by their largest magnitudes."""

    name = "class-sensitivity"
    title = "Class sensitivity: distance of the normalised maps of two classes"

    def scaled(self, maps: Tensor) -> Tensor:
        return maps / maps.abs().amax(1, keepdim=True).clamp(min=1e-30)


class RawClassSensitivity(Sensitivity):
    """Between maps as they are."""

    name = "raw-class-sensitivity"
    title = "Class sensitivity: distance of the maps of two classes, in the map's own scale"

    def scaled(self, maps: Tensor) -> Tensor:
        return maps
