"""Degradation: how much longer the decision lives when the least relevant tiles go first than when the most relevant do
(Schulz et al. 2020, section 5.3, after Ancona et al. 2018).

With p_s the probability of the explained class after step s, and S steps until the whole image is removed,

    score = 1/S sum_{s = 0 … S} (LeRF_s - MoRF_s)        (by trapezoids; both curves share their ends)

The paper divides its curves by their mean fall from p_0 to p_S over all images: one factor for all maps of a task,
which changes no order. We leave it out, so that a sample's score depends on nothing but the sample. The paper takes
tiles of 8 x 8 and 14 x 14 pixels: `degradation` and `degradation[tile=14]`. A map that knows nothing scores 0. The
paper's other task, the box ratio, is `bounding-box-accuracy`.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from mibench.metrics.perturbation import Baseline, descending, forwards
from mibench.metrics.sharing import RowMetric, image, mean_by
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Scene, Unsupported


class Parameters(contract.Parameters):
    """What is removed at a time, and what takes its place."""

    baseline: Baseline = "mean"
    tile: int = Field(8, ge=1, description="pixels along a tile's side; the paper takes 8 and 14")
    steps: int = Field(24, ge=2, description="at most; fewer where there are fewer tiles")


class Degradation(RowMetric[Parameters]):
    """High when the order of the tiles is right at both ends."""

    name = "degradation"
    title = "Degradation: area between the curves of least and most relevant tiles first"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Schulz et al. 2020, arXiv:2001.00396"
    needs = frozenset({"image"})

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        tile = tiled(scene, self.parameters.tile).expand(len(row.map), -1)  # (B, F)
        count = int(tile.max()) + 1
        if count < 2:
            raise Unsupported(f"a tile of {self.parameters.tile} pixels covers the whole image")
        places = descending(scene, mean_by(row.map.flatten(1).double(), tile)[:, :count])  # (B, tiles)
        most, least = (self._curve(scene, order.gather(1, tile), count) for order in (places, count - 1 - places))
        return (least - most)[:, :-1].sum(1) / most.shape[1]  # (B,) the curves meet at both ends

    def _curve(self, scene: Scene, place: Tensor, count: int) -> Tensor:
        """The class's probability after each step, (B, S), as tiles go in the order of their pixels' `place` (B, F)."""
        size = -(-count // self.parameters.steps)  # tiles a step
        return forwards(scene).removed(place // size, -(-count // size), self.parameters.baseline).probability


def tiled(scene: Scene, side: int) -> Tensor:
    """(F,) the tile of each pixel, row by row, tiles of `side` by `side` pixels."""
    height, width = image(scene)
    down, right = (torch.arange(length) // side for length in (height, width))
    return (down[:, None] * (int(right[-1]) + 1) + right).flatten()
