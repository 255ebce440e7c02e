"""The prototype network (Snell et al. 2017), which MIRE and MI-LR explain: nearness to the means of a few examples.

    prototype  p_c = mean over the support of class c of f(x)                  logits_c = -|f(x) - p_c|^2        (1)
    the same   logits_c + |f(x)|^2 = 2 <p_c, f(x)> - |p_c|^2                   (their section 2.4)              (2)

With the support fixed it is a classifier of N ways, so that every explainer can explain a query. What (2) adds is the
same for every way: decisions and probabilities are those of (1), and `head=linear` is a dense layer, which explainers
that walk the layers (LRP, MIP-IN, PatternNet) need. The embedding f is four convolutions, learned from episodes of
the classes that are in no episode, or EfficientNet-Lite0 as it comes:
`prototype[ways=5,shots=1,episode=0,backbone=conv,head=distance]:DATA`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mibench.data import episodes
from mibench.data.episodes import Episodes
from mibench.models.efficientnet_lite0 import EfficientNetLite0
from mibench.models.training import Lesson, Recipe, descend, digest, frozen, trained
from mibench.plugins import registry
from mibench.plugins.contract import Model, Samples

WIDTH = 64
WAYS = 5  # of an episode of learning, however many the explained one has
QUERIES = 5  # of each class in an episode of learning
RECIPE = Recipe(epochs=1, batch=1, rate=2e-3)
EPISODES = 400  # to learn from


class Prototypes(nn.Module):
    """Negative squared distances to the prototypes."""

    prototypes: Tensor

    def __init__(self, prototypes: Tensor) -> None:
        super().__init__()
        self.register_buffer("prototypes", prototypes)  # (N, D)

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, N)."""
        return distances(z, self.prototypes)


class Parameters(episodes.Parameters):
    """The episode, the embedding and the last layer."""

    backbone: Literal["conv", "efficientnet-lite0"] = "conv"
    head: Literal["distance", "linear"] = "distance"  # (1), or (2)
    floor: float = Field(default=0.4, ge=0.0, le=1.0)  # of 5-way episodes of the learned classes' held-out images


class Prototype(Model[Parameters]):
    """A query is of the class whose support is nearest to it."""

    name = "prototype"
    title = "Prototype network"
    architecture = "prototype"
    floor = 0.4

    def __init__(self, parameters: Parameters | None = None, argument: str = "", **values: object) -> None:
        super().__init__(parameters, argument, **values)
        keep = self.parameters.model_dump(exclude={"backbone", "head", "floor"})
        self.source = Episodes(episodes.Parameters(**keep), argument)
        self.data = registry.label(self.source)
        if self.parameters.backbone == "conv":
            small = not argument or argument.startswith(("mnist", "digits"))
            self.shape = (1, 28, 28) if small else (3, 84, 84)
            self.local, self.representation = "block1", "avgpool"
            self.depths = ("block1", "block2", "block3", "block4")
            self.mean, self.std = ((0.13,), (0.31,)) if small else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        else:
            for key in ("shape", "local", "representation", "depths", "mean", "std"):
                setattr(self, key, getattr(EfficientNetLite0, key))

    def load(self) -> nn.Module:
        """The embedding with the prototypes of the episode's support as its last layer."""
        embedding = self._embedding()
        support = self._normalised(self.source.support(self.shape))
        with torch.no_grad():
            means = prototypes(embedding(support.x), support.label, self.parameters.ways)
        head = Prototypes(means) if self.parameters.head == "distance" else linear(means)
        if self.parameters.backbone == "conv":
            return frozen(nn.Sequential(OrderedDict([*embedding.named_children(), ("prototypes", head)])))
        embedding._fc = head
        return frozen(embedding)

    def _embedding(self) -> nn.Module:
        """The backbone, frozen, giving (N, D)."""
        if self.parameters.backbone == "efficientnet-lite0":
            network = EfficientNetLite0().load()
            network._fc = nn.Identity()
            return frozen(network)
        base = Episodes(argument=self.source.argument).base("training", self.shape)
        learned = digest([base.x.numpy().tobytes(), base.label.numpy().tobytes()])
        # one embedding serves every episode of the same data and shots
        name = f"prototype[shots={self.parameters.shots}]:{self.source.argument or 'mnist'}"
        lesson = Lesson(name, self.parameters.floor, RECIPE, (__name__, episodes.__name__, learned))
        return trained(lesson, lambda: conv4(self.shape[0]), lambda network, recipe: self._teach(network, recipe))

    def _teach(self, network: nn.Module, recipe: Recipe) -> float:
        """Learn from episodes; the accuracy is that in episodes of held-out images of the same classes."""
        seen, held_out = (
            self._normalised(self.source.base(split, self.shape)) for split in ("training", "calibration")
        )
        generator = torch.Generator().manual_seed(recipe.seed)

        def loss(_batch: Tensor) -> Tensor:
            logits, label = self._episode(network, seen, generator, turned=True)
            return F.cross_entropy(logits, label)

        descend(network, loss, EPISODES, recipe)
        network.eval()
        with torch.no_grad():
            tried = [self._episode(network, held_out, generator, turned=False) for _ in range(100)]
        return float(torch.cat([logits.argmax(1) == label for logits, label in tried]).float().mean())

    def _episode(
        self, network: nn.Module, samples: Samples, generator: torch.Generator, turned: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits and labels of the queries of an episode drawn from these samples.

        A class turned by a quarter is a class of its own: few classes teach too little about new ones.
        """
        shots, pools = self.parameters.shots, _pools(samples.label, self.parameters.shots + 1)
        kinds = [(pool, quarter) for pool in pools for quarter in range(4 if turned else 1)]
        chosen = [kinds[i] for i in torch.randperm(len(kinds), generator=generator)[:WAYS].tolist()]
        drawn = [pool[torch.randperm(len(pool), generator=generator)[: shots + QUERIES]] for pool, _ in chosen]
        x = [samples.x[rows].rot90(quarter, (2, 3)) for rows, (_, quarter) in zip(drawn, chosen, strict=True)]
        z = network(torch.cat(x))  # (ways * (shots + queries), D), each way's support first
        parts = z.split([len(rows) for rows in drawn])
        means = torch.stack([part[:shots].mean(0) for part in parts])  # (N, D)
        label = torch.cat([torch.full((len(part) - shots,), way) for way, part in enumerate(parts)])
        return distances(torch.cat([part[shots:] for part in parts]), means), label

    def _normalised(self, samples: Samples) -> Samples:
        mean, std = (torch.tensor(figures)[:, None, None] for figures in (self.mean, self.std))
        return Samples((samples.x - mean) / std, samples.label, samples.ids)


def conv4(channels: int) -> nn.Sequential:
    """Four blocks of convolution, batch norm, rectifier and max-pool, and the mean over places."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, width in enumerate((channels, WIDTH, WIDTH, WIDTH), start=1):
        parts = (nn.Conv2d(width, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.MaxPool2d(2))
        layers[f"block{block}"] = nn.Sequential(*parts)
    layers["avgpool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()  # (N, 64)
    return nn.Sequential(layers)


def distances(z: Tensor, means: Tensor) -> Tensor:
    """Negative squared distances (B, N) of z (B, D) to the prototypes (N, D)."""
    return -(z[:, None] - means[None]).square().sum(2)


def linear(means: Tensor) -> nn.Linear:
    """(2): the distances to the prototypes (N, D) without what they have in common."""
    layer = nn.Linear(means.shape[1], len(means), device="meta")
    layer.load_state_dict({"weight": 2 * means, "bias": -means.square().sum(1)}, assign=True)
    return layer


def prototypes(z: Tensor, label: Tensor, ways: int) -> Tensor:
    """The mean of each way's embeddings, (N, D)."""
    return torch.stack([z[label == way].mean(0) for way in range(ways)])


def _pools(label: Tensor, at_least: int) -> list[Tensor]:
    """The rows of each class that has enough of them."""
    rows = [(label == each).nonzero().flatten() for each in sorted(set(label.tolist()))]
    return [pool for pool in rows if len(pool) >= at_least]
