"""Three networks of common kinds for small grey images: a ResNet-20, one like VGG, and a small ViT.

They learn Fashion-MNIST, or MNIST's digits where the user has all 70,000: AdamW, batches moved by up to two pixels, and
garments mirrored, for digits are not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mibench.models.appendix import moved
from mibench.models.trained import Trained
from mibench.models.training import Lesson, Recipe, accuracy, descend, trained
from mibench.plugins import contract, registry

if TYPE_CHECKING:
    from torchvision.models import VisionTransformer

SIDE = 28


class Parameters(contract.Parameters):
    """What a network learns, and the accuracy under which it is refused."""

    data: str = "fashion"
    floor: float = Field(0.92, ge=0.0, le=1.0)


class SmallImageNetwork(Trained[Parameters]):
    """What learns labelled images of one channel; a subclass defines its layers."""

    shape = (1, SIDE, SIDE)
    mean, std = (0.29,), (0.35,)
    recipe: Recipe

    @property
    def data(self) -> str:  # type: ignore[override]
        """The data it learned."""
        return str(self.parameters.data)

    @abstractmethod
    def build(self, classes: int) -> nn.Module:
        """The untrained network."""

    def load(self) -> nn.Module:
        """The network, trained on first use."""
        classes = len(registry.data(self.data).classes)
        return trained(self.lesson, lambda: self.build(classes), self._teach)

    @property
    def lesson(self) -> Lesson:
        """The training split."""
        source = type(registry.data(self.data)).__module__
        return self.lesson_of(self.parameters.floor, self.recipe, __name__, moved.__module__, source)

    def _teach(self, network: nn.Module, recipe: Recipe) -> float:
        """Learn the training split, moved about at random; the accuracy is that on the calibration split."""
        source = registry.data(self.data)
        seen, held_out = source.load("training", None, self.shape), source.load("calibration", None, self.shape)
        mean, std = (torch.tensor(figures)[:, None, None] for figures in (self.mean, self.std))
        x = (seen.x - mean) / std  # (N, 1, 28, 28)
        network.to(memory_format=torch.channels_last)  # a quarter faster on a processor
        generator = torch.Generator().manual_seed(recipe.seed)
        mirrored = self.data.startswith("fashion")

        def loss(batch: Tensor) -> Tensor:
            images = moved(x[batch], generator)
            if mirrored:
                turned = torch.rand(len(batch), generator=generator) < 0.5
                images = torch.where(turned[:, None, None, None], images.flip(-1), images)
            images = images.contiguous(memory_format=torch.channels_last)
            return F.cross_entropy(network(images), seen.label[batch], label_smoothing=0.05)

        descend(network, loss, len(x), recipe)
        return accuracy(network, (held_out.x - mean) / std, held_out.label)


class Block(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x)))))), He et al. (2016); a shortcut is a 1x1 convolution if need be."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, h, w) to (N, width, h / stride, w / stride)."""
        return self.relu2(self.shortcut(x) + self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))  # type: ignore[no-any-return]


class ResNet20(SmallImageNetwork):
    """Nine blocks in three stages of 16, 32 and 64 channels, as for CIFAR-10."""

    name = "resnet20"
    title = "ResNet-20"
    architecture = "residual"
    floor = 0.92
    local = "stage3"
    representation = "flatten"
    depths = ("stage1", "stage2", "stage3")
    recipe = Recipe(epochs=12, batch=128, rate=4e-3, decay=0.05)

    def build(self, classes: int) -> nn.Sequential:
        """The network, untrained."""

        def stage(before: int, width: int, stride: int) -> nn.Sequential:
            return nn.Sequential(Block(before, width, stride), Block(width, width, 1), Block(width, width, 1))

        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 16, 3, padding=1, bias=False),  # (N, 1, 28, 28) -> (N, 16, 28, 28)
                bn1=nn.BatchNorm2d(16),
                relu1=nn.ReLU(),
                stage1=stage(16, 16, 1),
                stage2=stage(16, 32, 2),  # -> (N, 32, 14, 14)
                stage3=stage(32, 64, 2),  # -> (N, 64, 7, 7)
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),  # -> (N, 64)
                dense=nn.Linear(64, classes),
            )
        )


class Vgg7(SmallImageNetwork):
    """Six convolutions in three stages and two dense layers, each convolution with batch norm."""

    name = "vgg7"
    title = "VGG-7"
    architecture = "vgg"
    floor = 0.92
    local = "relu6"  # before the last pool, which leaves 3 x 3 places
    representation = "relu7"
    depths = ("relu2", "relu4", "relu6")
    recipe = Recipe(epochs=14, batch=128, rate=3e-3, decay=0.05)
    widths = (1, 24, 24, 48, 48, 96, 96)

    def build(self, classes: int) -> nn.Sequential:
        """The network, untrained."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (before, width) in enumerate(pairwise(self.widths), start=1):
            layers[f"conv{number}"] = nn.Conv2d(before, width, 3, padding=1, bias=False)
            layers[f"bn{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU()
            if number % 2 == 0:
                layers[f"pool{number // 2}"] = nn.MaxPool2d(2)  # -> 14, 7, 3
        layers |= OrderedDict(
            flatten=nn.Flatten(),  # -> (N, 864)
            dense7=nn.Linear(9 * self.widths[-1], 128),
            relu7=nn.ReLU(),
            dense8=nn.Linear(128, classes),
        )
        return nn.Sequential(layers)


class VitSmall(SmallImageNetwork):
    """torchvision's ViT with patches of four pixels, four blocks, four heads and 64 channels."""

    name = "vit-small"
    title = "Small ViT"
    architecture = "vit"
    floor = 0.88
    kind = "tokens"
    local = "encoder.layers.encoder_layer_1"
    representation = "encoder.ln"
    depths = ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1", "encoder.layers.encoder_layer_2")
    recipe = Recipe(epochs=24, batch=128, rate=2e-3, decay=0.05)

    class Parameters(Parameters):
        floor: float = Field(0.88, ge=0.0, le=1.0)

    def build(self, classes: int) -> VisionTransformer:
        """The transformer, untrained; it repeats the grey channel, for torchvision's takes three."""
        from torchvision.models import VisionTransformer  # slow to import, and seldom wanted

        network = VisionTransformer(SIDE, 4, 4, 4, 64, 128, num_classes=classes)
        network.conv_proj = nn.Conv2d(1, 64, 4, 4)  # (N, 1, 28, 28) -> (N, 64, 7, 7)
        return network
