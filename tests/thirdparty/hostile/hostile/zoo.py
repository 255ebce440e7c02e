"""Networks and data that are the toy's own, and misbehave in the way that their parameter names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from toy.zoo import Corners, Quadrants

from mibench.plugins.contract import Parameters, Samples

from .deeds import ANYWHERE, patch_tensor


class HostileModel(Quadrants):
    """Misbehaves while it is loaded, or whenever it is asked."""

    name = "hostile-model"
    title = "Misbehaves while it is loaded or asked"

    class Parameters(Parameters):
        does: str = ""

    def load(self) -> nn.Module:
        does, network = self.parameters.does, super().load()
        if does in FORWARDS:
            network.append(Asked(FORWARDS[does]))
        elif does == "nanweights":
            next(network.parameters()).mul_(torch.nan)
        elif does:
            ANYWHERE[does]()
        return network.eval()


class HostileData(Corners):
    """Misbehaves while it is loaded."""

    name = "hostile-data"
    title = "Misbehaves while it is loaded"

    class Parameters(Parameters):
        does: str = ""

    def load(self, split: str, count: int | None, shape: tuple[int, ...]) -> Samples:
        does, good = self.parameters.does, super().load(split, count, shape)
        if does in SAMPLES:
            return SAMPLES[does](good)
        if does:
            ANYWHERE[does]()
        return good


class Asked(nn.Module):
    """A last layer that does something to the logits."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, logits: Tensor) -> Tensor:
        return self.change(logits)


def refuse(logits: Tensor) -> Tensor:
    raise ValueError("the network had a bad day")


def patch(logits: Tensor) -> Tensor:
    patch_tensor()
    return logits


FORWARDS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "forwardraises": refuse,
    "forwardpatches": patch,
    "forwardexits": lambda logits: ANYWHERE["osexit0"]() or logits,  # type: ignore[return-value]
    "unstable": lambda logits: logits + torch.rand(logits.shape),
    "softmaxed": lambda logits: logits.softmax(1),
    "nanlogits": lambda logits: logits * torch.nan,
}
SAMPLES: Mapping[str, Callable[[Samples], Samples]] = {
    "none": lambda good: None,  # type: ignore[dict-item]
    "shape": lambda good: replace(good, x=good.x[..., 1:]),
    "labels": lambda good: replace(good, label=good.label + 9),
    "nanpixels": lambda good: replace(good, x=good.x * torch.nan),
    "fewer": lambda good: good[:0],
    "ids": lambda good: replace(good, ids=good.ids[:1]),
    "mask": lambda good: replace(good, mask=good.mask[:, 1:]),  # type: ignore[index]
}
