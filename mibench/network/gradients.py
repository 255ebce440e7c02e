"""What the gradient explainers share: the slope of the explained logit at an input, one map from all channels.

A batch's gradient is that of the sum of its logits: in eval mode samples do not meet, so each gets its own slope.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mibench.plugins.contract import Probe


def slope(logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
    """The gradient of each sample's target logit with respect to its input, shaped like `x`."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        explained = logits(x).gather(1, target[:, None])  # (B, 1)
        return torch.autograd.grad(explained.sum(), x)[0]


def explained_sum(probe: Probe) -> Callable[[Tensor, Tensor], Tensor]:
    """The sum of a batch's explained logits, for captum, which derives every output by itself: a launch a sample."""

    def total(x: Tensor, target: Tensor) -> Tensor:
        return probe.logits(x).gather(1, target[:, None]).sum()[None]  # (1,)

    return total


def channel_sum(attribution: Tensor) -> Tensor:
    """(B, C, H, W) as one map (B, H, W); a table's columns (B, F) are a map of one row (B, 1, F)."""
    return attribution.sum(1) if attribution.dim() == 4 else attribution[:, None]


def tracked(x: Tensor) -> Tensor:
    """The input as captum wants it: a leaf of its own, so that captum need not set, and warn of, a flag on ours."""
    return x.detach().clone().requires_grad_()
