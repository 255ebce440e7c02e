"""The planted task for a transformer: torchvision's ViT with one token a cell, cut at its tokens.

Where it is cut, after the position embedding and before the first block, a token knows its own cell and place and
nothing of its neighbours, so that the truth of the cells is that of the tokens. After the first block it no longer is.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mibench.data import planted
from mibench.models.planted import WIDTH, Heads, PlantedModel
from mibench.models.training import Recipe

if TYPE_CHECKING:
    from torchvision.models import VisionTransformer

BLOCKS = 3


class VitHeads(Heads):
    """Three blocks of four attention heads over the cells and a class token, which is z."""

    trunk: VisionTransformer

    def __init__(self, grid: int, alphabet: int) -> None:
        from torchvision.models import VisionTransformer  # slow to import, and seldom wanted

        network = VisionTransformer(planted.CELL * grid, planted.CELL, BLOCKS, 4, WIDTH, 2 * WIDTH)
        network.heads = nn.Identity()  # its own head gives way to ours
        super().__init__(network, alphabet)

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the cells' tokens and the class token, after the last norm."""
        cells = self.trunk._process_input(x)  # (N, K, D)
        tokens = self.trunk.encoder(torch.cat([self.trunk.class_token.expand(len(x), -1, -1), cells], 1))
        return tokens[:, 1:].mean(1), tokens[:, 0]  # of (N, 1 + K, D)

    def explained(self) -> nn.Module:
        """The transformer with the first head in the place of its own."""
        network: nn.Module = copy.deepcopy(self.trunk)
        network.heads = self.head
        return network


class PlantedVit(PlantedModel):
    """A small ViT that learns both labels."""

    name = "planted-vit"
    title = "Planted ViT"
    architecture = "vit"
    kind = "tokens"
    local = "encoder.dropout"
    representation = "encoder.ln"
    depths = ("encoder.dropout", "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1")
    recipe = Recipe(epochs=8, rate=2e-3)  # whatever the variant

    def build(self) -> VitHeads:
        """The transformer, untrained."""
        return VitHeads(self.parameters.grid, self.parameters.alphabet)
