"""torchvision's ResNets, VGGs and ViT with ImageNet weights: from torchvision's site, or from a file of the user's.

`resnet50` downloads torchvision's weights once (into torch's own cache), `resnet50[weights=PATH]` reads a file,
`resnet50[weights=random]` has random weights, for tests. The folder of pictures is the user's: `--data folder:PATH`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from mibench.errors import ModelError
from mibench.models.training import frozen
from mibench.models.weights import fill
from mibench.plugins import contract
from mibench.plugins.contract import Model


class Parameters(contract.Parameters):
    """Where the weights come from, and how many classes they distinguish."""

    weights: str = "imagenet"  # "imagenet", "random", or a file
    classes: int = Field(default=1000, ge=2)


class VisionNetwork(Model[Parameters]):
    """A network that torchvision builds; `builder` is its name there."""

    builder: str
    shape = (3, 224, 224)
    data = "folder"
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    @property
    def paths(self) -> tuple[str, ...]:
        """The file of weights, if one is named."""
        weights = self.parameters.weights
        return () if weights in ("imagenet", "random") else (weights,)

    def load(self) -> nn.Module:
        """The network with its weights."""
        import torchvision.models

        build = getattr(torchvision.models, self.builder)
        weights, classes = self.parameters.weights, self.parameters.classes
        if weights == "imagenet":
            return frozen(_downloaded(build, self.builder, classes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: nn.Module = build(weights=None, num_classes=classes)
        if weights != "random":
            fill(network, Path(weights))
        return frozen(network)


def _downloaded(build: Any, name: str, classes: int) -> nn.Module:
    """torchvision's first ImageNet weights, which are those that the papers used."""
    if classes != 1000:
        raise ModelError(f"{name}: ImageNet's weights have 1000 classes; for {classes} pass a file of weights")
    try:
        network: nn.Module = build(weights="IMAGENET1K_V1")
    except (OSError, RuntimeError) as error:  # no network, an interrupted download, a wrong hash
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the weights of {name} could not be downloaded ({reason}): download them elsewhere and pass "
            f"{name.replace('_', '-')}[weights=PATH]"
        ) from error
    return network


class ResNet18(VisionNetwork):
    """ResNet-18, cut where MIRE's paper cuts ResNet-50."""

    name = "resnet18"
    title = "ResNet-18"
    architecture = "residual"
    builder = "resnet18"
    local = "layer4"
    representation = "avgpool"
    depths = ("layer1", "layer2", "layer3", "layer4")


class ResNet50(VisionNetwork):
    """ResNet-50, cut as in MIRE's paper: layer4 and avgpool."""

    name = "resnet50"
    title = "ResNet-50"
    architecture = "residual"
    builder = "resnet50"
    local = "layer4"
    representation = "avgpool"
    depths = ("layer1", "layer2", "layer3", "layer4")


class Vgg16(VisionNetwork):
    """VGG-16, cut after its last convolution."""

    name = "vgg16"
    title = "VGG-16"
    architecture = "vgg"
    builder = "vgg16"
    local = "features.29"
    representation = "classifier.4"
    depths = ("features.3", "features.8", "features.15", "features.22", "features.29")


class Vgg19(VisionNetwork):
    """VGG-19, cut after its last convolution."""

    name = "vgg19"
    title = "VGG-19"
    architecture = "vgg"
    builder = "vgg19"
    local = "features.35"
    representation = "classifier.4"
    depths = ("features.3", "features.8", "features.17", "features.26", "features.35")


class VitB16(VisionNetwork):
    """ViT-B/16: patch tokens are local; the class token after the last norm is the representation.

    Patch tokens after the last block no longer touch the class token, so the cut is some blocks before it.
    """

    name = "vit-b-16"
    title = "ViT-B/16"
    architecture = "vit"
    kind = "tokens"
    builder = "vit_b_16"
    local = "encoder.layers.encoder_layer_8"
    representation = "encoder.ln"
    depths = (
        "encoder.layers.encoder_layer_2",
        "encoder.layers.encoder_layer_5",
        "encoder.layers.encoder_layer_8",
        "encoder.layers.encoder_layer_10",
    )
