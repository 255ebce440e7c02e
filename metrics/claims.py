"""Claims: is a map right about the truth that it can be right about, without a ceiling that most maps reach?

A cell's information on the class has three definitions (`mibench.information.pointwise`): marginal, conditional,
additive. They are different truths, so they are never mixed: a map's order and its shares are compared with each of the
three in scores of their own, its nats only with the one that its `MapSpec` claims. Where the task can evaluate the
network on hidden cells, the truth is the network's own, else the data's.

    rank     Kendall's tau-b of map and truth within an image: the pairs of cells in one order less those in the other,
             over the geometric mean of the pairs that each of the two orders strictly; a map without order has 0
    error    mean over kinds of cell of |claimed - true| in nats
    profile  how much of the map falls on each role (signal, other sources, suppressor, not needed, distractors):
             1 - 1/2 sum over roles of |share of the map - share of the truth|, 1 if all shares agree

The network's own truth may be an estimate, and holds what its training left by chance. Where it is drawn, the bound on
its standard error is .05 nats in 95 % of the values (every run prints it; .013 for `suppressor`). So .05 nats is the
truth's resolution: two amounts that differ by less, but are not equal, are in no order, and their pair is left out; a
truth that is nowhere .05 nats has no shares. What .02 or .1 would change is in the study of truth. Cells that hold
exactly the same (distractors hold nothing) are ties of the truth, which a map must not part.

A truth is negative where a cell is evidence against the class. A map that is never negative cannot show this: it is
compared with the truth's positive part. Shares are those of the positive parts.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, final

import torch
from torch import Tensor

from mibench.information.pointwise import ROUNDING
from mibench.metrics.information import ROUNDING as TIE
from mibench.metrics.information import by_kinds, known, nats_each, on_cells
from mibench.metrics.sharing import RowMetric
from mibench.plugins import contract
from mibench.plugins.contract import Claim, Evidence, Scene, Truth, Unsupported

RESOLUTION = 0.05  # nats: the bound on the error of the network's own truth, in 95 % of its values


class Parameters(contract.Parameters):
    """Which cells are put in order."""

    over: Literal["all", "sources"] = "all"  # all cells, or only those informative of the class


class InformationRank(RowMetric[Parameters]):
    """The order of the cells of one image."""

    family = "information"
    direction = "higher"
    range = (-1.0, 1.0)
    chance = 0.0
    needs = frozenset({"truth"})
    no_score = "the map claims to show another quantity, or all cells carry the same"

    @property
    @abstractmethod
    def claim(self) -> Claim:
        """The truth that the map is held against."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        if row.spec.role not in ("decision", "mask"):
            return torch.full((len(scene.x),), torch.nan)
        values, truth = on_cells(scene, row.raw.double()), true(scene, row, self.claim)  # (B, G)
        if self.parameters.over == "sources":
            sources = known(scene).sources
            assert sources is not None
            values, truth = values.gather(1, sources), truth.gather(1, sources)
        return tau(values, truth)


class RankMarginal(InformationRank):
    """Do cells that are more informative alone have more of the map?"""

    name = "information-rank-marginal"
    title = "Rank, marginal: are cells in the order of what each carries alone?"
    claim: Claim = "marginal"


class RankConditional(InformationRank):
    """Do cells that are more informative given the others have more of the map?"""

    name = "information-rank-conditional"
    title = "Rank, conditional: are cells in the order of what each adds to the others?"
    claim: Claim = "conditional"


class RankAdditive(InformationRank):
    """Do cells that have a larger share have more of the map?"""

    name = "information-rank-additive"
    title = "Rank, additive: are cells in the order of their shares of what all carry together?"
    claim: Claim = "additive"


class ClaimedError(RowMetric):
    """The error of the nats that a map claims, against the truth that it claims."""

    name = "information-error-2"
    title = "Error of the claimed nats, against the truth (marginal, conditional, additive) that the map claims"
    family = "information"
    direction = "lower"
    range = (0.0, float("inf"))
    unit = "nats"
    needs = frozenset({"truth"})
    no_score = "the map claims no nats or bits, or none of the three truths"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        factor = nats_each(scene, row)
        if factor is None or row.spec.claim is None:
            return torch.full((len(scene.x),), torch.nan)
        claimed = on_cells(scene, row.raw.double() * factor)
        return by_kinds(known(scene), (claimed - true(scene, row, row.spec.claim)).abs())


class Profile(RowMetric):
    """Shares of the roles of cells."""

    family = "information"
    direction = "higher"
    range = (0.0, 1.0)
    needs = frozenset({"truth"})
    no_score = "the map claims to show another quantity, or neither it nor the truth is positive anywhere"

    @property
    @abstractmethod
    def claim(self) -> Claim:
        """The truth that the map is held against."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        if row.spec.role not in ("decision", "mask"):
            return torch.full((len(scene.x),), torch.nan)
        values, truth = on_cells(scene, row.raw.double()), true(scene, row, self.claim)
        apart = shares(known(scene), values) - shares(known(scene), truth)  # (B, roles)
        return torch.where(truth.amax(1) < RESOLUTION, torch.nan, 1 - apart.abs().sum(1) / 2)


class ProfileMarginal(Profile):
    """Shares of each role's information alone."""

    name = "profile-marginal"
    title = "Profile, marginal: has each role the share of what its cells carry alone?"
    claim: Claim = "marginal"


class ProfileConditional(Profile):
    """Shares of what each role adds to the others."""

    name = "profile-conditional"
    title = "Profile, conditional: has each role the share of what its cells add to the others?"
    claim: Claim = "conditional"


class ProfileAdditive(Profile):
    """Shares of the information of all cells together."""

    name = "profile-additive"
    title = "Profile, additive: has each role its share of what all cells carry together?"
    claim: Claim = "additive"


def true(scene: Scene, row: Evidence, claim: Claim) -> Tensor:
    """Each cell's information in nats (B, G); for a map that is never negative, the positive part."""
    information = known(scene).information
    if claim not in information:
        raise Unsupported(f"these data do not state the {claim} information of their cells")
    nats = information[claim].flatten(1).double()
    return nats if row.spec.signed else nats.clamp_min(0)


def tau(values: Tensor, truth: Tensor, resolution: float = RESOLUTION) -> Tensor:
    """Kendall's tau-b along rows (B, G), (B,): 0 where the values have no order, NaN where the truth has none.

    Pairs whose truth differs by no more than the resolution, and yet differs, do not count.
    """
    apart = (truth[:, :, None] - truth[:, None]).abs()  # (B, G, G)
    counts = ((apart > resolution) | (apart <= ROUNDING)).double()
    first, second = (
        (counts * _order(values, TIE * values.abs().amax(1))),
        counts * _order(truth, 0 * truth[:, 0] + ROUNDING),
    )
    told, there = first.square().sum((1, 2)), second.square().sum((1, 2))  # (B,) twice the pairs that are not tied
    agreement = (first * second).sum((1, 2)) / (told * there).sqrt()
    return torch.where(there == 0, torch.nan, torch.where(told == 0, 0.0, agreement))


def _order(values: Tensor, tie: Tensor) -> Tensor:
    """(B, G, G) 1 where the first cell is above the second, -1 where it is below, 0 where they are equal."""
    difference = values[:, :, None] - values[:, None]
    return torch.where(difference.abs() <= tie[:, None, None], 0.0, difference.sign())


def shares(truth: Truth, values: Tensor) -> Tensor:
    """The share of each role, and last of no role, in the positive part of values (B, G); NaN where there is none."""
    roles = torch.stack([cells.flatten(1) for cells in truth.cells.values()], 1)  # (B, R, G)
    roles = torch.cat([roles, ~roles.any(1, keepdim=True)], 1).double()  # (B, R + 1, G)
    positive = torch.where(values > TIE * values.abs().amax(1, keepdim=True), values, 0.0)
    return (roles @ positive[:, :, None])[..., 0] / positive.sum(1, keepdim=True)
