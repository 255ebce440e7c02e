"""The planted network: a trunk that must report two glyphs, explained through the head that reports the first.

Its three convolutions tile the image, so that a position of the local grid sees one planted cell and nothing of its
neighbours. The truth that the data state is about a representation of the two labels y and r and of nothing else. So,
while it learns, z is drawn to a centre u_y + v_r against noise of a fixed size, which drives out all else it could hold
(the glyphs behind an `xor`, distractors, hints):

    loss = CE(head(z + e), y) + CE(second(z + e), r) + ramp |z - u_y - v_r|^2 + inventory,    e ~ N(0, I)

Where the sources leave doubt about the label (`graded`, `copies`), no z can hold it: then only the cross-entropies are
left, so that the network's probabilities become those of the label. Their pixel noise is drawn again for every batch.

Under loud noise (that of `suppressor`, or loud pixels) a ReLU after four pixels throws away what a whole cell would
show. There the first convolution reads a cell linearly. For `suppressor` the next one sees their neighbours too, and
can subtract one from the other; for loud pixels two that see one cell follow, wide enough to weigh which role a cell
has. From loud pixels alone the cells are never found: the noise grows over the first third of the lesson, from the
default's to its own.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections import OrderedDict
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.data import backgrounds, planted, searching, sources
from mibench.models.trained import Trained
from mibench.models.training import Lesson, Recipe, accuracy, descend, frozen, trained
from mibench.plugins import registry
from mibench.plugins.contract import Split

MEAN, STD = (0.15, 0.29, 0.15), (0.15, 0.31, 0.15)  # of the base data
WIDTH = 64
LOUD = (1.5, 1.5, 1.5)  # under loud noise; that of `suppressor` is eight times as strong as a glyph
PLAIN = {"graded": Recipe(epochs=8), "copies": Recipe(epochs=8), "suppressor": Recipe(epochs=14, rate=3e-3)}
MANY = 20_000  # training samples of these, whose noise could be learned by heart
QUIET = 0.1  # the pixel noise of a lesson's beginning
LOUD_PIXELS = 0.5  # from here on, cells are read linearly


class Heads(nn.Module):
    """A trunk that gives z, its heads for the label and the second label, and what only helps to learn."""

    def __init__(self, trunk: nn.Module, alphabet: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(WIDTH, alphabet)
        self.second = nn.Linear(WIDTH, alphabet)
        self.inventory = nn.Linear(WIDTH, 2 * alphabet)  # from the pooled features: how often each glyph is there
        self.centre, self.second_centre = (nn.Parameter(torch.zeros(alphabet, WIDTH)) for _ in range(2))

    @abstractmethod
    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features pooled over places, and z, both (N, WIDTH)."""

    @abstractmethod
    def explained(self) -> nn.Module:
        """The trunk with the first head."""


class ChainHeads(Heads):
    """A trunk that is a chain of layers, one of which gives the pooled features."""

    trunk: nn.Sequential

    def __init__(self, layers: OrderedDict[str, nn.Module], pooled: str, alphabet: int) -> None:
        super().__init__(nn.Sequential(layers), alphabet)
        self.parting = 1 + [*layers].index(pooled)

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What that layer and the last one give."""
        pooled = self.trunk[: self.parting](x)  # (N, 64)
        return pooled, self.trunk[self.parting :](pooled)

    def explained(self) -> nn.Sequential:
        """One chain of layers."""
        return nn.Sequential(OrderedDict([*self.trunk.named_children(), ("head", self.head)]))


def tiling() -> OrderedDict[str, nn.Module]:
    """Three convolutions that tile the image."""
    return OrderedDict(
        conv1=nn.Conv2d(3, WIDTH // 2, 2, 2),  # (N, 3, 8h, 8w) -> (N, 32, 4h, 4w)
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(WIDTH // 2, WIDTH, 2, 2),  # -> (N, 64, 2h, 2w)
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(WIDTH, WIDTH, 2, 2),  # -> (N, 64, h, w)
        relu3=nn.ReLU(),
    )


def subtracting() -> OrderedDict[str, nn.Module]:
    """A linear convolution of cells, and one of a cell with those left and right of it."""
    return OrderedDict(
        conv1=nn.Conv2d(3, WIDTH, planted.CELL, planted.CELL),  # (N, 3, 8h, 8w) -> (N, 64, h, w), linear
        conv2=nn.Conv2d(WIDTH, 2 * WIDTH, (1, 3), padding=(0, 1)),  # -> (N, 128, h, w)
        relu2=nn.ReLU(),
    )


def weighing() -> OrderedDict[str, nn.Module]:
    """A linear convolution of cells, and two of one cell."""
    return OrderedDict(
        conv1=nn.Conv2d(3, WIDTH, planted.CELL, planted.CELL),  # (N, 3, 8h, 8w) -> (N, 64, h, w), linear
        conv2=nn.Conv2d(WIDTH, 2 * WIDTH, 1),  # -> (N, 128, h, w)
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(2 * WIDTH, 2 * WIDTH, 1),
        relu3=nn.ReLU(),
    )


def pooling(pool: nn.Module, features: int = WIDTH) -> OrderedDict[str, nn.Module]:
    """A pool over places and two dense layers that give z."""
    return OrderedDict(
        pool=pool,
        flatten=nn.Flatten(),  # -> (N, features)
        dense1=nn.Linear(features, WIDTH),
        relu4=nn.ReLU(),
        dense2=nn.Linear(WIDTH, WIDTH),
        relu5=nn.ReLU(),  # -> z
    )


class PlantedModel(Trained[planted.Parameters]):
    """What learns planted images with both labels; a subclass defines its trunk.

    Its accuracy is a share of the ideal observer's, so that it has one floor however much noise there is.
    """

    floor = 0.97
    mean = MEAN

    @property
    def recipe(self) -> Recipe:
        """How long and how fast to learn."""
        plain = PLAIN.get(self.parameters.variant, Recipe(epochs=12))
        return replace(plain, epochs=24, batch=128, rate=4e-3) if self.parameters.noise >= LOUD_PIXELS else plain

    @property
    def loud(self) -> bool:
        """Whether noise is so loud that cells must first be read as they are."""
        return bool(self.parameters.variant == "suppressor" or self.parameters.noise >= LOUD_PIXELS)

    @property
    def std(self) -> tuple[float, ...]:  # type: ignore[override]  # it follows from the parameters
        """One number a channel."""
        return LOUD if self.loud else STD

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # the images' size follows from the grid
        """One image's."""
        side = planted.CELL * self.parameters.grid
        return (3, side, side)

    @property
    def data(self) -> str:  # type: ignore[override]  # it follows from the parameters
        """The planted data of the same parameters."""
        return registry.label(planted.Planted(self.parameters))

    @abstractmethod
    def build(self) -> Heads:
        """The untrained network with both heads."""

    def load(self) -> nn.Module:
        """The trunk with the first head, trained with both labels on first use."""
        return frozen(self.two_heads().explained())

    def two_heads(self) -> Heads:
        """The whole trained network, with the head that is not explained."""
        return trained(self.lesson, self.build, self._teach)

    @property
    def lesson(self) -> Lesson:
        """Both labels."""
        drawn_by = (each.__name__ for each in (planted, searching, sources, backgrounds))
        return self.lesson_of(self.floor, self.recipe, *dict.fromkeys((__name__, type(self).__module__, *drawn_by)))

    def drawn(self, split: Split, count: int, *, noisy: bool = True) -> tuple[Tensor, planted.Plan]:
        """Normalised images, with or without their pixel noise, and the plan that they were drawn from."""
        plan = planted.draw_plan(self.parameters, split, count)
        mean, std = (torch.tensor(figures)[:, None, None] for figures in (self.mean, self.std))
        parameters = self.parameters if noisy else self.parameters.model_copy(update={"noise": 0.0})
        return (planted.render(parameters, plan) - mean) / std, plan

    def _teach(self, heads: Heads, recipe: Recipe) -> float:
        """Learn both labels; the accuracy on held-out samples is that of the worse head, relative to Bayes'."""
        plain = self.parameters.variant in PLAIN
        x, plan = self.drawn("training", MANY if plain else planted.SIZES["training"], noisy=not plain)
        deviation = torch.tensor(self.std)[:, None, None]  # the unit of normalised images
        told = (plan.role == planted.ROLES.index("signal")) | (plan.role == planted.ROLES.index("redundant"))  # (N, K)
        inventory = (F.one_hot(plan.glyph, 2 * self.parameters.alphabet) * told[..., None]).sum(1).float()  # (N, 2A)
        noise = torch.Generator().manual_seed(recipe.seed)
        steps, passed = recipe.epochs * (len(x) // recipe.batch), itertools.count()

        def loss(batch: Tensor) -> Tensor:
            label, second = plan.label[batch], plan.second[batch]
            if plain:
                grown = min(1.0, 3 * next(passed) / steps)
                loudness = min(QUIET, self.parameters.noise) + max(0.0, self.parameters.noise - QUIET) * grown
                pixels = loudness / deviation * torch.randn(x[batch].shape, generator=noise)
                _, z = heads.pooled(x[batch] + pixels)  # (B, D)
                return F.cross_entropy(heads.head(z), label) + F.cross_entropy(heads.second(z), second)
            pooled, z = heads.pooled(x[batch])  # (B, D), (B, D)
            noisy = z + torch.randn(z.shape, generator=noise)
            named = F.cross_entropy(heads.head(noisy), label) + F.cross_entropy(heads.second(noisy), second)
            ramp = max(0.0, 2 * next(passed) / steps - 1)  # from the middle on: first find the labels, then forget
            spread = (z - heads.centre[label] - heads.second_centre[second]).square().sum(1).mean()
            counted = F.mse_loss(heads.inventory(pooled), inventory[batch], reduction="sum") / len(batch)
            total: Tensor = named + ramp * spread + counted
            return total  # without `counted` the sums of `xor` are never found

        descend(heads, loss, len(x), recipe)
        x, plan = self.drawn("calibration", 2_000)
        ideal = searching.accuracies(self.parameters, plan)
        first, second = (nn.Sequential(heads.trunk, head) for head in (heads.head, heads.second))
        return min(accuracy(first, x, plan.label) / ideal[0], accuracy(second, x, plan.second) / ideal[1])


class PlantedNetwork(PlantedModel):
    """Three tiling convolutions and a pool; under loud noise one that reads whole cells, and one or two more."""

    name = "planted"
    title = "Planted network"
    architecture = "cnn"
    representation = "relu5"

    @property
    def local(self) -> str:  # type: ignore[override]  # it follows from the parameters
        """The last layer whose features see one cell each."""
        return "conv1" if self.loud else "relu3"

    @property
    def depths(self) -> tuple[str, ...]:  # type: ignore[override]
        """Every convolution."""
        first = "conv1" if self.loud else "relu1"
        return (first, "relu2") if self.parameters.variant == "suppressor" else (first, "relu2", "relu3")

    def build(self) -> ChainHeads:
        """The convolutions, untrained."""
        if self.parameters.variant == "suppressor":
            layers = subtracting() | pooling(nn.AdaptiveMaxPool2d(1), 2 * WIDTH)
            return ChainHeads(layers, "dense1", self.parameters.alphabet)
        if self.loud:
            layers = weighing() | pooling(nn.AdaptiveAvgPool2d(1), 2 * WIDTH)
            return ChainHeads(layers, "dense1", self.parameters.alphabet)
        return ChainHeads(tiling() | pooling(nn.AdaptiveAvgPool2d(1)), "flatten", self.parameters.alphabet)
