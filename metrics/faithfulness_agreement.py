"""Faithfulness by agreement: where a map puts much, the output must change much when that is replaced.

Sets of pixels S_1 … S_n are replaced one at a time; a_i is what the map (divided by its largest magnitude) adds up to
over S_i, d_i how far the explained class's logit falls (a probability near 1 would hide what counts):

    FaithfulnessEstimate     corr(a, d), S_i the i-th slice of the ranked pixels         Alvarez-Melis & Jaakkola 2018
    FaithfulnessCorrelation  corr(a, d), S_i random sets of one size                     Bhatt et al. 2020, eq. 1
    SensitivityN             the same, averaged over sizes of the random sets            Ancona et al. 2018, section 4
    MonotonicityCorrelation  rank corr(|a|, d^2), S_i the i-th slice of the ranked |a|   Nguyen & Martínez 2020
    Infidelity               mean (sum_S map (x - x_S) - d)^2, S growing by patches      Yeh et al. 2019, as in Quantus
    Sufficiency              do samples with like maps get the same decision?            Dasgupta et al. 2022
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from scipy.spatial.distance import cdist
from torch import Tensor

from mibench.metrics.perturbation import (
    Baseline,
    Output,
    descending,
    forwards,
    in_steps,
    parts,
    pixels,
    tiles,
    total_by,
)
from mibench.metrics.sharing import Costed, RowMetric, correlation, ranks
from mibench.network.seeds import drawing
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Scene

NO_CHANGE = "the output, or the map's share, is the same whatever is replaced: there is nothing to correlate"


class Replacement(contract.Parameters):
    """What takes the place of pixels, and which output is watched."""

    baseline: Baseline = "mean"
    output: Output = "logit"


class RandomSets(Replacement):
    """How many random sets of pixels each sample has."""

    runs: int = Field(100, ge=2)


class SliceParameters(Replacement):
    """How many slices the ranked pixels are cut into."""

    steps: int = Field(24, ge=2)


class FaithfulnessEstimate(RowMetric[SliceParameters]):
    """Do the slices of the ranked pixels matter as much as the map claims?"""

    name = "faithfulness-estimate"
    title = "Faithfulness estimate: correlation of the map with the fall of the output, slice by slice"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Alvarez-Melis & Jaakkola 2018, arXiv:1806.07538"
    no_score = NO_CHANGE

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        values = row.map.flatten(1).double()
        when, steps = in_steps(descending(scene, values), self.parameters.steps)
        falls = _falls(scene, when, steps, self.parameters)  # (B, S)
        return correlation(total_by(values, when, steps), falls)


class MonotonicityCorrelation(RowMetric[SliceParameters]):
    """Do the slices of the ranked magnitudes move the output the more, the larger they are?"""

    name = "monotonicity-correlation"
    title = "Monotonicity correlation: rank correlation of the map's magnitude with the output's change"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Nguyen & Rodríguez Martínez 2020, arXiv:2007.07584"
    default = False
    no_score = NO_CHANGE

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        values = row.map.flatten(1).double().abs()
        places = values.shape[1] - 1 - descending(scene, values)  # (B, F) the least first
        when, steps = in_steps(places, self.parameters.steps)
        changes = _falls(scene, when, steps, self.parameters).square()  # (B, S)
        return correlation(ranks(total_by(values, when, steps)), ranks(changes))


class FaithfulnessCorrelationParameters(RandomSets):
    """How large the sets are."""

    share: float = Field(0.2, gt=0, lt=1, description="of the pixels, replaced in each run")


class FaithfulnessCorrelation(Costed[FaithfulnessCorrelationParameters]):
    """Do random sets of pixels matter as much as the map claims? A sample has its own, the same for all rows."""

    name = "faithfulness-correlation"
    title = "Faithfulness correlation: correlation of the map with the fall of the output over random sets of pixels"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Bhatt et al. 2020, arXiv:2005.00631"
    no_score = NO_CHANGE

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        return _random_agreement(scene, rows, self.parameters.share, self.parameters)


class SensitivityNParameters(RandomSets):
    """Of how many sizes the sets are."""

    sizes: int = Field(4, ge=1, description="sizes spread evenly up to 80 % of the pixels")


class SensitivityN(Costed[SensitivityNParameters]):
    """The same at several sizes, within a sample as the paper has it (Quantus correlates across the batch)."""

    name = "sensitivity-n"
    title = "Sensitivity-n: correlation of the map with the fall of the output, averaged over the size of random sets"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = (-1.0, 1.0)
    paper = "Ancona et al. 2018, arXiv:1711.06104"
    default = False
    no_score = NO_CHANGE

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        shares = [0.8 * (size + 1) / self.parameters.sizes for size in range(self.parameters.sizes)]
        scores = [_random_agreement(scene, rows, share, self.parameters) for share in shares]
        return {name: torch.stack([score[name] for score in scores]).mean(0) for name in rows}


class InfidelityParameters(Replacement):
    """Which patches are replaced, and whether the map's scale counts."""

    side: int = Field(8, ge=2, description="patches along the height, replaced one after the other")
    scaled: bool = False


class Infidelity(RowMetric[InfidelityParameters]):
    """How wrong is the map about the output's fall? Its scale counts: `scaled` gives every map its best one first."""

    name = "infidelity"
    title = "Infidelity: squared error of the map as a linear model of the output's fall"
    family = "faithfulness"
    cost = "forwards"
    direction = "lower"
    range = (0.0, float("inf"))
    paper = "Yeh et al. 2019, arXiv:1901.09392"
    default = False
    needs = frozenset({"image"})

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        when = tiles(scene, self.parameters.side).expand(len(row.map), -1)  # (B, F): the same for all rows
        steps = int(when.max()) + 1
        falls = _falls(scene, when, steps, self.parameters, alone=False)  # (B, S)
        change = pixels(scene.x - scene.baselines[self.parameters.baseline]).double().sum(1)  # (B, F)
        claims = total_by(row.map.flatten(1) * change, when, steps).cumsum(1)  # (B, S)
        if self.parameters.scaled:
            claims = claims * ((claims * falls).sum(1) / claims.square().sum(1).clamp(min=1e-30))[:, None]
        return (claims - falls).square().mean(1)


class SufficiencyParameters(contract.Parameters):
    """Which maps count as similar."""

    threshold: float = Field(0.6, gt=0, le=1, description="similar: within this part of the largest distance")


class Sufficiency(RowMetric[SufficiencyParameters]):
    """Are samples with like maps decided alike? A score depends on the other samples: the scene is one batch."""

    name = "sufficiency"
    title = "Sufficiency: share of the samples with a similar map that get the same decision"
    family = "faithfulness"
    direction = "higher"
    range = (0.0, 1.0)
    paper = "Dasgupta et al. 2022, arXiv:2202.00734"
    default = False
    no_score = "no other sample has a map that is similar enough"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        maps = row.map.flatten(1).double().abs().numpy()  # (B, F)
        varied = maps[:, maps.std(0) > 0]  # Quantus keeps the others and divides by their zero deviation
        distance = torch.from_numpy(cdist(varied, varied, "seuclidean"))  # (B, B)
        similar = distance <= self.parameters.threshold * distance.max()
        similar.fill_diagonal_(False)
        decision = scene.predict(scene.x).argmax(1)
        alike = similar & (decision[:, None] == decision)
        share: Tensor = alike.sum(1).double() / similar.sum(1)
        return share  # 0 / 0 is NaN


def _falls(scene: Scene, when: Tensor, steps: int, parameters: Replacement, *, alone: bool = True) -> Tensor:
    """How far the output falls (B, S) when the pixels of each step are replaced."""
    ask, output = forwards(scene), parameters.output
    after = ask.removed(when, steps, parameters.baseline, alone=alone).of(output)
    return ask.unperturbed().of(output) - after


def _random_agreement(
    scene: Scene, rows: Mapping[str, Evidence], share: float, parameters: RandomSets
) -> dict[str, Tensor]:
    """Correlation of every row's sums over random sets with the output's falls; the sets and falls are shared."""
    ask = forwards(scene)
    before = ask.unperturbed().of(parameters.output)  # (B, 1)
    maps = torch.stack([row.map.flatten(1) for row in rows.values()], 2).double()  # (B, F, rows)
    scores = []
    for part in parts(scene.x, parameters.runs):
        masks = random_sets(scene.seeds[part], maps.shape[1], parameters.runs, share)  # (b, R, F)
        falls = before[part] - ask.replaced(part, masks, parameters.baseline).of(parameters.output)  # (b, R)
        sums = masks.double() @ maps[part]  # (b, R, rows)
        scores.append(correlation(sums.transpose(1, 2), falls[:, None]))  # (b, rows)
    return dict(zip(rows, torch.cat(scores).unbind(1), strict=True))


def random_sets(seeds: tuple[int, ...], features: int, runs: int, share: float) -> Tensor:
    """(b, R, F) random sets of one size, drawn for each sample from its own seed."""
    size = min(max(1, round(share * features)), features - 1)
    sets = []
    for seed in seeds:
        draw = torch.rand(runs, features, generator=drawing(seed, f"sets of {size}"))
        sets.append(torch.zeros(runs, features, dtype=torch.bool).scatter(1, draw.topk(size).indices, True))
    return torch.stack(sets)
