"""Sparseness and complexity are Quantus' numbers and know their two ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from mibench.metrics.concentration import Complexity, Sparseness
from tests.metric_worlds import evidence, image_world


def score(metric: Any, world: Any, row: Any) -> np.ndarray:
    return metric().score(world.scene, {"row": row})["row"].numpy()


def test_one_pixel_is_as_sparse_and_a_flat_map_as_complex_as_can_be() -> None:
    world = image_world(count=2)
    maps = torch.ones(2, 24, 24)
    maps[0] = 0
    maps[0, 3, 3] = -2
    assert score(Sparseness, world, evidence(maps)) == pytest.approx([1, 0], abs=2e-3)
    assert score(Complexity, world, evidence(maps)) == pytest.approx([0, math.log(576)], abs=1e-6)
