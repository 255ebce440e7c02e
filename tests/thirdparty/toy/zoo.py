"""A tiny network and tiny images: bright squares in one of four corners, and the network that knows the corner."""

from __future__ import annotations

import torch
from torch import nn

from mibench.plugins.contract import Data, Model, Samples

SIZE = 8


class Corners(Data):
    name = "corners"
    title = "A bright square in one of four corners"

    @property
    def classes(self) -> tuple[str, ...]:
        return ("top left", "top right", "bottom left", "bottom right")

    def load(self, split: str, count: int | None, shape: tuple[int, ...]) -> Samples:
        count = 64 if count is None else count
        offset = ("training", "calibration", "scoring").index(split)
        x = torch.rand((count, *shape), generator=torch.Generator().manual_seed(offset)) / 4
        label = torch.arange(count) % 4
        mask = torch.zeros((count, SIZE, SIZE), dtype=torch.bool)
        half = SIZE // 2
        for n, corner in enumerate(label.tolist()):
            mask[n, half * (corner // 2) : half * (corner // 2 + 1), half * (corner % 2) : half * (corner % 2 + 1)] = 1
        x = x + 0.75 * mask[:, None]
        return Samples(x, label, tuple(f"{split}-{n}" for n in range(count)), mask)


class Quadrants(Model):
    name = "quadrants"
    title = "Pooling over four quadrants and a linear layer"
    shape = (1, SIZE, SIZE)
    local = "blur"
    representation = "pool"
    depths = ("blur",)
    data = "corners"

    def load(self) -> nn.Module:
        network = nn.Sequential()
        network.add_module("blur", nn.Conv2d(1, 2, 3, padding=1))
        network.add_module("relu", nn.ReLU())
        network.add_module("pool", nn.AdaptiveAvgPool2d(2))
        network.add_module("flat", nn.Flatten())
        network.add_module("head", nn.Linear(8, 4))
        with torch.no_grad():
            network.blur.weight.fill_(1 / 9)
            network.blur.bias.zero_()
            network.head.weight.copy_(torch.eye(4).repeat(1, 2) * 4)
            network.head.bias.zero_()
        return network.eval().requires_grad_(False)
