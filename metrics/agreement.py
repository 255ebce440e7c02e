"""Agreement with raw information: are a map's values distributed as the information of input and class is?

NIF (table 1) compares the attributions of the features with their raw mutual information I(X_i; class) by the
two-sample Kolmogorov-Smirnov test, whether both come from one distribution:

    D = max_v | F_map(v) - F_information(v) |,      p = P(D at least as large | one distribution)

Erratum: the paper reads D = 1.0, p = 0.011 as agreement. D = 1 means that the two samples' ranges do not overlap,
and a small p that they do not share a distribution: a *low* D, a *high* p agree. Its three p-values are those of four
values against four (asymptotic; at D = 1 the exact p is 0.029), far too few to distinguish anything.

The test forgets which feature has which value: a shuffled map scores the same. It is offered, not counted.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from scipy.stats import ks_2samp
from torch import Tensor

from mibench.information.flow import Flow, Neurons, estimator
from mibench.metrics.sharing import RowMetric, once
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Scene, Unsupported

Figure = Literal["statistic", "pvalue"]
GRID = 28  # an image is compared on at most so many cells a side


class Parameters(contract.Parameters):
    """How the raw information is estimated, among the scored samples."""

    k: int = Field(3, ge=1)


class KSStatistic(RowMetric[Parameters]):
    """0 where the magnitudes are distributed as the information is, 1 where they do not even overlap."""

    name = "ks"
    title = "Kolmogorov-Smirnov statistic D between the map and the raw information"
    family = "information"
    direction = "lower"
    range = (0.0, 1.0)
    default = False
    paper = "Davis et al. 2020, table 1"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        return compare(scene, row, "statistic", self.parameters.k)


class KSProbability(RowMetric[Parameters]):
    """Small where the map and the information surely do not share a distribution."""

    name = "ks-p"
    title = "p of the Kolmogorov-Smirnov test between the map and the raw information"
    family = "information"
    direction = "higher"
    range = (0.0, 1.0)
    default = False
    paper = "Davis et al. 2020, table 1"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        return compare(scene, row, "pvalue", self.parameters.k)


def compare(scene: Scene, row: Evidence, figure: Figure, k: int) -> Tensor:
    """The test of every sample's magnitudes against the information that the features have of its class, (B,)."""
    shares = largest_is_one(cells(row.map.abs()[:, None]))  # (B, F)
    expected = largest_is_one(information(scene, k).T)  # (C, F)
    tests = [ks_2samp(a.numpy(), expected[c].numpy()) for a, c in zip(shares, scene.target.tolist(), strict=True)]
    return torch.tensor([float(getattr(test, figure)) for test in tests], dtype=torch.float64)


@once
def information(scene: Scene, k: int) -> Tensor:
    """I(X_i; logit c) of every feature or cell and class, (F, C), summed over colours, never below zero; nats."""
    if len(scene.x) <= k:
        raise Unsupported(f"needs more than {k} samples, to estimate the information of features and classes")
    x = cells(scene.x) if scene.x.dim() == 4 else scene.x  # (B, F), all colours of a cell after each other
    colours = scene.x.shape[1] if scene.x.dim() == 4 else 1
    logits = scene.predict(scene.x)
    layers = [Neurons(name, (), values.double()) for name, values in (("input", x), ("classes", logits))]
    [edges] = Flow(layers, estimator("mixed", k)).edges()  # (colours F, C)
    return edges.clamp(min=0).reshape(colours, -1, logits.shape[1]).sum(0)


def cells(image: Tensor) -> Tensor:
    """An image (B, C, H, W), or a table's map (B, 1, 1, F), averaged in at most GRID x GRID cells, (B, C F)."""
    height, width = image.shape[2:]
    if height == 1:
        return image.flatten(1).double()
    return F.adaptive_avg_pool2d(image.double(), (min(GRID, height), min(GRID, width))).flatten(1)


def largest_is_one(values: Tensor) -> Tensor:
    """Rows (N, F) divided by their largest value, because units do not count; maps come in float32, so they round."""
    return (values / values.amax(1, keepdim=True).clamp(min=1e-12)).round(decimals=6)
