"""The planted network: a trunk that must report two glyphs, explained through the head that reports the first.

Its three convolutions tile the image, so that a position of the local grid sees one planted cell and nothing of its
neighbours. While it learns, noise on the representation z drives out what neither head needs: what z holds is the two
labels, for which the data state the truth.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench import registry
from mibench.contract import Model, Split
from mibench.data import planted
from mibench.models.training import Lesson, Recipe, accuracy, descend, frozen, trained

MEAN, STD = (0.15, 0.29, 0.15), (0.15, 0.31, 0.15)  # of the base data
NOISE = 1.0  # on z, while learning
RECIPE = Recipe(epochs=8)


class TwoHeads(nn.Module):
    """The trunk, its head for the label, its head for the second label, and a head that only helps to learn."""

    def __init__(self, alphabet: int, width: int = 64) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, width // 2, 2, 2),  # (N, 3, 8h, 8w) -> (N, 32, 4h, 4w)
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(width // 2, width, 2, 2),  # -> (N, 64, 2h, 2w)
                relu2=nn.ReLU(),
                conv3=nn.Conv2d(width, width, 2, 2),  # -> (N, 64, h, w)
                relu3=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),  # -> (N, 64)
                dense=nn.Linear(width, width),
                relu4=nn.ReLU(),  # -> z
            )
        )
        self.head = nn.Linear(width, alphabet)
        self.second = nn.Linear(width, alphabet)
        self.inventory = nn.Linear(width, alphabet)  # from the pooled features: how often each signal glyph is there

    def explained(self) -> nn.Sequential:
        """The trunk with the first head."""
        return nn.Sequential(OrderedDict([*self.trunk.named_children(), ("head", self.head)]))


class PlantedNetwork(Model):
    """Three tiling convolutions, a pool and a dense layer, learned from planted images with both labels."""

    name = "planted"
    title = "Planted network"
    floor = 0.98

    class Parameters(planted.Parameters):
        pass

    local = "relu3"
    representation = "relu4"
    depths = ("relu1", "relu2", "relu3")
    mean, std = MEAN, STD

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The images' size follows from the grid."""
        side = planted.CELL * self.parameters.grid
        return (3, side, side)

    @property
    def data(self) -> str:  # type: ignore[override]
        """The planted data of the same parameters."""
        return registry.label(planted.Planted(planted.Planted.Parameters(**self.parameters.model_dump())))

    def load(self) -> nn.Module:
        """The trunk with the first head, trained with both labels on first use."""
        return frozen(self.two_heads().explained())

    def two_heads(self) -> TwoHeads:
        """The whole trained network, with the head that is not explained."""
        lesson = Lesson(registry.label(self), self.floor, RECIPE, (__name__, planted.__name__))
        return trained(lesson, lambda: TwoHeads(self.parameters.alphabet), self._teach)

    def _teach(self, network: TwoHeads, recipe: Recipe) -> float:
        """Learn both labels; the accuracy on held-out samples is that of the worse head."""
        x, plan = self._drawn("training", planted.SIZES["training"])
        signals = F.one_hot(plan.glyph, 2 * self.parameters.alphabet) * (plan.role == 1)[..., None]  # (N, K, 2A)
        inventory = signals.sum(1)[:, : self.parameters.alphabet].float()  # (N, A)
        noise = torch.Generator().manual_seed(recipe.seed)

        def loss(batch: Tensor) -> Tensor:
            pooled = network.trunk[:8](x[batch])  # (B, 64)
            z = network.trunk[8:](pooled)  # (B, 64)
            z = z + NOISE * torch.randn(z.shape, generator=noise)
            named = F.cross_entropy(network.head(z), plan.label[batch])
            other = F.cross_entropy(network.second(z), plan.second[batch])
            counted = F.mse_loss(network.inventory(pooled), inventory[batch], reduction="sum") / len(batch)
            return named + other + counted  # without `counted` the sums of `xor` are never found

        descend(network, loss, len(x), recipe)
        x, plan = self._drawn("calibration", 2_000)
        seconds = nn.Sequential(network.trunk, network.second)
        return min(accuracy(network.explained(), x, plan.label), accuracy(seconds, x, plan.second))

    def _drawn(self, split: Split, count: int) -> tuple[Tensor, planted.Plan]:
        plan = planted.draw_plan(self.parameters, split, count)
        mean, std = (torch.tensor(figures)[:, None, None] for figures in (self.mean, self.std))
        return (planted.render(self.parameters, plan) - mean) / std, plan
