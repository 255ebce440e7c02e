"""The same removals on a grid of cells, for maps of any resolution: what a map gains by being finer is left out.

A map becomes the mean of its magnitude over each cell of the task's grid: the planted cells where the truth is known,
elsewhere the places of the local layer. What goes at a time is a whole cell. So a map of 7 x 7 places, a map of pixels
and the truth are equals here, which they are not where single pixels go: fewer pixels than a cell has may change the
class. With p_s the class's probability after s of S cells, equal cells in a random order of the sample's own:

    pixel-flipping@cells            area under p_1 … p_S over its length
    degradation@cells               1/S sum_s (LeRF_s - MoRF_s)
    road@cells                      share of five removals after which the class is still predicted, holes imputed
    faithfulness-estimate@cells     correlation of a cell's value with the fall of the logit when it alone is replaced
    faithfulness-correlation@cells  the same over random sets of a fifth of the cells
    relevance-mass-accuracy@cells   share of all cells' values that is on the mask's pixels; it perturbs nothing

Evidence for and against the class are alike in a magnitude. With `signed=true` a cell has the mean of its signed
values, which is what a score without `@cells` goes by: the two parts of a difference, of resolution and of sign, can be
told apart.

Region perturbation and IROF on cells put maps in the order that pixel flipping puts them in, or nearly: they are left
out. What a score gains by resolution is its own value less its value here.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor

from mibench.metrics.faithfulness_agreement import NO_CHANGE, random_sets
from mibench.metrics.faithfulness_curves import noises
from mibench.metrics.imputation import impute
from mibench.metrics.localisation import target
from mibench.metrics.perturbation import descending, forwards, join, parts
from mibench.metrics.sharing import Cost, RowMetric, correlation, image, mean_by, once
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Family, Scene, Unsupported

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the cells, which ROAD imputes
RUNS, SHARE = 100, 0.2  # random sets of cells, and how large they are
NOISE = 0.01  # of the imputation


@once
def cell_of(scene: Scene) -> Tensor:
    """(F,) the cell of each pixel, row by row."""
    height, width = image(scene)
    rows, columns = scene.truth.grid if scene.truth is not None else scene.probe.grid
    if rows * columns < 2:
        raise Unsupported("one cell cannot be ranked")
    down, right = (torch.arange(size) * cells // size for size, cells in ((height, rows), (width, columns)))
    return (down[:, None] * columns + right).flatten()


class Parameters(contract.Parameters):
    """What a cell is worth."""

    signed: bool = False  # the mean of its signed values in place of that of its magnitudes


class OnCells(RowMetric[Parameters]):
    """A score of what a map puts on each cell."""

    family: ClassVar[Family] = "faithfulness"
    cost: ClassVar[Cost] = "forwards"
    needs = frozenset({"image"})
    default = False

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        cell = cell_of(scene).expand(len(row.map), -1)  # (B, F)
        pixels = row.map.flatten(1).double()
        values = mean_by(pixels if self.parameters.signed else pixels.abs(), cell)  # (B, F), of which K are cells
        values = values[:, : int(cell.max()) + 1]
        return self.on_cells(scene, values, cell)

    @abstractmethod
    def on_cells(self, scene: Scene, values: Tensor, cell: Tensor) -> Tensor:
        """Scores (B,) of values (B, K) of the cells; `cell` (B, F) is that of each pixel."""


def _curve(scene: Scene, place: Tensor, cell: Tensor) -> Tensor:
    """The class's probability (B, K) as cells go in the order of their places (B, K)."""
    return forwards(scene).removed(place.gather(1, cell), place.shape[1], "mean").probability


class PixelFlippingOnCells(OnCells):
    """Low when the probability falls as soon as the first cells go."""

    name = "pixel-flipping@cells"
    title = "Pixel flipping on cells: mean probability while the most relevant cells go"
    direction = "lower"
    range = (0.0, 1.0)
    paper = "Bach et al. 2015, doi:10.1371/journal.pone.0130140"

    def on_cells(self, scene: Scene, values: Tensor, cell: Tensor) -> Tensor:
        curve = _curve(scene, descending(scene, values), cell)
        return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)


class DegradationOnCells(OnCells):
    """High when the order of the cells is right at both ends."""

    name = "degradation@cells"
    title = "Degradation on cells: area between the curves of least and most relevant cells first"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Schulz et al. 2020, arXiv:2001.00396"

    def on_cells(self, scene: Scene, values: Tensor, cell: Tensor) -> Tensor:
        places = descending(scene, values)
        most, least = (_curve(scene, order, cell) for order in (places, values.shape[1] - 1 - places))
        return (least - most)[:, :-1].sum(1) / most.shape[1]  # (B,) the curves meet at both ends


class RoadOnCells(OnCells):
    """Low when the decision changes although the holes are filled in smoothly."""

    name = "road@cells"
    title = "ROAD on cells: how often the decision stays when the most relevant cells are imputed"
    direction = "lower"
    range = (0.0, 1.0)
    paper = "Rong et al. 2022, arXiv:2202.00449"

    def on_cells(self, scene: Scene, values: Tensor, cell: Tensor) -> Tensor:
        height, width = image(scene)
        places = descending(scene, values).gather(1, cell)  # (B, F)
        counts = [max(1, round(share * values.shape[1])) for share in SHARES]
        noise, answers = NOISE * noises(scene), []
        for part in parts(scene.x, len(counts)):
            holes = [(places[part] < count).reshape(-1, height, width) for count in counts]  # each (b, H, W)
            x = scene.x[part]
            shown = [torch.where(hole[:, None], impute(x, hole) + noise[part], x).float() for hole in holes]
            answers.append(forwards(scene).shown(part, torch.stack(shown, 1)))
        return join(answers).kept.mean(1)


class FaithfulnessEstimateOnCells(OnCells):
    """Do single cells matter as much as the map claims?"""

    name = "faithfulness-estimate@cells"
    title = "Faithfulness estimate on cells: correlation of a cell's value with the fall of the output without it"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Alvarez-Melis & Jaakkola 2018, arXiv:1806.07538"
    no_score = NO_CHANGE

    def on_cells(self, scene: Scene, values: Tensor, cell: Tensor) -> Tensor:
        ask = forwards(scene)
        after = ask.removed(cell, values.shape[1], "mean", alone=True).logit  # (B, K)
        return correlation(values, ask.unperturbed().logit - after)


class FaithfulnessCorrelationOnCells(OnCells):
    """Do random sets of cells matter as much as the map claims?"""

    name = "faithfulness-correlation@cells"
    title = "Faithfulness correlation on cells: correlation of sets' values with the fall of the output without them"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Bhatt et al. 2020, arXiv:2005.00631"
    no_score = NO_CHANGE

    def on_cells(self, scene: Scene, values: Tensor, cell: Tensor) -> Tensor:
        ask, scores = forwards(scene), []
        before = ask.unperturbed().logit  # (B, 1)
        for part in parts(scene.x, RUNS):
            sets = random_sets(scene.seeds[part], values.shape[1], RUNS, SHARE)  # (b, R, K)
            masks = sets.gather(2, cell[part, None].expand(-1, RUNS, -1))  # (b, R, F)
            falls = before[part] - ask.replaced(part, masks, "mean").logit  # (b, R)
            scores.append(correlation((sets.double() @ values[part, :, None])[..., 0], falls))
        return torch.cat(scores)


class RelevanceMassAccuracyOnCells(OnCells):
    """How much of what the cells hold is on the mask's pixels?"""

    name = "relevance-mass-accuracy@cells"
    title = "Relevance mass accuracy on cells: share of the cells' positive relevance that is where the class is"
    family = "localisation"
    cost = "maps"
    direction = "higher"
    range = (0.0, 1.0)
    needs = frozenset({"image", "mask"})
    paper = "Arras et al. 2022, arXiv:2003.07258"
    no_score = "the mask is empty or full, or the map has no positive part"

    def on_cells(self, scene: Scene, values: Tensor, cell: Tensor) -> Tensor:
        mask = target(scene)
        share = mask.mean(1)
        spread = values.clamp(min=0).gather(1, cell)  # (B, F)
        accuracy = (spread * mask).sum(1) / spread.sum(1)
        return torch.where((share > 0) & (share < 1), accuracy, torch.nan)
