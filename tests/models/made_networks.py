"""A user's module of networks, good and bad, as tests of the user's own models import it."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """A convolution, a pool and a dense layer for ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.avgpool(self.features(x)).flatten(1))
        return logits


class Dicing(Plain):
    """Not deterministic, not even in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.rand(1)


class Pair(Plain):
    """Gives more than logits."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x), x  # type: ignore[return-value]


def build() -> nn.Module:
    return Plain()


def softmaxed() -> nn.Module:
    plain = Plain()
    return nn.Sequential(
        OrderedDict(
            features=plain.features, avgpool=plain.avgpool, flat=nn.Flatten(), fc=plain.fc, softmax=nn.Softmax(1)
        )
    )


def dicing() -> nn.Module:
    return Dicing()


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def broken() -> nn.Module:
    raise OSError("no such place")


def number() -> int:
    return 3


def pair() -> nn.Module:
    return Pair()


def flat() -> nn.Module:
    return nn.Sequential(OrderedDict(features=nn.Conv2d(3, 8, 3), avgpool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(0)))


def overflowing() -> nn.Module:
    network = Plain()
    for parameter in network.parameters():
        parameter.data.fill_(1e38)
    return network


def poisoned() -> nn.Module:
    network = Plain()
    network.fc.weight.data[1, 1] = float("nan")
    return network
