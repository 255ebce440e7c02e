"""The planted task for a VGG-like network: 3 x 3 convolutions, each followed by a ReLU, and pools of 2 x 2 maxima.

Its convolutions overlap: at the cut, the last pool, there is one feature a cell, and it sees up to a cell beyond its
own. So what the network makes of hidden cells is drawn by whole forward passes, and no claim rests on a feature's cell.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mibench.models.planted import WIDTH, ChainHeads, PlantedModel, pooling


class PlantedVgg(PlantedModel):
    """A small VGG that learns both labels."""

    name = "planted-vgg"
    title = "Planted VGG"
    architecture = "vgg"
    local = "pool3"
    representation = "relu5"
    depths = ("pool1", "pool2", "pool3")

    def build(self) -> ChainHeads:
        """The network, untrained."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels, number = 3, 0
        for stage, widths in enumerate(((16, 16), (32,), (WIDTH,)), start=1):  # an eighth of the image's side is left
            for width in widths:
                number += 1
                layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1)
                layers[f"act{number}"] = nn.ReLU()
                channels = width
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
        return ChainHeads(layers | pooling(nn.AdaptiveAvgPool2d(1)), "flatten", self.parameters.alphabet)
