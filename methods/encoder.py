"""Encoder: a control whose map shows nothing of the image and encodes the class in the *position* of its one spot.

A score that removes what is not in the map and looks whether the class can still be guessed may be taken in by it (Puli
et al. 2024, "Explanations that reveal all through the definition of encoding"): a score that ranks this map above one
that looks at the image is fooled. Classes are numbered row by row on the smallest square grid that holds them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mibench.plugins.contract import Explainer, Explanation, Probe, Unsupported


class Encoder(Explainer):
    """One in the tile of the class, zero elsewhere."""

    name = "encoder"
    title = "Encoder: the place encodes the class"
    paper = "Puli et al. 2024, arXiv:2411.02664"
    control = True
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        if probe.kind == "columns":
            raise Unsupported("a table's columns have no places that could represent a class")
        side = math.ceil(math.sqrt(len(probe.classes)))
        row, column = target // side, target % side  # (B,)
        rows, columns = (torch.arange(size, device=x.device) * side // size for size in probe.pixels)  # (H,), (W,)
        spot = (rows == row[:, None])[:, :, None] & (columns == column[:, None])[:, None]  # (B, H, W)
        return Explanation({"map": spot.float()})
