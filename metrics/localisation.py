"""Localisation: is the map's positive part where the explained class is known to be?

Sort the pixels once and let c(k) be the number of mask pixels expected among the k highest, pixels of equal value in
random order (so a tie is neither a hit nor a miss but its share). All rank scores are read off this one curve, for a
mask of P of the F pixels:

    PointingGame c(1)      TopKIntersection c(k) / k      RelevanceRankAccuracy c(P) / P
    AUC (area under c(0) … c(F) - P^2 / 2) / (P (F - P))

The mass scores are shares of the positive part. No score where the mask is empty or full, or nothing is positive.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage
from torch import Tensor

from mibench.metrics.sharing import RowMetric, mean_of_equals, once
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, P_co, Scene, Unsupported


class Localisation(RowMetric[P_co]):
    """A score of the positive part against the mask."""

    family = "localisation"
    direction = "higher"
    range = (0.0, 1.0)
    needs = frozenset({"mask"})
    no_score = "the mask is empty or full, or the map has no positive part"

    @abstractmethod
    def place(self, scene: Scene, row: Evidence) -> Tensor:
        """Scores (B,), of any value where there is none."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        size = target(scene).sum(1)  # (B,) P
        judged = (size > 0) & (size < row.map[0].numel()) & (row.map.flatten(1).amax(1) > 0)
        return torch.where(judged, self.place(scene, row), torch.nan)


class PointingGame(Localisation):
    """Is the highest pixel in the mask?"""

    name = "pointing-game"
    title = "Pointing game: is the highest pixel where the class is?"
    paper = "Zhang et al. 2018, arXiv:1608.00507"

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        return expected_hits(scene, row)[:, 1]


class Parameters(contract.Parameters):
    """How many pixels count as the highest."""

    share: float = Field(0.01, gt=0, lt=1, description="k as a share of the pixels, at least one")


class TopKIntersection(Localisation[Parameters]):
    """How many of the k highest pixels are in the mask?"""

    name = "top-k-intersection"
    title = "Top-k intersection: share of the highest pixels that are where the class is"
    paper = "Theiner et al. 2022, arXiv:2104.14995"

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        k = max(1, int(self.parameters.share * row.map[0].numel()))
        return expected_hits(scene, row)[:, k] / k


class RelevanceRankAccuracy(Localisation):
    """How many of the P highest pixels are in a mask of P pixels?"""

    name = "relevance-rank-accuracy"
    title = "Relevance rank accuracy: share of the highest pixels, as many as the mask has, that are in it"
    paper = "Arras et al. 2022, arXiv:2003.07258"

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        return _rank_accuracy(expected_hits(scene, row), target(scene))


class BoundingBoxAccuracy(Localisation):
    """Rank accuracy in the mask's bounding boxes: the same score again where masks are small boxes, so only offered."""

    name = "bounding-box-accuracy"
    title = "Bounding box accuracy: share of the highest pixels, as many as the boxes have, that are in them"
    paper = "Deng et al. 2021, section 6.3; Schulz et al. 2020"
    default = False
    no_score = "the boxes cover 33 % of the image or more, or the map has no positive part"

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        box = boxes(scene)  # (B, F)
        small = box.mean(1) < 0.33
        return torch.where(small, _rank_accuracy(hits(row.map, box), box), torch.nan)


class AUC(Localisation):
    """With what probability does a pixel of the mask rank above one outside? Ties count a half."""

    name = "auc"
    title = "Area under the ROC curve: is a pixel where the class is ranked above another?"
    paper = "Fawcett 2006, doi:10.1016/j.patrec.2005.10.010"

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        inside, outside = target(scene).sum(1), (1 - target(scene)).sum(1)
        area = torch.trapezoid(expected_hits(scene, row), dim=1)
        return (area - inside**2 / 2) / (inside * outside)


class RelevanceMassAccuracy(Localisation):
    """How much of the positive part is in the mask?"""

    name = "relevance-mass-accuracy"
    title = "Relevance mass accuracy: share of the positive relevance that is where the class is"
    paper = "Arras et al. 2022, arXiv:2003.07258"

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        return _mass(row, target(scene))


class AttributionLocalisation(Localisation):
    """How much of the positive part is in the mask: the mass accuracy under the name of another paper."""

    name = "attribution-localisation"
    title = "Attribution localisation: share of the positive relevance that is where the class is"
    paper = "Kohlbrenner et al. 2020, arXiv:1910.09840"
    default = False

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        return _mass(row, target(scene))


class Focus(Localisation):
    """How much of the positive part is in those tiles of a 2 x 2 mosaic that show the class?"""

    name = "focus"
    title = "Focus: share of the positive relevance in the mosaic's tiles of the class"
    paper = "Arias-Duart et al. 2022, arXiv:2109.15035"
    needs = frozenset({"mask", "image"})

    def place(self, scene: Scene, row: Evidence) -> Tensor:
        if not mosaic(scene):
            raise Unsupported("needs 2 x 2 mosaics: a mask here is no union of quarters of its image")
        return _mass(row, target(scene))


def hits(maps: Tensor, mask: Tensor) -> Tensor:
    """c(0) … c(F): the mask's pixels (B, F) expected among the k highest of the positive part of maps (B, H, W)."""
    positive = maps.flatten(1).float().clamp(min=0) + 0.0  # (B, F) without -0.0: the bits are in the values' order
    keys = positive.numpy().view(np.uint32) << 1 | mask.bool().numpy()  # the mask rides along as the last bit
    ordered = torch.from_numpy(np.sort(keys, axis=1)[:, ::-1].astype(np.int64))  # a sort five times as fast as argsort
    expected = mean_of_equals((ordered & 1).double(), ordered >> 1)  # (B, F)
    return torch.nn.functional.pad(expected.cumsum(1), (1, 0))


@once
def expected_hits(scene: Scene, row: Evidence) -> Tensor:
    """c(0) … c(F) of a row, sorted once for all metrics."""
    return hits(row.map, target(scene))


@once
def target(scene: Scene) -> Tensor:
    """The mask (B, F), 1 where the explained class is."""
    if scene.mask is None:
        raise Unsupported("needs masks: these data have no localisation mask")
    return scene.mask.flatten(1).double()


def boxes(scene: Scene) -> Tensor:
    """(B, F) 1 within the bounding box of each connected part of a mask, so that boxes stay as they are."""
    masks = target(scene).reshape(-1, *scene.probe.pixels).numpy() > 0  # (B, H, W)
    spanned = torch.zeros(masks.shape, dtype=torch.float64)
    for mask, box in zip(masks, spanned, strict=True):
        for part in ndimage.find_objects(ndimage.label(mask, np.ones((3, 3)))[0]):
            box[part] = 1.0
    return spanned.flatten(1)


def mosaic(scene: Scene) -> bool:
    """Is every mask a union of quarters of its image?"""
    height, width = scene.probe.pixels
    mask = target(scene).reshape(-1, height, width)
    quarters = [part for half in mask.tensor_split([height // 2], 1) for part in half.tensor_split([width // 2], 2)]
    return height > 1 and all(bool((part == part[:, :1, :1]).all()) for part in quarters)


def _rank_accuracy(curve: Tensor, mask: Tensor) -> Tensor:
    size = mask.sum(1, keepdim=True)  # (B, 1)
    return (curve.gather(1, size.long()) / size)[:, 0]


def _mass(row: Evidence, mask: Tensor) -> Tensor:
    positive = row.map.flatten(1).double().clamp(min=0)  # (B, F)
    return (positive * mask).sum(1) / positive.sum(1)
