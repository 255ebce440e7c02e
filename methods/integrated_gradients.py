"""Integrated gradients: the slope of the explained logit, averaged on the way from a baseline to the sample
(Sundararajan, Taly & Yan 2017, equation 1).

    M = sum_channels (x - x') * integral_0^1 dS_c(x' + a (x - x')) / dx da

The baseline x' is zero in the network's normalised space. By captum (Gauss-Legendre quadrature). Signed; the map adds
up to S_c(x) - S_c(x'), and the fact `gap` is the difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import captum.attr
import torch
from pydantic import Field
from torch import Tensor

from mibench.network.devices import together
from mibench.network.gradients import channel_sum, explained_sum, tracked
from mibench.plugins import contract
from mibench.plugins.contract import Explainer, Explanation, MapSpec, Probe

AT_ONCE = 256  # points that go through the network together on a processor


class Parameters(contract.Parameters):
    """How finely the path is cut."""

    steps: int = Field(50, ge=1, description="points of the quadrature; the paper finds 20 to 300 enough")


class IntegratedGradients(Explainer[Parameters]):
    """The logit's path integral from nothing to the sample."""

    name = "ig"
    title = "Integrated gradients"
    paper = "Sundararajan et al. 2017, arXiv:1703.01365"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        integral = (
            captum.attr.IntegratedGradients(explained_sum(probe))
            .attribute(
                tracked(x),
                additional_forward_args=target,
                n_steps=self.parameters.steps,
                internal_batch_size=max(together(probe, AT_ONCE), len(x)),
            )
            .detach()
        )
        with torch.no_grad():
            there, nowhere = (probe.logits(each).gather(1, target[:, None])[:, 0] for each in (x, torch.zeros_like(x)))
        gap = integral.flatten(1).sum(1) - (there - nowhere)  # (B,)
        return Explanation({"map": channel_sum(integral)}, {"gap": gap})
