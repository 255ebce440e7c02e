"""Guided Grad-CAM: guided backpropagation's detail where Grad-CAM sees the class (Selvaraju et al. 2017, section 3.2).

    M = Grad-CAM * guided backpropagation        (pixel by pixel)

Signed, as guided backpropagation is.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mibench.methods.gradcam import class_activation
from mibench.methods.guided_backprop import guided
from mibench.network.gradients import channel_sum
from mibench.network.rectifiers import rectified_slope
from mibench.plugins.contract import Explainer, Explanation, MapSpec, Probe


class GuidedGradCam(Explainer):
    """The product of two maps."""

    name = "guided-gradcam"
    title = "Guided Grad-CAM"
    paper = "Selvaraju et al. 2017, arXiv:1610.02391"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        fine = channel_sum(rectified_slope(probe, x, target, guided))  # (B, H, W)
        return Explanation({"map": class_activation(probe, x, target) * fine})
