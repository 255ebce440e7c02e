"""DeconvNet: the way back through the network, rectifying what comes from above instead of what went up
(Zeiler & Fergus 2014, section 2.1).

    R_l = [R_{l+1} > 0] R_{l+1}        at every rectifier, whether it was open or not

Signed (the last step, to the input, has no rectifier). The backward pass is ours: see `_rectifiers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mibench.network.gradients import channel_sum
from mibench.network.rectifiers import rectified_slope
from mibench.plugins.contract import Explainer, Explanation, MapSpec, Probe


def deconvolved(is_open: Tensor, gradient: Tensor) -> Tensor:
    """Zeiler and Fergus' rule at one rectifier."""
    return gradient.clamp(min=0)


class DeconvNet(Explainer):
    """Channel sum of the deconvolved gradient."""

    name = "deconvnet"
    title = "DeconvNet"
    paper = "Zeiler & Fergus 2014, arXiv:1311.2901"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        return Explanation({"map": channel_sum(rectified_slope(probe, x, target, deconvolved))})
