"""Noisy linear imputation: removed pixels become what their neighbours suggest, so that a hole's shape reveals nothing.

Every removed pixel is to be the weighted mean of its neighbours within the image, known or removed (Rong et al. 2022,
section 4.2: 1/6 for the four nearest, 1/12 for the four diagonal ones), which is a linear system in the removed pixels:

    (sum_j w_ij) x_i - sum_{j removed} w_ij x_j = sum_{j known} w_ij x_j

Numbered row by row, a removed pixel is never far from its neighbours: the system is banded and positive definite.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg.lapack import dpbsv
from torch import Tensor

STRAIGHT, DIAGONAL = 1 / 6, 1 / 12
AHEAD = {(0, 1): STRAIGHT, (1, -1): DIAGONAL, (1, 0): STRAIGHT, (1, 1): DIAGONAL}  # the neighbours still to come


def impute(x: Tensor, removed: Tensor) -> Tensor:
    """Images x (B, C, H, W), in double precision, with their removed pixels (B, H, W; never all) linearly imputed."""
    filled = x.double()
    known = (~removed)[:, None] * filled  # (B, C, H, W)
    suggested = _from_neighbours(known)  # what the known neighbours add up to
    weight = _from_neighbours(torch.ones(1, 1, *x.shape[2:], dtype=torch.float64))[0, 0]  # (H, W)
    for sample, hole in enumerate(removed):
        if hole.any():
            system = _banded(hole.numpy(), weight[hole].numpy())
            right = suggested[sample][:, hole].numpy().T  # (n, C)
            _, solution, _ = dpbsv(system, right, lower=True, overwrite_ab=True)
            known[sample][:, hole] = torch.from_numpy(solution.T)
    return known


def _from_neighbours(x: Tensor) -> Tensor:
    """Each pixel's weighted sum over the neighbours within the image, channel by channel."""
    kernel = torch.tensor(
        [[DIAGONAL, STRAIGHT, DIAGONAL], [STRAIGHT, 0, STRAIGHT], [DIAGONAL, STRAIGHT, DIAGONAL]], dtype=torch.float64
    )
    return F.conv2d(x.flatten(0, 1)[:, None], kernel[None, None], padding=1).reshape(x.shape)


def _banded(hole: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The system's lower bands (bands, n): entry [i - j, j] couples removed pixels i > j."""
    number = np.full((hole.shape[0] + 1, hole.shape[1] + 2), -1)  # a border without pixels
    number[:-1, 1:-1][hole] = np.arange(len(weight))
    row, column = np.nonzero(hole)
    couplings = []
    for (down, right), share in AHEAD.items():
        there = number[row + down, column + 1 + right]  # (n,)
        own = np.flatnonzero(there >= 0)
        couplings.append((there[own] - own, own, share))
    bands = np.zeros((1 + max(gap.max(initial=0) for gap, _, _ in couplings), len(weight)), order="F")
    bands[0] = weight
    for gap, own, share in couplings:
        bands[gap, own] = -share
    return bands
