"""The planted network: a trunk that must report two glyphs, explained through the head that reports the first.

Its three convolutions tile the image, so that a position of the local grid sees one planted cell and nothing of its
neighbours. The truth that the data state is about a representation of the two labels y and r and of nothing else. So,
while it learns, z is drawn to a centre u_y + v_r against noise of a fixed size, which drives out all else it could hold
(the glyphs behind an `xor`, distractors, hints):

    loss = CE(head(z + e), y) + CE(second(z + e), r) + ramp |z - u_y - v_r|^2 + inventory,    e ~ N(0, I)
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench import registry
from mibench.contract import Model, Split
from mibench.data import planted
from mibench.models.training import Lesson, Recipe, accuracy, descend, frozen, trained

MEAN, STD = (0.15, 0.29, 0.15), (0.15, 0.31, 0.15)  # of the base data
RECIPE = Recipe(epochs=12)


class TwoHeads(nn.Module):
    """The trunk, its heads for the label and the second label, and what only helps to learn."""

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
                dense1=nn.Linear(width, width),
                relu4=nn.ReLU(),
                dense2=nn.Linear(width, width),
                relu5=nn.ReLU(),  # -> z
            )
        )
        self.head = nn.Linear(width, alphabet)
        self.second = nn.Linear(width, alphabet)
        self.inventory = nn.Linear(width, 2 * alphabet)  # from the pooled features: how often each glyph is there
        self.centre, self.second_centre = (nn.Parameter(torch.zeros(alphabet, width)) for _ in range(2))

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
    representation = "relu5"
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
        told = (plan.role == planted.ROLES.index("signal")) | (plan.role == planted.ROLES.index("redundant"))  # (N, K)
        inventory = (F.one_hot(plan.glyph, 2 * self.parameters.alphabet) * told[..., None]).sum(1).float()  # (N, 2A)
        noise = torch.Generator().manual_seed(recipe.seed)
        steps, passed = recipe.epochs * (len(x) // recipe.batch), itertools.count()

        def loss(batch: Tensor) -> Tensor:
            label, second = plan.label[batch], plan.second[batch]
            pooled = network.trunk[:8](x[batch])  # (B, 64)
            z = network.trunk[8:](pooled)  # (B, 64)
            noisy = z + torch.randn(z.shape, generator=noise)
            named = F.cross_entropy(network.head(noisy), label) + F.cross_entropy(network.second(noisy), second)
            ramp = max(0.0, 2 * next(passed) / steps - 1)  # from the middle on: first find the labels, then forget
            spread = (z - network.centre[label] - network.second_centre[second]).square().sum(1).mean()
            counted = F.mse_loss(network.inventory(pooled), inventory[batch], reduction="sum") / len(batch)
            total: Tensor = named + ramp * spread + counted
            return total  # without `counted` the sums of `xor` are never found

        descend(network, loss, len(x), recipe)
        x, plan = self._drawn("calibration", 2_000)
        seconds = nn.Sequential(network.trunk, network.second)
        return min(accuracy(network.explained(), x, plan.label), accuracy(seconds, x, plan.second))

    def _drawn(self, split: Split, count: int) -> tuple[Tensor, planted.Plan]:
        plan = planted.draw_plan(self.parameters, split, count)
        mean, std = (torch.tensor(figures)[:, None, None] for figures in (self.mean, self.std))
        return (planted.render(self.parameters, plan) - mean) / std, plan
