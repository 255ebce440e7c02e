"""Faithfulness by removal: take away what a map calls relevant, the most relevant first, and watch the decision go.

The curves differ in what goes at a time (pixels, square patches, segments) and in what takes its place (a baseline, or
what the neighbours suggest). A pixel goes in all its channels; it is ranked by its signed value, equal values in a
random order of the sample's own. The explained class's probability after step s is p_s, before any removal p_0:

    PixelFlipping       area under p_1 … p_S over its length                          Bach et al. 2015
    RegionPerturbation  AOPC = 1 / (L + 1) sum_{s = 0 … L} (p_0 - p_s)                Samek et al. 2017, eq. 12
    IROF                (L - area under p_1/p_0 … p_L/p_0) / L                        Rieger & Hansen 2020
    ROAD                share of removals after which the class is still predicted    Rong et al. 2022
    ROAD, LeRF          the same with the least relevant first, so that high is good  Rong et al. 2022

Each is Quantus' number for one image, but for the stated divisions, which make images and sizes comparable.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from skimage.segmentation import slic
from torch import Tensor

from mibench.metrics.imputation import impute
from mibench.metrics.perturbation import (
    Baseline,
    descending,
    forwards,
    in_steps,
    join,
    parts,
    tiles,
    total_by,
)
from mibench.metrics.sharing import RowMetric, image, mean_by, once
from mibench.network.seeds import drawing
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Scene, Unsupported


class PixelFlippingParameters(contract.Parameters):
    """How finely the curve is cut."""

    baseline: Baseline = "mean"
    steps: int = Field(24, ge=2)


class PixelFlipping(RowMetric[PixelFlippingParameters]):
    """Low when the probability falls as soon as the first pixels go."""

    name = "pixel-flipping"
    title = "Pixel flipping: mean probability while the most relevant pixels go"
    family = "faithfulness"
    cost = "forwards"
    direction = "lower"
    range = (0.0, 1.0)
    paper = "Bach et al. 2015, doi:10.1371/journal.pone.0130140"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        when, steps = in_steps(descending(scene, row.map.flatten(1)), self.parameters.steps)
        if steps < 2:
            raise Unsupported("one feature cannot be ranked")
        curve = forwards(scene).removed(when, steps, self.parameters.baseline).probability  # (B, S)
        return torch.trapezoid(curve, dim=1) / (steps - 1)


class RegionPerturbationParameters(contract.Parameters):
    """How large the patches are, and how many go."""

    baseline: Baseline = "mean"
    side: int = Field(8, ge=2, description="patches along the height")
    regions: int = Field(24, ge=1, description="how many patches go")


class RegionPerturbation(RowMetric[RegionPerturbationParameters]):
    """High when the probability falls as soon as the first patches go (Quantus calls lower better: it is not)."""

    name = "region-perturbation"
    title = "Region perturbation: mean fall of the probability while the most relevant patches go"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Samek et al. 2017, doi:10.1109/TNNLS.2016.2599820"
    needs = frozenset({"image"})

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        tile = tiles(scene, self.parameters.side).expand(len(row.map), -1)  # (B, F)
        count = int(tile.max()) + 1
        places = descending(scene, total_by(row.map.flatten(1).double(), tile, count))  # (B, tiles)
        regions: int = min(self.parameters.regions, count)
        ask = forwards(scene)
        curve = ask.removed(places.gather(1, tile), regions, self.parameters.baseline).probability  # (B, L)
        return (ask.unperturbed().probability - curve).sum(1) / (regions + 1)


class IROFParameters(contract.Parameters):
    """How the segments are made."""

    baseline: Baseline = "mean"
    segments: int = Field(36, ge=2, description="requested of SLIC; Quantus requests 100")
    smoothing: float = Field(1.0, ge=0, description="pixels; Quantus' 0 leaves one or two segments of noisy images")


class IROF(RowMetric[IROFParameters]):
    """High when the probability falls as soon as the first segments (superpixels) go."""

    name = "irof"
    title = "IROF: area over the curve while the most relevant segments go"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (-float("inf"), 1.0)
    paper = "Rieger & Hansen 2020, arXiv:2003.08747"
    needs = frozenset({"image"})
    no_score = "the image has fewer than two segments"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        segment = segments(scene, self.parameters.segments, self.parameters.smoothing)  # (B, F)
        number = segment.amax(1, keepdim=True) + 1  # (B, 1) how many segments the image has
        relevance = mean_by(row.map.flatten(1).double(), segment)[:, : int(number.max())]  # (B, L)
        step = torch.arange(relevance.shape[1])
        places = descending(scene, relevance.masked_fill(step >= number, -torch.inf))  # (B, L)
        ask = forwards(scene)
        curve = ask.removed(places.gather(1, segment), len(step), self.parameters.baseline).probability
        curve = curve / ask.unperturbed().probability  # (B, L)
        ends = (curve[:, :1] + curve.gather(1, number - 1)) / 2  # (B, 1): a curve ends with its image's own segments
        area = (curve * (step < number)).sum(1, keepdim=True) - ends  # (B, 1) by trapezoids
        return torch.where(number > 1, 1 - area / number, torch.nan)[:, 0]


class ROADParameters(contract.Parameters):
    """Which shares go, and how noisy their imputation is."""

    steps: int = Field(5, ge=1, description="shares removed: 5 are 10, 30, 50, 70 and 90 %")
    noise: float = Field(0.01, ge=0)


class ROAD(RowMetric[ROADParameters]):
    """Low when the decision changes although the holes are filled in smoothly, so that their shape reveals nothing."""

    name = "road"
    title = "ROAD: how often the decision stays when the most relevant pixels are imputed"
    family = "faithfulness"
    cost = "forwards"
    direction = "lower"
    range = (0.0, 1.0)
    paper = "Rong et al. 2022, arXiv:2202.00449"
    needs = frozenset({"image"})

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        return _decisions_kept(scene, descending(scene, row.map.flatten(1)), self.parameters)


class ROADLeRF(RowMetric[ROADParameters]):
    """High when the decision stays although all but the most relevant pixels are filled in smoothly."""

    name = "road-lerf"
    title = "ROAD, least relevant first: how often the decision stays when the least relevant pixels are imputed"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (0.0, 1.0)
    paper = "Rong et al. 2022, arXiv:2202.00449"
    needs = frozenset({"image"})
    default = False

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        places = descending(scene, row.map.flatten(1))  # (B, F)
        return _decisions_kept(scene, places.shape[1] - 1 - places, self.parameters)


def _decisions_kept(scene: Scene, places: Tensor, parameters: ROADParameters) -> Tensor:
    """The share (B,) of removals, in the order of `places` (B, F), after which the class is still predicted."""
    height, width = image(scene)
    steps = parameters.steps
    counts = [height * width * (2 * step + 1) // (2 * steps) for step in range(steps)]
    noise = parameters.noise * noises(scene)  # (B, C, H, W)
    answers = []
    for part in parts(scene.x, steps):
        holes = [(places[part] < count).reshape(-1, height, width) for count in counts]  # each (b, H, W)
        x = scene.x[part]
        shown = [torch.where(hole[:, None], impute(x, hole) + noise[part], x).float() for hole in holes]
        answers.append(forwards(scene).shown(part, torch.stack(shown, 1)))
    return join(answers).kept.mean(1)


@once
def segments(scene: Scene, number: int, smoothing: float) -> Tensor:
    """(B, F) the segment of each pixel, from 0: SLIC on the normalised image, as Quantus does it."""
    image(scene)
    found = []
    for x in scene.x.double().numpy():
        labels = slic(np.moveaxis(x, 0, -1), n_segments=number, sigma=smoothing, start_label=0)  # (H, W)
        found.append(torch.from_numpy(np.unique(labels, return_inverse=True)[1].reshape(-1)))
    return torch.stack(found)


@once
def noises(scene: Scene) -> Tensor:
    """Standard normal noise like x, each sample's its own."""
    return torch.stack([torch.randn(scene.x.shape[1:], generator=drawing(seed, "noise")) for seed in scene.seeds])
