"""Scores against known information: a perfect decomposition wins everything, a total map cannot pass for a decision."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from mibench.metrics.information import (
    DecisionAUC,
    DecisionHard,
    EstimatorError,
    InformationError,
    PlantedAUC,
    RedundancyTest,
    RedundantAUC,
    RedundantHard,
    TotalAUC,
    on_cells,
)
from mibench.plugins.contract import Evidence, MapSpec, Metric, Scene, Truth
from tests.metric_worlds import World, frozen, make_world

GRID, SIDE, COUNT, NATS = 3, 24, 8, math.log(6)
SPECS = {role: MapSpec(role, role=role, unit="nats", signed=True) for role in ("decision", "total", "redundant")}  # type: ignore[arg-type]


class Brightness(nn.Module):
    """The class is whether the cell at the image's middle left is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.head = nn.Linear(SIDE * SIDE, 2, bias=False).double()
        seen = torch.zeros(2, SIDE, SIDE, dtype=torch.float64)
        seen[0, 8:16, :8], seen[1, 8:16, :8] = 0.05, -0.05
        self.head.weight.data = seen.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(x.double()))  # type: ignore[no-any-return]


def planted() -> World:
    """The signal cell is (1, 0), the redundant one (0, 2); everything else is distractors."""
    x = torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) + 0.5
    world = make_world(frozen(Brightness()), x, {"mean": torch.zeros_like(x)})
    signal, redundant = (torch.zeros(COUNT, GRID, GRID, dtype=torch.bool) for _ in range(2))
    signal[:, 1, 0] = redundant[:, 0, 2] = True
    nats = {"decision": NATS * signal, "redundant": NATS * redundant, "total": NATS * (signal | redundant)}
    truth = Truth((GRID, GRID), {"signal": signal, "redundant": redundant}, nats)
    world.scene = dataclasses.replace(world.scene, truth=truth)
    return world


def rows(scene: Scene, grids: dict[str, Tensor]) -> dict[str, Evidence]:
    """One row a role, siblings of each other, as an explainer of information gives them."""
    maps = {role: scene.probe.upsample(grid.float()) for role, grid in grids.items()}
    return {role: Evidence(each / each.abs().max(), each, SPECS[role], maps) for role, each in maps.items()}


def mean(metric: type[Metric], scene: Scene, row: Evidence) -> float:
    return float(metric().score(scene, {"row": row})["row"].mean())


AUCS: list[type[PlantedAUC]] = [DecisionAUC, DecisionHard, TotalAUC, RedundantAUC, RedundantHard]


@pytest.mark.parametrize("metric", AUCS)
def test_the_truth_itself_scores_one_and_its_negative_zero(metric: type[PlantedAUC]) -> None:
    scene = planted().scene
    assert scene.truth is not None
    role = metric().role
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        row = rows(scene, {name: sign * nats for name, nats in scene.truth.information.items()})[role]
        assert mean(metric, scene, row) == pytest.approx(expected)


@pytest.mark.parametrize("metric", AUCS)
def test_ties_count_a_half(metric: type[PlantedAUC]) -> None:
    scene = planted().scene
    flat = rows(scene, dict.fromkeys(("decision", "total", "redundant"), torch.ones(COUNT, GRID, GRID)))
    assert mean(metric, scene, flat[metric().role]) == 0.5


def test_an_auc_is_the_mean_over_pairs_of_cells() -> None:
    scene = planted().scene
    values = torch.randn(COUNT, GRID, GRID, generator=torch.Generator().manual_seed(3))
    map_ = scene.probe.upsample(values)
    row = Evidence(map_, map_, MapSpec("map"))
    found = DecisionAUC().score(scene, {"row": row})["row"]
    for sample in range(COUNT):
        others = [values[sample, i, j] for i in range(3) for j in range(3) if (i, j) != (1, 0)]
        expected = sum(bool(values[sample, 1, 0] > other) for other in others) / len(others)
        assert float(found[sample]) == pytest.approx(expected)


def test_a_total_map_cannot_tell_what_decides() -> None:
    scene = planted().scene
    assert scene.truth is not None
    total = scene.truth.information["total"]
    row = rows(scene, {"decision": total, "total": total, "redundant": 0 * total})["decision"]
    assert mean(DecisionHard, scene, row) == 0.5
    assert mean(DecisionAUC, scene, row) == pytest.approx((7 + 0.5) / 8)


def test_a_saliency_map_is_a_decision_map_and_nothing_else() -> None:
    scene = planted().scene
    map_ = torch.zeros(COUNT, SIDE, SIDE)
    map_[:, 10:12, 2:4] = 1.0
    saliency = Evidence(map_, map_, MapSpec("map"), {"map": map_})
    assert mean(DecisionAUC, scene, saliency) == mean(DecisionHard, scene, saliency) == 1.0
    for metric in (TotalAUC, RedundantAUC, RedundantHard, InformationError):
        assert math.isnan(mean(metric, scene, saliency))


def test_a_main_row_scores_its_explainers_other_maps_and_they_themselves() -> None:
    scene = planted().scene
    assert scene.truth is not None
    truth = dict(scene.truth.information)
    found = rows(scene, truth | {"total": -truth["total"]})
    assert mean(TotalAUC, scene, found["decision"]) == mean(TotalAUC, scene, found["total"]) == 0.0
    assert math.isnan(mean(TotalAUC, scene, found["redundant"]))
    assert math.isnan(mean(DecisionAUC, scene, found["total"]))
    mask = dataclasses.replace(found["decision"], spec=MapSpec("mask", role="mask"))
    assert mean(DecisionAUC, scene, mask) == 1.0
    assert math.isnan(mean(TotalAUC, scene, mask))


@pytest.mark.parametrize("unit", ["nats", "bits"])
def test_the_error_is_in_nats_and_each_kind_of_cell_counts_the_same(unit: str) -> None:
    scene = planted().scene
    assert scene.truth is not None
    off = {"signal": 0.3, "redundant": -0.6, "others": 0.9}
    claim = scene.truth.information["decision"] + off["others"]
    for role, cells in scene.truth.cells.items():
        claim = claim + cells * (off[role] - off["others"])
    values = scene.probe.upsample(claim.float()) / (math.log(2) if unit == "bits" else 1)
    row = Evidence(values, values, MapSpec("map", unit=unit))  # type: ignore[arg-type]
    assert mean(InformationError, scene, row) == pytest.approx((0.3 + 0.6 + 0.9) / 3, abs=1e-4)


def test_a_map_whose_pixels_add_up_to_a_stated_total_is_read_as_a_density() -> None:
    scene = planted().scene
    assert scene.truth is not None
    bits = scene.truth.information["decision"].float() / math.log(2)
    spread = scene.probe.upsample(bits) / 64  # an 8 x 8 cell's pixels add up to its bits
    row = Evidence(spread, spread, MapSpec("map", unit="bits"), facts={"bits": bits.sum((1, 2))})
    assert mean(InformationError, scene, row) == pytest.approx(0.0, abs=1e-4)
    assert mean(InformationError, scene, dataclasses.replace(row, facts={})) > 0.5


def test_the_estimators_error_is_that_of_the_total() -> None:
    scene = planted().scene
    assert scene.truth is not None
    truth = dict(scene.truth.information)
    row = rows(scene, truth | {"total": truth["total"] + 0.25})["decision"]
    assert mean(EstimatorError, scene, row) == pytest.approx(0.25, abs=1e-5)
    assert mean(InformationError, scene, row) == pytest.approx(0.0, abs=1e-5)


def test_the_way_back_from_pixels_to_cells_is_exact_on_upsampled_maps() -> None:
    scene = planted().scene
    grid = torch.randn(COUNT, GRID, GRID)
    torch.testing.assert_close(on_cells(scene, scene.probe.upsample(grid).double()).float(), grid.flatten(1))


def test_redundancy_is_tested_by_taking_away() -> None:
    world = planted()
    scene = world.scene
    assert scene.truth is not None
    truth = dict(scene.truth.information)
    honest = rows(scene, truth)["decision"]
    liar = rows(scene, truth | {"decision": truth["redundant"], "redundant": truth["decision"]})["decision"]
    good, bad = (mean(RedundancyTest, scene, row) for row in (honest, liar))
    assert good > 0.2
    assert bad == pytest.approx(-good)
    before = torch.softmax(world.model(scene.x), 1)[:, 0]
    assert float(before.mean()) > 0.9  # so the decision was there to be lost


def test_cells_that_decide_only_together_must_be_found_too() -> None:
    scene = planted().scene
    assert scene.truth is not None
    silent = {name: 0 * nats for name, nats in scene.truth.information.items()}
    redundant = scene.truth.information["redundant"]
    synergy = Truth((GRID, GRID), scene.truth.cells, silent | {"total": redundant, "redundant": redundant})
    scene = dataclasses.replace(scene, truth=synergy)
    found = rows(
        scene,
        {name: cells.float() for name, cells in scene.truth.cells.items() if name != "signal"}
        | {"decision": scene.truth.cells["signal"].float(), "total": redundant},
    )  # type: ignore[union-attr]
    assert mean(DecisionAUC, scene, found["decision"]) == 1.0
    assert mean(TotalAUC, scene, found["decision"]) == 1.0
