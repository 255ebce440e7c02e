"""Complexity: how few pixels carry the map? It does not measure correctness; read it with the other families.

With p_i the share of pixel i in the map's magnitude, and m_1 <= … <= m_F the sorted magnitudes:

    Sparseness  Gini index  sum_i (2 i - F - 1) m_i / (F sum_i m_i)          Chalasani et al. 2020, section 3
    Complexity  entropy     - sum_i p_i log p_i                              Bhatt et al. 2020, eq. 2
"""

from __future__ import annotations

import torch
from torch import Tensor

from mibench.metrics.sharing import RowMetric
from mibench.plugins.contract import Evidence, Scene


class Sparseness(RowMetric):
    """1 when a single pixel carries all, 0 when all carry the same."""

    name = "sparseness"
    title = "Sparseness: Gini index of the magnitudes"
    family = "complexity"
    direction = "higher"
    range = (0.0, 1.0)
    paper = "Chalasani et al. 2020, arXiv:1810.06583"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        magnitude = (row.map.flatten(1).double().abs() + 1e-7).sort(dim=1).values  # (B, F); Quantus adds 1e-7 too
        features = magnitude.shape[1]
        place = torch.arange(1, features + 1, dtype=torch.float64)
        return ((2 * place - features - 1) * magnitude).sum(1) / (features * magnitude.sum(1))


class Complexity(RowMetric):
    """0 when a single pixel carries all, log F when all carry the same."""

    name = "complexity"
    title = "Complexity: entropy of the magnitudes"
    family = "complexity"
    direction = "lower"
    range = (0.0, float("inf"))
    unit = "nats"
    paper = "Bhatt et al. 2020, arXiv:2005.00631"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        magnitude = row.map.flatten(1).double().abs()
        share = magnitude / magnitude.sum(1, keepdim=True)  # (B, F)
        return -(share * (share + 1e-12).log()).sum(1).clamp(max=0)  # Quantus adds 1e-12 too
