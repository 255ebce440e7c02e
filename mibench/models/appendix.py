"""What the small networks of Deng et al. 2021 (MIP-IN, appendix A) share: they learn labelled images with dropout.

The paper's softmax belongs to the loss: the networks give logits. Dropout works only while learning, and the
explained network has only the layers that the paper lists.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mibench.models.trained import Trained
from mibench.models.training import Lesson, Recipe, accuracy, descend, frozen, trained
from mibench.plugins import contract, registry

SHIFT = 2  # pixels by which a batch is moved at random while learning


class Parameters(contract.Parameters):
    """Which data the network learns, and the accuracy under which it is refused."""

    data: str
    floor: float = Field(ge=0.0, le=1.0)


class AppendixNetwork(Trained[Parameters]):
    """A network of the appendix: `build` defines it, and it is trained on the training split of its data."""

    recipe = Recipe(epochs=8, rate=2e-3)

    @property
    def data(self) -> str:  # type: ignore[override]
        """The data it learned."""
        return str(self.parameters.data)

    @abstractmethod
    def build(self, classes: int) -> nn.Sequential:
        """The untrained network, with its dropout."""

    def load(self) -> nn.Module:
        """The network, trained on first use."""
        source = registry.data(self.data)
        network = trained(self.lesson, lambda: self.build(len(source.classes)), self._teach)
        listed = [(name, layer) for name, layer in network.named_children() if not isinstance(layer, nn.Dropout)]
        return frozen(nn.Sequential(OrderedDict(listed)))

    @property
    def lesson(self) -> Lesson:
        """The training split."""
        source = type(registry.data(self.data)).__module__
        return self.lesson_of(self.parameters.floor, self.recipe, __name__, type(self).__module__, source)

    def _teach(self, network: nn.Sequential, recipe: Recipe) -> float:
        """Learn the training split, moved about at random; the accuracy is that on the calibration split."""
        source = registry.data(self.data)
        seen, held_out = source.load("training", None, self.shape), source.load("calibration", None, self.shape)
        mean, std = (torch.tensor(figures)[:, None, None] for figures in (self.mean, self.std))
        x = (seen.x - mean) / std  # (N, C, H, W)
        generator = torch.Generator().manual_seed(recipe.seed)

        def loss(batch: Tensor) -> Tensor:
            return F.cross_entropy(network(moved(x[batch], generator)), seen.label[batch])

        descend(network, loss, len(x), recipe)
        return accuracy(network, (held_out.x - mean) / std, held_out.label)


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """The batch moved by up to SHIFT pixels; what comes in repeats the border."""
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=generator).tolist()
    height, width = x.shape[-2:]
    padded = F.pad(x, (SHIFT, SHIFT, SHIFT, SHIFT), mode="replicate")
    return padded[..., down : down + height, right : right + width]
