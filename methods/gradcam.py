"""Grad-CAM: the local features' channels, weighted by how much the explained logit wants of each
(Selvaraju et al. 2017, equations 1 and 2).

    w_ch = 1/K sum_k dS_c / dA_{k ch},    M_k = ReLU( sum_ch w_ch A_{k ch} )

A is what the probe cuts open: the positions of a feature map or a transformer's tokens (the class token, which has no
place in the image, neither counts nor shows). Only the layers after the cut are run for the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mibench.plugins.contract import Explainer, Explanation, Probe, Unsupported


class GradCam(Explainer):
    """Never negative; bilinear from the grid to the pixels."""

    name = "gradcam"
    title = "Grad-CAM"
    paper = "Selvaraju et al. 2017, arXiv:1610.02391"
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        return Explanation({"map": class_activation(probe, x, target)})


def class_activation(probe: Probe, x: Tensor, target: Tensor) -> Tensor:
    """The class activation map (B, H, W)."""
    with torch.no_grad():
        local = probe.features(x).local
    if probe.kind == "columns" or local.dim() < 3:
        raise Unsupported("Grad-CAM weighs channels: the features here are single numbers without channels")
    with torch.enable_grad():
        local = local.requires_grad_()
        explained = probe.resume(local).logits.gather(1, target[:, None])
        gradient = torch.autograd.grad(explained.sum(), local)[0]
    weight = probe.cells(gradient).mean(1, keepdim=True)  # (B, 1, C)
    activation = (weight * probe.cells(local.detach())).sum(-1).relu()  # (B, K)
    return probe.upsample(activation.reshape(-1, *probe.grid))
