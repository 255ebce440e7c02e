"""A mask on local features: a module gives the share of each cell that is kept, and a rule what replaces the rest.

    multiply   x'_k = lambda_k x_k                             (MIRE, section 3.2)
    noise      x'_k = lambda_k x_k + (1 - lambda_k) eps_k,     eps_k ~ N(mu_k, sigma_k^2)      (as IBA does)

Multiplying by lambda > 0 can be undone, so it takes no information away, it only makes features unfamiliar; noise does
take it away. mu and sigma are the calibration data's, for each cell and channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mibench.information.critic import initialise
from mibench.network.noise import draw

Blend = Literal["multiply", "noise"]
WIDTH = 64  # hidden channels of a mask module


class Mask(nn.Module):
    """lambda in (0, 1) for every cell: two 3x3 convolutions on grids, a perceptron on each token or on a whole row."""

    def __init__(self, shape: torch.Size, grid: tuple[int, int], channels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.grid, self.rank = grid, len(shape)
        cells = grid[0] * grid[1]
        with torch.device("meta"):
            layers: tuple[nn.Module, ...]
            if self.rank == 4:  # (B, C, h, w)
                layers = (nn.Conv2d(channels, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, 1, 3, padding=1))
            elif self.rank == 3:  # (B, T, C)
                layers = (nn.Linear(channels, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
            else:  # (B, F): a cell is one number, so the mask must see its whole row
                layers = (nn.Linear(cells, WIDTH), nn.ReLU(), nn.Linear(WIDTH, cells))
            self.layers = nn.Sequential(*layers)
        initialise(self, generator)

    def forward(self, cells: Tensor) -> Tensor:
        """lambda (B, K) from standardised cells (B, K, C)."""
        if self.rank == 4:
            cells = cells.transpose(1, 2).reshape(len(cells), -1, *self.grid)  # (B, C, h, w)
        elif self.rank == 2:
            cells = cells[..., 0]  # (B, F)
        return self.layers(cells).flatten(1).sigmoid()  # type: ignore[no-any-return]


def multiply(cells: Tensor, mask: Tensor) -> Tensor:
    """Cells (B, K, C) dimmed by their lambda (B, K)."""
    return cells * mask[..., None]


def mix(cells: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """Cells (B, K, C) with (1 - lambda) of them replaced by noise of their own kind (B, K, C)."""
    return noise + (cells - noise) * mask[..., None]


def noise_like(cells: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise shaped like cells (B, K, C), from one generator a sample, or one for all of them."""
    if len(generators) == 1:
        return torch.randn(cells.shape, generator=generators[0]).to(cells)
    return draw(generators, cells)
