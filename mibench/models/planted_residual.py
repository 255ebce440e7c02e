"""The planted task for a residual network: one linear convolution of cells, then two blocks around which z may pass.

Where it is cut, after the first convolution, a feature is a linear reading of one cell and of nothing else; the blocks'
3 x 3 convolutions see the neighbours, and what passes around them stays linear, so that the common noise of
`suppressor` can be subtracted.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from mibench.data import planted
from mibench.models.planted import WIDTH, ChainHeads, PlantedModel, pooling


class Block(nn.Module):
    """x + conv(relu(conv(relu(x)))), He et al. (2016b)'s order without batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D, h, w) of the same shape."""
        return x + self.conv2(torch.relu(self.conv1(torch.relu(x))))  # type: ignore[no-any-return]


class PlantedResidual(PlantedModel):
    """A small residual network that learns both labels."""

    name = "planted-residual"
    title = "Planted residual network"
    architecture = "residual"
    local = "patch"
    representation = "relu5"
    depths = ("patch", "block1", "block2")

    def build(self) -> ChainHeads:
        """The network, untrained."""
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            patch=nn.Conv2d(3, WIDTH, planted.CELL, planted.CELL),  # (N, 3, 8h, 8w) -> (N, 64, h, w), linear
            block1=Block(WIDTH),
            block2=Block(WIDTH),
            relu3=nn.ReLU(),
        )
        return ChainHeads(layers | pooling(nn.AdaptiveAvgPool2d(1)), "flatten", self.parameters.alphabet)
