"""Saliency: where the explained logit is steepest (Simonyan, Vedaldi & Zisserman 2014, section 3).

    M = sum_channels |dS_c / dx|

The paper takes the largest channel; we add the channels, as we do for every method. By captum.
"""

from __future__ import annotations

from collections.abc import Sequence

import captum.attr
from torch import Tensor

from mibench.network.gradients import channel_sum, explained_sum, tracked
from mibench.plugins.contract import Explainer, Explanation, Probe


class Saliency(Explainer):
    """Magnitude of the gradient; never negative."""

    name = "saliency"
    title = "Saliency"
    paper = "Simonyan et al. 2014, arXiv:1312.6034"
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        magnitude = captum.attr.Saliency(explained_sum(probe)).attribute(tracked(x), additional_forward_args=target)
        return Explanation({"map": channel_sum(magnitude)})
