"""Localisation: Quantus' numbers where there are no ties, and no luck where there are."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mibench.metrics.localisation import (
    AUC,
    AttributionLocalisation,
    BoundingBoxAccuracy,
    Focus,
    PointingGame,
    RelevanceMassAccuracy,
    RelevanceRankAccuracy,
    TopKIntersection,
    hits,
)
from mibench.plugins import registry
from mibench.plugins.contract import Unsupported
from tests.metric_worlds import digit_world, evidence, image_world, photograph_world, signed_maps

ALL = [
    PointingGame,
    TopKIntersection,
    RelevanceRankAccuracy,
    RelevanceMassAccuracy,
    AUC,
    AttributionLocalisation,
    BoundingBoxAccuracy,
]


def score(metric: Any, world: Any, row: Any, **parameters: Any) -> np.ndarray:
    return metric(metric.Parameters(**parameters)).score(world.scene, {"row": row})["row"].numpy()


def with_mask(world: Any, mask: Tensor) -> Any:
    return dataclasses.replace(world, scene=dataclasses.replace(world.scene, mask=mask))


def quadrant(count: int, side: int) -> Tensor:
    mask = torch.zeros(count, side, side, dtype=torch.bool)
    mask[:, : side // 2, side // 2 :] = True
    return mask


def half_masked() -> Any:
    world = image_world(count=16)
    world.scene.mask[:, :, :12] = True
    return world


@pytest.fixture(
    params=["grey", pytest.param("digits", marks=pytest.mark.slow), pytest.param("lite", marks=pytest.mark.slow)]
)
def world(request: pytest.FixtureRequest) -> Any:
    return {"grey": half_masked, "digits": partial(digit_world, 16), "lite": photograph_world}[request.param]()


def test_focus_refuses_what_is_no_mosaic() -> None:
    world = image_world()
    with pytest.raises(Unsupported, match="mosaic"):
        score(Focus, world, evidence(signed_maps(world)))


@pytest.mark.parametrize("metric", ALL)
def test_negative_values_count_as_nothing(metric: Any) -> None:
    world = image_world()
    signed = signed_maps(world)
    signed = signed / signed.flatten(1).amax(1)[:, None, None]
    np.testing.assert_allclose(
        score(metric, world, evidence(signed)), score(metric, world, evidence(signed.clamp(min=0))), atol=1e-6
    )


@pytest.mark.parametrize("metric", [*ALL, Focus])
def test_nothing_is_scored_without_a_mask_or_a_positive_part(metric: Any) -> None:
    world = image_world(count=4)
    mask = quadrant(4, 24)
    mask[1], mask[2] = False, True
    maps = torch.rand(4, 24, 24, generator=torch.Generator().manual_seed(0))
    maps[3] *= -1
    scores = score(metric, with_mask(world, mask), evidence(maps))
    assert np.isnan(scores).tolist() == [False, True, True, True]
    assert metric.no_score


@pytest.mark.parametrize("metric", ALL)
def test_without_masks_localisation_is_unsupported(metric: Any) -> None:
    world = image_world()
    bare = dataclasses.replace(world, scene=dataclasses.replace(world.scene, mask=None))
    with pytest.raises(Unsupported, match="masks"):
        score(metric, bare, evidence(signed_maps(world)))


@pytest.mark.parametrize("metric", [PointingGame, TopKIntersection, RelevanceRankAccuracy, AUC])
def test_ties_score_what_a_random_order_scores_on_average(metric: Any) -> None:
    world = image_world(count=1)
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 3, (1, 24, 24), generator=generator).float()
    orders = [levels + 0.1 * torch.rand(1, 24, 24, generator=generator) for _ in range(1500)]
    many = dataclasses.replace(world.scene, mask=world.scene.mask.expand(1500, -1, -1))
    average = metric().score(many, {"row": evidence(torch.cat(orders))})["row"].mean()
    assert abs(score(metric, world, evidence(levels))[0] - float(average)) < 0.02


def test_a_single_hot_pixel_points() -> None:
    world = image_world(count=2)
    maps = torch.full((2, 24, 24), 0.1)
    maps[0, 2, 7], maps[1, 20, 20] = 1.0, 1.0
    assert score(PointingGame, world, evidence(maps)).tolist() == [1.0, 0.0]


def test_bounding_boxes_surround_their_masks_and_large_ones_are_left_out() -> None:
    world = image_world(count=2)
    mask = torch.zeros(2, 24, 24, dtype=torch.bool)
    mask[0, 3:7, 4] = mask[0, 6, 4:10] = True  # an L in a box of 4 x 6
    mask[1, :21, 0] = mask[1, 20, :21] = True  # one in a box of 21 x 21
    maps = torch.rand(2, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.1
    maps[:, 3:7, 4:7] += 1
    scores = score(BoundingBoxAccuracy, with_mask(world, mask), evidence(maps))
    inside = maps[0].flatten().argsort(descending=True)[:24]
    expected = np.mean([(3 <= int(p) // 24 < 7) and (4 <= int(p) % 24 < 10) for p in inside])
    assert scores[0] == pytest.approx(expected)
    assert np.isnan(scores[1])


def test_what_lies_between_two_boxes_of_one_image_is_outside_of_them() -> None:
    world = image_world(count=1)
    mask = torch.zeros(1, 24, 24, dtype=torch.bool)
    mask[0, 2:6, 2:6] = mask[0, 18:22, 18:22] = True
    between = torch.zeros(1, 24, 24)
    between[0, 8:16, 8:16] = 1.0
    maps = torch.stack([mask.float()[0], between[0]])[:, None]
    scores = [float(score(BoundingBoxAccuracy, with_mask(world, mask), evidence(each))[0]) for each in maps]
    assert scores == [1.0, 0.0]


@pytest.mark.parametrize(("spec", "shape"), [("planted[grid=3]", (3, 24, 24)), ("mosaic:digits", (1, 24, 24))])
def test_planted_cells_and_tiles_of_mosaics_are_boxes(spec: str, shape: tuple[int, ...]) -> None:
    mask = registry.data(spec).load("scoring", 2, shape).mask
    assert mask is not None
    world = with_mask(image_world(count=2), mask)
    assert score(BoundingBoxAccuracy, world, evidence(mask.float())).tolist() == [1.0, 1.0]
    assert score(BoundingBoxAccuracy, world, evidence((~mask).float())).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("width", "is_scored"), [(13, False), (12, False), (11, True)])
def test_boxes_of_a_third_of_the_image_have_no_score(width: int, is_scored: bool) -> None:
    world = image_world(count=1, side=20)
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, :11, :width] = True  # 11 x 12 is 33 % of 20 x 20
    found = score(BoundingBoxAccuracy, with_mask(world, mask), evidence(torch.rand(1, 20, 20)))
    assert np.isfinite(found).all() == is_scored


def test_pixels_of_zero_and_of_negative_relevance_share_the_last_rank() -> None:
    maps = torch.tensor([[[-2.0, 0.25, 0.0, 0.5, -0.0, -0.1]]])
    mask = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]])
    expected = [0, 1, 1, 1.5, 2, 2.5, 3]  # the highest is in the mask, the second is not, four share two
    for kind in (torch.float32, torch.float64, torch.float16):
        assert hits(maps.to(kind), mask)[0].tolist() == pytest.approx(expected)
