"""Insertion, deletion, average drop and increase, heat ratio, ROAD's two orders: answers that can be written down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mibench.metrics.confidence_change import AverageDrop, AverageIncrease
from mibench.metrics.faithfulness_curves import ROAD, PixelFlipping, ROADLeRF
from mibench.metrics.heat_ratio import EffectiveHeatRatio
from mibench.metrics.insertion_deletion import Deletion, DeletionParameters, Insertion, InsertionParameters
from mibench.plugins.contract import Metric, Scene, Unsupported
from tests.metric_worlds import evidence, frozen, image_world, make_world, signed_maps, table_world

PIXELS = 4


class Weighing(nn.Module):
    """The probability of the first of two classes is the weighted sum of the pixels."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.sum = nn.Linear(PIXELS, 1, bias=False).double()
        self.sum.weight.data = torch.tensor([weights]).double()

    def forward(self, x: Tensor) -> Tensor:
        share = self.sum(self.flat(x.double())).clamp(1e-12, 1 - 1e-12)
        return torch.cat([share, 1 - share], 1).log()


def weighing(weights: list[float]) -> Scene:
    """Images of 2 x 2 pixels of one, of which each adds its weight to the probability of the class."""
    x = torch.ones(2, 1, 2, 2)
    dark = torch.zeros_like(x)
    mask = torch.tensor([[[True, True], [False, False]]]).repeat(2, 1, 1)
    return make_world(frozen(Weighing(weights)), x, {"mean": dark, "black": dark, "blur": dark}, mask).scene


def score(metric: Metric, scene: Scene, maps: Tensor) -> list[float]:
    return metric.score(scene, {"row": evidence(maps)})["row"].double().tolist()


RANKS = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]).repeat(2, 1, 1)


def test_deletion_and_insertion_are_the_areas_by_trapezoids() -> None:
    scene = weighing([0.4, 0.3, 0.2, 0.1])
    left = (1.0 / 2 + 0.6 + 0.3 + 0.1 + 0.0 / 2) / PIXELS  # the probability after 0 … 4 pixels left
    entered = (0.0 / 2 + 0.4 + 0.7 + 0.9 + 1.0 / 2) / PIXELS
    assert score(Deletion(DeletionParameters(steps=4)), scene, RANKS) == pytest.approx([left] * 2, abs=1e-6)
    assert score(Insertion(InsertionParameters(steps=4)), scene, RANKS) == pytest.approx([entered] * 2, abs=1e-6)


def test_average_drop_and_increase_are_of_what_the_map_shows() -> None:
    scene = weighing([0.8, -0.2, 0.2, 0.0])  # the whole image has .8
    maps = torch.tensor([[[1.0, 0.5], [0.0, 0.0]], [[1.0, -1.0], [1.0, 0.0]]])  # .7 and, without the second, 1
    assert score(AverageDrop(), scene, maps) == pytest.approx([(0.8 - 0.7) / 0.8, 0.0], abs=1e-6)
    assert score(AverageIncrease(), scene, maps) == [0.0, 1.0]


def test_a_map_without_a_positive_part_shows_nothing_and_has_no_score() -> None:
    scene = weighing([0.25] * 4)
    assert torch.tensor(score(AverageDrop(), scene, -RANKS)).isnan().all()


def test_the_heat_ratio_is_one_on_the_mask_alone_and_none_off_it() -> None:
    scene = weighing([0.25] * 4)
    on_mask = scene.mask.double()
    assert score(EffectiveHeatRatio(), scene, on_mask) == pytest.approx([1.0] * 2)
    assert score(EffectiveHeatRatio(), scene, 1 - on_mask) == pytest.approx([0.0] * 2)
    assert score(EffectiveHeatRatio(), scene, torch.ones(2, 2, 2)) == pytest.approx([0.5] * 2)


def test_the_two_orders_of_road_are_of_a_map_and_of_the_map_turned_over() -> None:
    world = image_world(count=12)
    maps = signed_maps(world)
    most, least = score(ROAD(), world.scene, maps), score(ROADLeRF(), world.scene, maps)
    assert least == score(ROAD(), world.scene, -maps)
    assert sum(least) > sum(most)


def test_deletion_asks_for_the_images_alone_where_pixel_flipping_asked() -> None:
    world = image_world()
    maps = evidence(signed_maps(world))
    flipping = PixelFlipping()
    flipping.score(world.scene, {"row": maps})
    asked = len(world.shown)
    Deletion(DeletionParameters(steps=flipping.parameters.steps)).score(world.scene, {"row": maps})
    assert world.shown[asked:] == [hash(one.numpy().tobytes()) for one in world.scene.x]


def test_insertion_refuses_a_table() -> None:
    world = table_world()
    with pytest.raises(Unsupported, match="images"):
        score(Insertion(), world.scene, torch.randn(7, 1, 6))
