"""SmoothGrad: the gradient, averaged over noisy copies of the sample (Smilkov et al. 2017, section 3).

    M = sum_channels |1/n sum_i dS_c(x + e_i) / dx|,    e_i ~ N(0, s^2),    s = noise (max x - min x)

Written here, not with captum: its NoiseTunnel draws from the global generator, so that a map would depend on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from mibench.network.gradients import channel_sum, slope
from mibench.network.noise import draw, generators
from mibench.plugins import contract
from mibench.plugins.contract import Explainer, Explanation, Probe


class Parameters(contract.Parameters):
    """How many noisy copies, and how noisy."""

    copies: int = Field(50, ge=1)
    noise: float = Field(0.15, gt=0, description="share of the sample's range; the paper finds 0.1 to 0.2 best")


class SmoothGrad(Explainer[Parameters]):
    """Magnitude of the averaged gradient; never negative, as the authors draw it."""

    name = "smoothgrad"
    title = "SmoothGrad"
    paper = "Smilkov et al. 2017, arXiv:1706.03825"

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        values = x.flatten(1)  # (B, CHW)
        spread = self.parameters.noise * (values.amax(1) - values.amin(1))  # (B,)
        spread = spread.reshape(-1, *[1] * (x.dim() - 1))
        sources, total = generators(seeds), torch.zeros_like(x)
        for _ in range(self.parameters.copies):
            total += slope(probe.logits, x + spread * draw(sources, x), target)
        return Explanation({"map": channel_sum(total.abs() / self.parameters.copies)})
