"""Sanity gates: a map that does not change when it must, or changes when it must not, explains nothing.

The saved map is compared with a second one of the same sample: of another class (RandomLogit), of the network with
random weights in all layers (MPRT, the end of the cascade; the cascade's mean would count the unrandomised network), or
of the same network and class again (repeatability). The similarity is one of Quantus': Pearson of the signed maps for
the class and of the magnitudes for the weights. A second map that is constant has nothing in common with the first: its
correlation is 0.

For the class both maps are of the logit less the mean logit: evidence that all classes share makes maps
alike, exactly true ones among them, and is left out. The limit is the panel's, for each kind of task and network; where
the panel has none, nothing is judged. Quantus' default, SSIM of the flattened maps, cannot separate maps that react to
the class from those that do not: integrated gradients have .92, and class-blind maps with 1 % of noise .72.

Repeatability's limit is halfway between maps that differ by a rounding of a millionth, at least .997 on the same
samples, and SmoothGrad and gradient SHAP drawn again, at most .94.

Of the weights, Pearson's correlation of magnitudes separates what reacts to them (occlusion, Grad-CAM, integrated
gradients, input x gradient, saliency and gradient SHAP on planted images and digits: at most .60) from what hardly
varies (edges and intensities with a little noise: at least .98); between the two nothing is decided. MPRT's Spearman,
which is Quantus', is shown as well: gradient SHAP reacts and has .92 on digits, whose ground stays dark at any
weights; edges and intensities with noise of a millionth have .42 to .50, as the ranks of a dark ground are its noise's.
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
    against: ClassVar[str] = ""  # the other variant; empty: the plain map

    @abstractmethod
    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Similarity (V,) of maps (V, F), each divided by its largest magnitude."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        scores = torch.full((len(row.map),), torch.nan, dtype=torch.float64)
        second = row.variants.get(self.variant, row.raw[:0]).flatten(1).double()  # (V, F)
        first = (row.variants.get(self.against, row.raw[:0]) if self.against else row.map).flatten(1).double()
        first, second = first[: len(second)], second[: len(first)]
        finite = (first.isfinite() & second.isfinite()).all(1).nonzero()[:, 0]
        if len(finite):
            scores[finite] = self.similarity(_scaled(first[finite]), _scaled(second[finite])).double()
        return scores


class RandomLogit(Gate):
    """Near 1 when the map of another class looks the same."""

    name = "random-logit"
    title = "Random logit: similarity of the maps of two classes, each of its logit less the mean logit"
    direction = "lower"
    range = (-1.0, 1.0)
    paper = "Sixt et al. 2020, arXiv:1912.09818"
    needs = frozenset({"centred", "centred-other-class"})
    version = 3
    variant = "centred-other-class"
    against = "centred"
    judged = "panel"

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        return correlation(first, second).nan_to_num(0.0)


class WeightRandomisation(Gate):
    """Near 1 when the map hardly depends on what the network has learned."""

    name = "weight-randomisation"
    title = "Weight randomisation: correlation of the magnitudes with those of the map with random weights"
    direction = "lower"
    range = (-1.0, 1.0)
    paper = "Adebayo et al. 2018, arXiv:1810.03292"
    needs = frozenset({"random-weights"})
    variant = "random-weights"
    limit = 0.6
    fails = 0.98

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        return correlation(first.abs(), second.abs()).nan_to_num(0.0)


class MPRT(Gate):
    """Near 1 when the ranks of the map hardly depend on what the network has learned; shown, not judged."""

    name = "mprt"
    title = "Model parameter randomisation: similarity to the map with random weights"
    direction = "lower"
    range = (-1.0, 1.0)
    paper = "Adebayo et al. 2018, arXiv:1810.03292"
    needs = frozenset({"random-weights"})
    variant = "random-weights"
    judged = "never"

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


def _scaled(maps: Tensor) -> Tensor:
    """Maps (V, F) divided by their largest magnitudes."""
    return maps / maps.abs().amax(1, keepdim=True).clamp(min=1e-30)


def _spearman(first: Tensor, second: Tensor) -> Tensor:
    return correlation(ranks(first), ranks(second)).nan_to_num(0.0)


def _histogram_entropy(values: np.ndarray) -> float:
    counts = np.histogram(values, bins=100)[0]
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
