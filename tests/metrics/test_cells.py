"""Scores on cells: only a cell's mean counts, whole cells are removed, and sign and resolution can be told apart."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from mibench.metrics import cells
from mibench.metrics.cells import OnCells
from mibench.plugins.contract import Scene
from tests.metric_worlds import evidence, image_world, metrics_of_the_room
from tests.metrics.test_information import GRID, SIDE, planted

ROOM = [
    cells.PixelFlippingOnCells,
    cells.DegradationOnCells,
    cells.RoadOnCells,
    cells.FaithfulnessEstimateOnCells,
    cells.FaithfulnessCorrelationOnCells,
    cells.RelevanceMassAccuracyOnCells,
]
EACH = SIDE // GRID  # pixels along a cell's side


def drawn(count: int, side: int, seed: int) -> Tensor:
    return torch.rand(count, side, side, generator=torch.Generator().manual_seed(seed)) + 0.01


def spread(values: Tensor) -> Tensor:
    """Cells (B, h, w) as pixels, all of a cell alike."""
    return values.repeat_interleave(EACH, 1).repeat_interleave(EACH, 2)


def world() -> Scene:
    """The class is decided by the cell at the middle left alone."""
    scene = planted().scene
    mask = torch.zeros(len(scene.x), SIDE, SIDE, dtype=torch.bool)
    mask[:, EACH : 2 * EACH, :EACH] = True
    return dataclasses.replace(scene, mask=mask)


def score(metric: OnCells, scene: Scene, maps: Tensor) -> Tensor:
    return metric.score(scene, {"row": evidence(maps)})["row"]


def test_this_file_looks_at_every_score_on_cells() -> None:
    found = [each for each in metrics_of_the_room() if each.__module__ == cells.__name__]
    assert {*found} == {*ROOM}
    assert all(each.name.endswith("@cells") for each in found)


@pytest.mark.parametrize("metric", ROOM, ids=lambda metric: metric.name)
def test_a_fine_map_scores_as_its_mean_over_cells(metric: type[OnCells]) -> None:
    scene = world()
    signs = torch.where(drawn(8, SIDE, 1) > 0.5, 1.0, -1.0)
    fine = signs * drawn(8, SIDE, 2) + 0.3 * spread(drawn(8, GRID, 3)) * signs
    means = torch.nn.functional.avg_pool2d(fine.abs()[:, None], EACH)[:, 0]
    fine_scores, mean_scores = score(metric(), scene, fine), score(metric(), scene, spread(means))
    assert fine_scores.isfinite().all()
    torch.testing.assert_close(fine_scores, mean_scores, atol=1e-6, rtol=0)


def test_pixel_flipping_and_degradation_remove_cell_by_cell() -> None:
    scene = world()
    values = drawn(8, GRID, 4)
    order = values.flatten(1).argsort(1, descending=True)

    def curve(places: Tensor) -> Tensor:
        x, probabilities = scene.x.clone(), []
        for place in places.unbind(1):
            for sample, cell in enumerate(place.tolist()):
                down, right = EACH * (cell // GRID), EACH * (cell % GRID)
                x[sample, :, down : down + EACH, right : right + EACH] = 0.0  # the mean of these data
            probabilities.append(scene.predict(x).softmax(1).gather(1, scene.target[:, None])[:, 0])
        return torch.stack(probabilities, 1)

    most, least = curve(order), curve(order.flip(1))
    flipped = torch.trapezoid(most, dim=1) / (GRID**2 - 1)
    torch.testing.assert_close(score(cells.PixelFlippingOnCells(), scene, spread(values)), flipped)
    apart = (least - most)[:, :-1].sum(1) / GRID**2
    torch.testing.assert_close(score(cells.DegradationOnCells(), scene, spread(values)), apart)


def test_the_cell_that_decides_is_found_and_its_sign_counts_where_wanted() -> None:
    scene = world()
    signal = torch.zeros(8, GRID, GRID)
    signal[:, 1, 0] = -1.0
    maps = spread(signal)
    for metric in (cells.FaithfulnessEstimateOnCells, cells.FaithfulnessCorrelationOnCells):
        assert score(metric(), scene, maps) == pytest.approx(1.0)
        assert score(metric(signed=True), scene, maps) == pytest.approx(-1.0)
    assert score(cells.RelevanceMassAccuracyOnCells(), scene, maps) == pytest.approx(1.0)
    assert score(cells.RelevanceMassAccuracyOnCells(signed=True), scene, maps).isnan().all()
    best = score(cells.PixelFlippingOnCells(), scene, maps)
    assert (best < score(cells.PixelFlippingOnCells(), scene, spread(1 + signal))).all()


def test_without_known_truth_the_grid_is_the_local_layers() -> None:
    scene = image_world().scene
    assert scene.truth is None
    cell = cells.cell_of(scene)
    assert int(cell.max()) + 1 == scene.probe.grid[0] * scene.probe.grid[1]
    coarse = dataclasses.replace(scene, truth=planted().scene.truth)
    assert cells.cell_of(coarse).reshape(24, 24)[7:9, 15:17].tolist() == [[1, 2], [4, 5]]
