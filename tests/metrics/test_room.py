"""Every metric of the room, found by listing it: its direction, its range, and what its scores must not depend on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mibench.plugins.contract import PERTURBED, VARIANTS, Evidence, Metric, Scene, Unsupported
from tests.metric_worlds import evidence, frozen, image_world, make_world, metrics_of_the_room, signed_maps, table_world

ROOM = list(metrics_of_the_room())
KNOWN_HERE = {"mask", "image", PERTURBED, *VARIANTS}  # what the worlds of this file hold
SEEN = (*VARIANTS, f"{PERTURBED}:1", f"{PERTURBED}:2")
SIDE = 24
WHERE = {0: (slice(3, 9), slice(3, 9)), 1: (slice(14, 20), slice(12, 18))}  # the region that speaks for each class


class TwoRegions(nn.Module):
    """Each class's logit is the sum of the pixels of its own region: the right explanation is known."""

    def __init__(self) -> None:
        super().__init__()
        regions = torch.zeros(2, SIDE, SIDE, dtype=torch.float64)
        for label, where in WHERE.items():
            regions[label][where] = 1.0
        self.flat = nn.Flatten()
        self.sums = nn.Linear(SIDE * SIDE, 2, bias=False).double()
        self.sums.weight.data = regions.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.sums(self.flat(x.double()))


def two_regions(count: int = 12) -> Any:
    """Dark images with one bright region and one that is almost as bright."""
    generator = torch.Generator().manual_seed(2)
    x = 0.1 * torch.rand(count, 1, SIDE, SIDE, generator=generator)
    mask = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for sample in range(count):
        bright, dim = WHERE[sample % 2], WHERE[1 - sample % 2]
        x[sample, 0][bright] += 0.9 + 0.1 * torch.rand(6, 6, generator=generator)
        x[sample, 0][dim] += 0.8
        mask[sample][bright] = True
    dark = torch.zeros_like(x)
    return make_world(frozen(TwoRegions()), x, {"mean": dark, "black": dark, "blur": dark}, mask)


def good_maps(scene: Scene) -> Tensor:
    """What each pixel adds to the logit of the explained class."""
    return scene.x[:, 0] * scene.mask


def near(maps: Tensor, far: Tensor) -> dict[str, Tensor]:
    """Maps of two perturbed inputs, of which the second has moved the farther towards others."""
    return {f"{PERTURBED}:1": 0.9 * maps + 0.1 * far, f"{PERTURBED}:2": 0.5 * maps + 0.5 * far}


def rows_in_order(scene: Scene) -> dict[str, Evidence]:
    """Three rows of which everyone must agree that the first is better than the second, and that than the third."""
    generator = torch.Generator().manual_seed(4)
    good = good_maps(scene)
    noise = torch.rand(good.shape, generator=generator)
    other = scene.x[:, 0] * scene.mask.roll(1, 0)
    right = {
        "centred": good,
        "centred-other-class": other,
        "other-class": scene.x[:, 0] * scene.mask.roll(1, 0),
        "random-weights": noise,
        "repeat": good,
        **near(good, good),
    }
    doubtful = {
        "centred": noise,
        "centred-other-class": noise.sqrt(),
        "other-class": noise.sqrt(),
        "random-weights": noise.sqrt() + 0.01 * good,
        "repeat": noise + good,
        **near(noise, noise.flip(1)),
    }
    inverted = 1 - good / good.flatten(1).amax(1)[:, None, None]
    deaf = {"centred": inverted, "centred-other-class": inverted}
    wrong = deaf | {
        "other-class": inverted,
        "random-weights": inverted,
        "repeat": good,
        **near(inverted, noise.flip(2) ** 4),
    }
    return {
        "good": evidence(good, variants=right),
        "random": evidence(noise, variants=doubtful),
        "inverted": evidence(inverted, variants=wrong),
    }


def scorable(metric: type[Metric]) -> bool:
    return all(need in KNOWN_HERE for need in metric.needs)


def scores(metric: type[Metric], scene: Scene, rows: dict[str, Evidence]) -> dict[str, np.ndarray]:
    return {name: score.double().numpy() for name, score in metric().score(scene, rows).items()}


def quartered(world: Any) -> Any:
    """The same scene with the quarter of the image that holds the bright region as mask, as on mosaics."""
    mask = torch.zeros_like(world.scene.mask)
    mask[0::2, :12, :12] = mask[1::2, 12:, 12:] = True
    return dataclasses.replace(world.scene, mask=mask)


def scene_for(metric: type[Metric]) -> Scene:
    return quartered(two_regions()) if metric.name == "focus" else two_regions().scene


every = pytest.mark.parametrize("metric", [m for m in ROOM if scorable(m)], ids=lambda metric: metric.name)


def test_the_room_is_not_empty() -> None:
    names = [metric.name for metric in ROOM]
    assert len(names) == len(set(names)) >= 20
    assert sum(map(scorable, ROOM)) >= 20


@pytest.mark.parametrize("metric", ROOM, ids=lambda metric: metric.name)
def test_direction_range_and_words_are_declared(metric: type[Metric]) -> None:
    assert metric.cost in ("maps", "forwards", "explanations")  # type: ignore[attr-defined]
    low, high = metric.range
    assert metric.direction in ("higher", "lower")
    assert low < high
    assert math.isfinite(low) or math.isfinite(high), "a range that excludes nothing is no claim"
    assert metric.title
    assert metric.__doc__


# Neither similarity among maps nor a map's rise in complexity changes when the map is turned over; and beside so many
# pixels every map but the information itself has a vanishing p.
BLIND_TO_INVERSION = {"sufficiency", "efficient-mprt", "ks-p"}
AMONG_SAMPLES = {"sufficiency", "ks", "ks-p"}  # these compare, or learn from, the samples by their very definition
YES_OR_NO = {"average-increase"}  # one bit: what is below random cannot be seen
GATES = {"random-logit", "weight-randomisation", "mprt", "repeatability", "efficient-mprt"}


@every
def test_good_is_better_than_random_and_random_than_inverted(metric: type[Metric]) -> None:
    if metric.name in BLIND_TO_INVERSION | GATES | YES_OR_NO:
        pytest.skip("has a test of its own below")
    scene = scene_for(metric)
    sign = 1 if metric.direction == "higher" else -1
    good, random, inverted = (
        sign * np.nanmean(score) for score in scores(metric, scene, rows_in_order(scene)).values()
    )
    assert good > random > inverted


def test_like_maps_of_unlike_decisions_are_insufficient() -> None:
    metric = next(found for found in ROOM if found.name == "sufficiency")
    scene = two_regions().scene
    halves = torch.zeros(12, SIDE, SIDE)  # of one kind for three samples of either class, of another for the others
    halves[:6, :12], halves[6:, 12:] = 1.0, 1.0
    found = scores(metric, scene, {"good": evidence(good_maps(scene)), "bad": evidence(halves)})
    assert found["good"].tolist() == [1.0] * 12
    assert found["bad"] == pytest.approx(2 / 5)
    assert metric.direction == "higher"


@pytest.mark.parametrize("name", sorted(GATES))
def test_a_map_that_reacts_as_it_must_passes_the_gates_better(name: str) -> None:
    metric = next(found for found in ROOM if found.name == name)
    scene = two_regions().scene
    good, noise = good_maps(scene), torch.rand(12, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    other = scene.x[:, 0] * scene.mask.roll(1, 0)
    centred = {"centred": good, "centred-other-class": other}
    honest = evidence(good, variants=centred | {"random-weights": noise, "repeat": good})
    deaf = evidence(good, variants=centred | {"centred-other-class": good, "random-weights": good, "repeat": noise})
    found = {
        row: float(np.mean(score)) for row, score in scores(metric, scene, {"honest": honest, "deaf": deaf}).items()
    }
    assert (found["honest"] > found["deaf"]) == (metric.direction == "higher")
    assert abs(found["honest"] - found["deaf"]) > 0.2
    assert metric.gate


@every
def test_scores_stay_in_the_declared_range(metric: type[Metric]) -> None:
    scene = scene_for(metric)
    found = np.concatenate(list(scores(metric, scene, rows_in_order(scene)).values()))
    found = found[~np.isnan(found)]
    assert len(found) > 0
    assert metric.range[0] - 1e-9 <= found.min() <= found.max() <= metric.range[1] + 1e-9


@every
def test_the_cost_is_what_is_declared(metric: type[Metric]) -> None:
    """Maps alone: no input but the samples as they are; explanations: whoever needs a variant."""
    world = image_world() if metric.name != "focus" else quartered(two_regions())
    shown: set[bytes] = set()

    def watched(x: Tensor) -> Tensor:
        shown.update(one.numpy().tobytes() for one in x)
        return world.predict(x)

    world = getattr(world, "scene", world)
    maps = torch.rand(world.x.shape[0], *world.x.shape[2:], generator=torch.Generator().manual_seed(0))
    rows = {"row": evidence(maps, variants=dict.fromkeys(SEEN, maps.flip(2)))}
    scores(metric, dataclasses.replace(world, predict=watched), rows)
    perturbed = shown - {one.numpy().tobytes() for one in world.x}
    expected = "explanations" if metric.needs & {PERTURBED, *VARIANTS} else "forwards" if perturbed else "maps"
    assert metric.cost == expected  # type: ignore[attr-defined]


@every
def test_a_row_is_scored_alike_with_and_without_the_others(metric: type[Metric]) -> None:
    scene = scene_for(metric)
    rows = rows_in_order(scene)
    together = scores(metric, scene, rows)
    for name, row in rows.items():
        alone = scores(metric, dataclasses.replace(scene), {name: row})
        np.testing.assert_allclose(alone[name], together[name], atol=1e-9)


@every
def test_a_sample_is_scored_alike_with_and_without_the_others(metric: type[Metric]) -> None:
    if metric.name in AMONG_SAMPLES:
        pytest.skip("looks at all samples by its very definition")
    scene = scene_for(metric)
    rows = rows_in_order(scene)
    together = scores(metric, scene, rows)
    part = dataclasses.replace(
        scene,
        x=scene.x[5:8],
        label=scene.label[5:8],
        target=scene.target[5:8],
        baselines={name: x[5:8] for name, x in scene.baselines.items()},
        seeds=scene.seeds[5:8],
        mask=None if scene.mask is None else scene.mask[5:8],
    )
    cut = {
        name: evidence(row.raw[5:8], variants={kind: maps[5:8] for kind, maps in row.variants.items()})
        for name, row in rows.items()
    }
    for name, score in scores(metric, part, cut).items():
        np.testing.assert_allclose(score, together[name][5:8], atol=1e-9)


@every
def test_scoring_leaves_global_randomness_and_all_inputs_alone(metric: type[Metric]) -> None:
    scene = scene_for(metric)
    rows = rows_in_order(scene)
    tensors = [scene.x, *(tensor for row in rows.values() for tensor in (row.map, row.raw, *row.variants.values()))]
    copies = [tensor.clone() for tensor in tensors]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    scores(metric, scene, rows)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])
    assert all(map(torch.equal, tensors, copies))


@every
def test_tables_are_scored_or_refused_with_a_reason(metric: type[Metric]) -> None:
    maps = torch.randn(7, 1, 6, generator=torch.Generator().manual_seed(0))
    row = evidence(maps, variants=dict.fromkeys(SEEN, maps.flip(2)))
    mask = torch.zeros(7, 1, 6, dtype=torch.bool)
    mask[:, :, 2] = True
    scene = dataclasses.replace(table_world().scene, mask=mask)
    if "image" in metric.needs:
        with pytest.raises(Unsupported, match=r"images|mosaics"):
            scores(metric, scene, {"row": row})
    else:
        assert np.isfinite(scores(metric, scene, {"row": row})["row"]).any()


@every
def test_colour_images_are_scored(metric: type[Metric]) -> None:
    world = image_world(count=4, channels=3)
    scene = world.scene
    if metric.name == "focus":
        mask = torch.zeros_like(scene.mask)
        mask[:, :12, :12] = True
        scene = dataclasses.replace(scene, mask=mask)
    maps = signed_maps(world)
    maps[1] = maps[0]  # one has a like one
    row = evidence(maps, variants=dict.fromkeys(SEEN, maps.flip(2)))
    assert np.isfinite(scores(metric, scene, {"row": row})["row"]).any()
