"""Effective heat ratio: how hot are the hottest pixels where the class is known to be (Zhang et al. 2021)?

With h the positive part of the map, its largest value 1, and t_q the q-quantile of those h that are at least .1,

    EHR(q) = (sum of h where h >= t_q, within the mask) / (number of pixels where h >= t_q)

averaged over q from 0 to 1 (11 quantiles, by trapezoids). A map that is 1 all over the mask and 0 elsewhere has 1; one
that is hot elsewhere, or lukewarm within the mask, has less. The floor of .1 and the bound of .99 of the largest value
on t_q are of the authors' code, not of the paper. No forwards.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from mibench.metrics.localisation import Localisation, target
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Scene

QUANTILES = torch.linspace(0, 1, 11, dtype=torch.float64)
HIGHEST = 0.99  # of the largest value: the highest threshold


class Parameters(contract.Parameters):
    """Which pixels are cold."""

    floor: float = Field(0.1, ge=0, lt=1, description="of the largest value: what is below counts as 0")


class EffectiveHeatRatio(Localisation[Parameters]):
    """Heat within the mask for each pixel above a threshold, averaged over thresholds."""

    name = "effective-heat-ratio"
    title = "Effective heat ratio: heat within the mask for each of the hottest pixels, averaged over quantiles"
    paper = "Zhang et al. 2021, Fine-Grained Neural Network Explanation, NeurIPS"
    default = False

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        positive = row.map.flatten(1).double().clamp(min=0)  # (B, F)
        heat = positive / positive.amax(1, keepdim=True).clamp(min=1e-30)
        return torch.stack([self._ratio(*each) for each in zip(heat, target(scene), strict=True)])

    def _ratio(self, heat: Tensor, mask: Tensor) -> Tensor:
        """The mean ratio of one map (F,) and mask (F,)."""
        warm = heat[heat >= self.parameters.floor]
        if not len(warm):
            return torch.tensor(torch.nan, dtype=torch.float64)
        threshold = torch.quantile(warm, QUANTILES).clamp(max=HIGHEST)[:, None]  # (Q, 1)
        hot = (heat >= threshold) & (heat >= self.parameters.floor)  # (Q, F)
        return torch.trapezoid((hot * heat * mask).sum(1) / hot.sum(1), QUANTILES)
