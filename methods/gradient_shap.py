"""Gradient SHAP, or expected gradients: integrated gradients averaged over baselines drawn from the data
(Lundberg & Lee 2017; Erion et al. 2021, equation 3), an estimate of each input's Shapley value.

    M = sum_channels E_{x' ~ data, a ~ U(0, 1)} (x - x') * dS_c(x' + a (x - x')) / dx

Written here, not with captum: its GradientShap draws from the global generators of torch and numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from mibench.network.gradients import channel_sum, slope
from mibench.network.noise import generators
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State


class Parameters(contract.Parameters):
    """How many draws, from how many baselines."""

    draws: int = Field(50, ge=1)
    baselines: int = Field(32, ge=1, description="calibration samples to draw from")


class GradientShap(FittedExplainer[Parameters]):
    """Signed; over many draws the map adds up to S_c(x) minus the baselines' mean S_c."""

    name = "gradient-shap"
    title = "Gradient SHAP"
    paper = "Lundberg & Lee 2017, arXiv:1705.07874; Erion et al. 2021, arXiv:1906.10670"
    maps = (MapSpec("map", signed=True),)

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Choose the baselines."""
        order = torch.randperm(len(calibration), generator=torch.Generator().manual_seed(seed))
        chosen = order[: self.parameters.baselines].to(calibration.x.device)
        return State({"baselines": calibration.x[chosen]})

    def restore(self, probe: Probe, state: State) -> None:
        self.baselines = state.tensors["baselines"].to(probe.device)

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        sources, total = generators(seeds), torch.zeros_like(x)
        drawn = [
            (torch.randint(len(self.baselines), (1,), generator=source), torch.rand(1, generator=source))
            for _ in range(self.parameters.draws)
            for source in sources
        ]
        chosen, shares = (torch.cat(each).reshape(-1, len(x)).to(x.device) for each in zip(*drawn, strict=True))
        for which, share in zip(chosen, shares, strict=True):  # (B,) each
            start = self.baselines[which]  # like x
            way = x - start
            total += way * slope(probe.logits, start + share.reshape(-1, *[1] * (x.dim() - 1)) * way, target)
        return Explanation({"map": channel_sum(total) / self.parameters.draws})
