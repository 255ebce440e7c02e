"""Grad-CAM is what hooks on the whole network give, on grids and on tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mibench.methods.gradcam import GradCam
from mibench.network.probe import OpenProbe
from mibench.plugins.contract import Unsupported
from tests.methods.small_networks import convolutional, explained, fully_connected, some, table, transformer


def hooked(probe: OpenProbe, x: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """The local layer's output for one sample and the logit's gradient there, by hooks on the whole network."""
    seen: list[Tensor] = []
    layer = probe.model.get_submodule(probe.local)
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logit = probe.model(x[None].requires_grad_())[0, target]
    handle.remove()
    return seen[0][0].detach(), torch.autograd.grad(logit, seen[0])[0][0]


def test_on_a_grid_channels_are_weighted_by_their_mean_gradient() -> None:
    probe, expected = convolutional(), []
    for x, target, _ in zip(*some(probe), strict=True):
        features, gradient = hooked(probe, x, int(target))  # (C, h, w)
        grid = (gradient.mean((1, 2))[:, None, None] * features).sum(0).relu()
        expected.append(F.interpolate(grid[None, None], (8, 8), mode="bilinear", align_corners=False)[0, 0])
    assert torch.allclose(explained(GradCam(), probe).maps["map"], torch.stack(expected), atol=1e-5)


def test_on_tokens_the_class_token_neither_counts_nor_shows() -> None:
    probe, expected = transformer(), []
    for x, target, _ in zip(*some(probe), strict=True):
        features, gradient = hooked(probe, x, int(target))  # (T, C)
        weight = gradient[1:].mean(0)
        grid = (features[1:] @ weight).relu().reshape(2, 2)
        expected.append(F.interpolate(grid[None, None], (8, 8), mode="bilinear", align_corners=False)[0, 0])
    assert torch.allclose(explained(GradCam(), probe).maps["map"], torch.stack(expected), atol=1e-5)


def test_columns_and_vectors_are_refused_for_they_have_no_channels() -> None:
    with pytest.raises(Unsupported, match="without channels"):
        explained(GradCam(), table())
    with pytest.raises(Unsupported, match="without channels"):
        explained(GradCam(), fully_connected())
