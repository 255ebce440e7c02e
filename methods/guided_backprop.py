"""Guided backpropagation: the gradient that passes a rectifier only if it was open and the gradient is positive
(Springenberg et al. 2015, section 3.4).

    R_l = [z_l > 0] [R_{l+1} > 0] R_{l+1}        at every rectifier

Signed (the last step, to the input, has no rectifier). The backward pass is ours: see `_rectifiers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mibench.network.gradients import channel_sum
from mibench.network.rectifiers import rectified_slope
from mibench.plugins.contract import Explainer, Explanation, MapSpec, Probe


def guided(is_open: Tensor, gradient: Tensor) -> Tensor:
    """Springenberg's rule at one rectifier."""
    return gradient.clamp(min=0) * is_open


class GuidedBackprop(Explainer):
    """Channel sum of the guided gradient."""

    name = "guided-backprop"
    title = "Guided backpropagation"
    paper = "Springenberg et al. 2015, arXiv:1412.6806"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        return Explanation({"map": channel_sum(rectified_slope(probe, x, target, guided))})
