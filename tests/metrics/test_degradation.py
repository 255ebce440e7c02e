"""Degradation is the area between two curves that a loop over tiles draws, and 0 for maps that know nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mibench.metrics.tile_removal import Degradation, tiled
from mibench.plugins.contract import Unsupported
from tests.metric_worlds import evidence, image_world, signed_maps, table_world


def score(world: Any, maps: Tensor, **parameters: Any) -> Tensor:
    metric = Degradation(Degradation.Parameters(**parameters))
    return metric.score(world.scene, {"row": evidence(maps)})["row"]


def curve(world: Any, sample: int, order: list[tuple[slice, slice]]) -> list[float]:
    """The class's probability as tiles go one after another."""
    scene = world.scene
    x = scene.x[sample].clone()
    probabilities = []
    for step in range(len(order) + 1):
        with torch.no_grad():
            probabilities.append(float(world.model(x[None]).softmax(1)[0, scene.target[sample]]))
        if step < len(order):
            x[(slice(None), *order[step])] = scene.baselines["mean"][sample][(slice(None), *order[step])]
    return probabilities


def area_between(world: Any, maps: Tensor, side: int) -> list[float]:
    height, width = maps.shape[1:]
    tiles = [
        (slice(top, top + side), slice(left, left + side))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    areas = []
    for sample, relevance in enumerate(maps):
        falling = sorted(tiles, key=lambda tile, relevance=relevance: -float(relevance[tile].mean()))
        most, least = curve(world, sample, falling), curve(world, sample, falling[::-1])
        areas.append(torch.trapezoid(torch.tensor(least) - torch.tensor(most)).item() / len(tiles))
    return areas


@pytest.mark.parametrize("side", [8, 10])
def test_the_score_is_the_area_between_the_curves_of_a_loop_over_tiles(side: int) -> None:
    world = image_world()
    maps = signed_maps(world)
    expected = torch.tensor(area_between(world, maps, side), dtype=torch.float64)
    assert torch.allclose(score(world, maps, tile=side, steps=999), expected, atol=1e-5)


def test_tiles_that_go_together_make_a_coarser_curve() -> None:
    world = image_world()
    maps = signed_maps(world)
    fine, coarse = (score(world, maps, tile=4, steps=steps) for steps in (36, 12))
    assert not torch.equal(fine, coarse)
    assert torch.allclose(fine, coarse, atol=0.1)


def test_an_inverted_map_scores_the_opposite() -> None:
    world = image_world()
    maps = signed_maps(world)
    assert torch.allclose(score(world, -maps), -score(world, maps), atol=1e-5)


def test_random_maps_score_nothing_on_average_and_the_right_order_much() -> None:
    world = image_world(count=8)
    generator = torch.Generator().manual_seed(0)
    noise = torch.stack([score(world, torch.rand(8, 24, 24, generator=generator)) for _ in range(40)])
    falls = torch.zeros(8, 24, 24)
    for top in range(0, 24, 8):
        for left in range(0, 24, 8):
            tile = (slice(top, top + 8), slice(left, left + 8))
            for sample in range(8):
                falls[(sample, *tile)] = -curve(world, sample, [tile])[1]
    assert noise.mean().abs() < 4 * noise.mean(1).std() / 40**0.5
    assert score(world, falls).mean() > noise.mean() + 3 * noise.mean(1).std()


def test_tables_and_tiles_as_large_as_the_image_are_refused() -> None:
    with pytest.raises(Unsupported, match="images"):
        score(table_world(), torch.rand(7, 1, 6))
    with pytest.raises(Unsupported, match="whole image"):
        score(image_world(), torch.rand(5, 24, 24), tile=24)


def test_tiles_count_row_by_row_and_end_at_the_border() -> None:
    tile = tiled(image_world().scene, 10).reshape(24, 24)
    assert tile.unique().tolist() == list(range(9))
    assert tile[0, 9] == 0
    assert tile[0, 10] == 1
    assert tile[23, 23] == 8
    assert (tile == 8).sum() == 16
