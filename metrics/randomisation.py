"""Sanity gates: a map that does not change when it must, or changes when it must not, explains nothing.

The saved map is compared with a second one of the same sample: of another class (RandomLogit), of the network with
random weights in all layers (MPRT, the end of the cascade; the cascade's mean would count the unrandomised network), or
of the same network and class again (repeatability). The similarity is one of Quantus': Pearson of the signed maps for
the class, Spearman of the magnitudes for the weights. A second map that is constant has nothing in common with the
first: its correlation is 0.

RandomLogit's limit is halfway between maps that react to the class and maps that do not, rounded. On calibration
samples of planted images and digits, occlusion, Grad-CAM, integrated gradients, input x gradient and saliency had at
most .83; edges, intensities, the planted truth and class-blind maps with noise of 2 % of their largest value at least
.94. Quantus' default, SSIM of the flattened maps, cannot separate the two: integrated gradients have .92, which
react, and class-blind ones with 1 % of noise .72.

Repeatability's limit is halfway between maps that differ by a rounding of a millionth, at least .997 on the same
samples, and SmoothGrad and gradient SHAP drawn again, at most .94. No limit of MPRT's separates what reacts to the
weights from what hardly varies: gradient SHAP reacts and has .92 on digits, as their ground stays dark at any weights;
edges and intensities with noise of a millionth have .42 to .50, for the ranks of a dark ground are those of its noise.
So .9 stops what never changes, and some that reacts. Pearson of the magnitudes has at most .60 in the five named
above and gradient SHAP, and at least .98 in what varies slightly; it would be another score.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from mibench.metrics.sharing import RowMetric, correlation, ranks
from mibench.plugins.contract import Evidence, Scene


class Gate(RowMetric):
    """Compares each saved map with its variant; only the first samples have one."""

    family = "randomisation"
    cost = "explanations"
    gate = True
    no_score = "this sample was not explained a second time, or not with a finite map"
    variant: ClassVar[str]

    @abstractmethod
    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Similarity (V,) of maps (V, F), each divided by its largest magnitude."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        scores = torch.full((len(row.map),), torch.nan, dtype=torch.float64)
        second = row.variants.get(self.variant, row.raw[:0]).flatten(1).double()  # (V, F)
        finite = second.isfinite().all(1).nonzero()[:, 0]
        if len(finite):
            second = second[finite] / second[finite].abs().amax(1, keepdim=True).clamp(min=1e-30)
            scores[finite] = self.similarity(row.map.flatten(1)[finite].double(), second).double()
        return scores


class RandomLogit(Gate):
    """Near 1 when the map of another class looks the same."""

    name = "random-logit"
    title = "Random logit: similarity to the map of another class"
    direction = "lower"
    range = (-1.0, 1.0)
    paper = "Sixt et al. 2020, arXiv:1912.09818"
    needs = frozenset({"other-class"})
    version = 2
    variant = "other-class"

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        return correlation(first, second).nan_to_num(0.0)


class MPRT(Gate):
    """Near 1 when the map hardly depends on what the network has learned."""

    name = "mprt"
    title = "Model parameter randomisation: similarity to the map with random weights"
    direction = "lower"
    range = (-1.0, 1.0)
    paper = "Adebayo et al. 2018, arXiv:1810.03292"
    needs = frozenset({"random-weights"})
    variant = "random-weights"

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        return _spearman(first.abs(), second.abs())


class Repeatability(Gate):
    """1 when explaining again gives the same ranking; ours, since Quantus has no such gate."""

    name = "repeatability"
    title = "Repeatability: rank correlation with the map of a second run"
    direction = "higher"
    range = (-1.0, 1.0)
    needs = frozenset({"repeat"})
    variant = "repeat"
    limit = 0.97

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        return _spearman(first, second)


class EfficientMPRT(Gate):
    """Above 0 when the map of the random network is more complex (entropy of its histogram) than the learned one's."""

    name = "efficient-mprt"
    title = "Efficient MPRT: relative rise of the map's complexity with random weights"
    direction = "higher"
    range = (-1.0, float("inf"))
    paper = "Hedström et al. 2023, arXiv:2401.06465"
    default = False
    needs = frozenset({"random-weights"})
    variant = "random-weights"

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        before, after = (torch.tensor([_histogram_entropy(one) for one in maps.numpy()]) for maps in (first, second))
        return after / before - 1


def _spearman(first: Tensor, second: Tensor) -> Tensor:
    return correlation(ranks(first), ranks(second)).nan_to_num(0.0)


def _histogram_entropy(values: np.ndarray) -> float:
    counts = np.histogram(values, bins=100)[0]
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
