"""Information: does a map show where the information is, and how much, on data whose every cell's information is known?

Maps are read on the truth's grid of cells, as the grid whose upsampling comes nearest. A map of role decision, total or
redundant is compared with that quantity; a map without a role (such as a saliency map) claims to show what the
decision needs. With P the cells that hold the quantity and Q those that hold none of it:

    AUC     mean over P x Q of [m_p > m_q] + 1/2 [m_p = m_q]
    hard    the same with Q the other role's cells alone: a total map cannot win it, a decomposition must
    error   mean over kinds of cell of |claimed - true|, in nats, for maps that claim nats or bits

The redundancy test needs no truth: take away what is called redundant, and the decision must stay; take away as much
of what is called decision-related, and it must not. All of them are ours.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from mibench.information.exact import NATS_PER_BIT
from mibench.metrics.perturbation import Baseline, descending, forwards, parts
from mibench.metrics.sharing import RowMetric, once
from mibench.plugins import contract
from mibench.plugins.contract import Evidence, Role, Scene, Truth, Unsupported

ROUNDING = 1e-5


class PlantedAUC(RowMetric):
    """A map's cells that hold a quantity against those that do not."""

    family = "information"
    direction = "higher"
    range = (0.0, 1.0)
    chance = 0.5
    no_score = "this map claims to show another quantity, or no cell holds this one"
    hard: ClassVar[bool] = False

    @property
    @abstractmethod
    def role(self) -> Role:
        """The quantity whose cells must rank above the others."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        truth = known(scene)
        claim = claimed(row, self.role)
        if claim is None:
            return torch.full((len(scene.x),), torch.nan)
        values = on_cells(scene, claim.double())  # (B, K)
        return above(values, holds(truth, self.role), lacks(truth, self.role, hard=self.hard))


class DecisionAUC(PlantedAUC):
    """Do the cells that decide rank above all others?"""

    name = "decision-auc"
    title = "Decision AUC: is a cell that decides ranked above another?"
    needs = frozenset({"truth"})
    role: Role = "decision"


class DecisionHard(PlantedAUC):
    """Do the cells that decide rank above those that the representation knows in vain?"""

    name = "decision-hard"
    title = "Decision against redundant: is a cell that decides ranked above one that is redundant?"
    needs = frozenset({"truth"})
    role: Role = "decision"
    hard = True


class TotalAUC(PlantedAUC):
    """Do the cells of which the representation knows rank above all others?"""

    name = "total-auc"
    title = "Total AUC: is a cell that the representation knows ranked above another?"
    needs = frozenset({"truth", "map:total"})
    role: Role = "total"


class RedundantAUC(PlantedAUC):
    """Do the redundant cells rank above all others?"""

    name = "redundant-auc"
    title = "Redundant AUC: is a redundant cell ranked above another?"
    needs = frozenset({"truth", "map:redundant"})
    role: Role = "redundant"


class RedundantHard(PlantedAUC):
    """Do the redundant cells rank above those that decide?"""

    name = "redundant-hard"
    title = "Redundant against decision: is a redundant cell ranked above one that decides?"
    needs = frozenset({"truth", "map:redundant"})
    role: Role = "redundant"
    hard = True


class NatsError(RowMetric):
    """How far a map's claims are from the truth, each kind of cell counting the same."""

    family = "information"
    direction = "lower"
    range = (0.0, float("inf"))
    unit = "nats"
    needs = frozenset({"truth"})

    @abstractmethod
    def claim(self, scene: Scene, row: Evidence) -> tuple[Tensor, Role] | None:
        """A map in nats a cell, still on the pixels, and the quantity that it claims to be."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        truth, claim = known(scene), self.claim(scene, row)
        if claim is None:
            return torch.full((len(scene.x),), torch.nan)
        nats, role = claim
        error = (on_cells(scene, nats) - truth.information[role].flatten(1).double()).abs()  # (B, K)
        return by_kinds(truth, error)


class InformationError(NatsError):
    """The error of the quantity that the map claims."""

    name = "information-error"
    title = "Error of the claimed information, cell by cell"
    no_score = "the map claims no nats or bits"

    def claim(self, scene: Scene, row: Evidence) -> tuple[Tensor, Role] | None:
        factor = nats_each(scene, row)
        role: Role = "decision" if row.spec.role == "mask" else row.spec.role
        return None if factor is None else (row.raw.double() * factor, role)


class EstimatorError(NatsError):
    """The error of the explainer's total, which no mask has touched: how much of its error is its estimator's."""

    name = "estimator-error"
    title = "Error of the explainer's own estimate of the total information, cell by cell"
    no_score = "the map claims no nats or bits"
    needs = frozenset({"truth", "map:total"})

    def claim(self, scene: Scene, row: Evidence) -> tuple[Tensor, Role] | None:
        factor = nats_each(scene, row)
        return None if factor is None else (row.siblings["total"].double() * factor, "total")


class Parameters(contract.Parameters):
    """How much is removed, and what takes its place."""

    share: float = Field(0.1, gt=0, lt=0.5, description="of the pixels that go")
    baseline: Baseline = "mean"


class RedundancyTest(RowMetric[Parameters]):
    """The decision's probability without what is called redundant, less that without what is called decisive."""

    name = "redundancy-test"
    title = "Redundancy test: what is called redundant can go, what is called decisive cannot"
    family = "information"
    cost = "forwards"
    direction = "higher"
    range = (-1.0, 1.0)
    needs = frozenset({"map:redundant"})
    no_score = "this map does not claim to show what the decision needs"

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        if row.spec.role != "decision":
            return torch.full((len(scene.x),), torch.nan)
        count = max(1, int(self.parameters.share * row.raw[0].numel()))
        ranked = [descending(scene, each.flatten(1)) < count for each in (row.siblings["redundant"], row.raw)]
        gone = torch.stack(ranked, 1)  # (B, 2, F)
        after = [
            forwards(scene).replaced(part, gone[part], self.parameters.baseline).probability
            for part in parts(scene.x, 2)
        ]
        without_redundant, without_decisive = torch.cat(after).unbind(1)  # (B,) each
        return without_redundant - without_decisive


def known(scene: Scene) -> Truth:
    """The scene's truth."""
    if scene.truth is None:
        raise Unsupported("needs truth: nobody knows how much information the cells of these data hold")
    return scene.truth


def claimed(row: Evidence, role: Role) -> Tensor | None:
    """The map (B, H, W) by which a row answers for a quantity: its own, or its explainer's where it is the main one."""
    if row.spec.role == role or (row.spec.role, role) == ("mask", "decision"):
        return row.raw
    return row.siblings.get(role) if row.spec.role == "decision" else None


def holds(truth: Truth, role: Role) -> Tensor:
    """(B, K) the cells that hold a quantity; a cell that decides only together with another decides too."""
    cells = truth.information[role] > 0
    if role == "decision":  # but not one whose glyph speaks against the class
        cells = cells | (truth.cells["signal"] & (truth.information[role] >= 0))
    return cells.flatten(1)


def lacks(truth: Truth, role: Role, *, hard: bool) -> Tensor:
    """(B, K) the cells that hold nothing of a quantity; `hard`: those of them that hold the other one."""
    cells = (truth.information[role] == 0).flatten(1) & ~holds(truth, role)
    if role == "total":  # alone they hold nothing, but the representation does not ignore them
        return cells & ~truth.cells["signal"].flatten(1)
    return cells & holds(truth, "redundant" if role == "decision" else "decision") if hard else cells


def above(values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """(B,) in which share of the pairs the positive cell's value (B, K) is above the negative one's; a tie is half."""
    pairs = (positive[:, :, None] & negative[:, None]).double()  # (B, K, K)
    difference = values[:, :, None] - values[:, None]
    tie = difference.abs() <= ROUNDING * values.abs().amax(1)[:, None, None]  # the way back from pixels rounds
    higher = torch.where(tie, 0.5, (difference > 0).double())
    return (higher * pairs).sum((1, 2)) / pairs.sum((1, 2))  # NaN without a pair


def by_kinds(truth: Truth, error: Tensor) -> Tensor:
    """The mean error (B,) over kinds of cell, each counting the same, from that of every cell (B, K)."""
    kinds = torch.stack([cells.flatten(1) for cells in truth.cells.values()], 1)  # (B, kinds, K)
    kinds = torch.cat([kinds, ~kinds.any(1, keepdim=True)], 1).double()  # the others are a kind too
    return ((error[:, None] * kinds).sum(2) / kinds.sum(2)).nanmean(1)


def nats_each(scene: Scene, row: Evidence) -> float | None:
    """What turns a map's values into nats a cell; None where it claims no unit.

    A map is a density where its explainer states, as a fact named after the unit, the sum that its pixels add up to;
    otherwise every pixel has the value of its cell.
    """
    nats = {"nats": 1.0, "bits": NATS_PER_BIT}.get(row.spec.unit)
    if nats is None or row.spec.unit not in row.facts:
        return nats
    height, width = known(scene).grid
    return nats * row.raw[0].numel() / (height * width)


def on_cells(scene: Scene, values: Tensor) -> Tensor:
    """The grid (B, K) whose bilinear upsampling is nearest to a map (B, H, W): the exact way back where it is one."""
    return values.flatten(1) @ _way_back(scene)


@once
def _way_back(scene: Scene) -> Tensor:
    """(F, K) the pseudo-inverse of the upsampling from cells to pixels."""
    height, width = known(scene).grid
    each = torch.eye(height * width).reshape(-1, height, width)
    forth = scene.probe.upsample(each.to(scene.probe.device)).flatten(1)  # (K, F)
    back: Tensor = torch.linalg.pinv(forth.cpu().double())
    return back
