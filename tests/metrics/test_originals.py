"""Every score that claims an original of Quantus is Quantus' number, by the table that `mibench verify` uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mibench.metrics import faithfulness_curves, localisation, originals
from mibench.metrics.faithfulness_agreement import MonotonicityCorrelation, Sufficiency
from mibench.metrics.faithfulness_curves import IROF, PixelFlipping, RegionPerturbation
from mibench.metrics.localisation import AUC, PointingGame, RelevanceRankAccuracy, TopKIntersection
from mibench.metrics.originals import ORIGINALS, original, untied
from mibench.metrics.perturbation import descending
from mibench.network.noise import perturbed
from mibench.plugins import registry
from mibench.plugins.contract import PERTURBED, VARIANTS, Evidence, Metric, Scene, Unsupported
from mibench.run.verification import deviations
from tests import needs
from tests.metric_worlds import (
    World,
    digit_world,
    evidence,
    image_world,
    metrics_of_the_room,
    photograph_world,
    signed_maps,
)

quantus = needs.quantus()

SPECS = [  # every metric of the table as it is by default, and where a parameter has a branch of its own
    *sorted(metric.name for metric in ORIGINALS),
    *("pixel-flipping[steps=12]", "pixel-flipping[steps=5,baseline=black]", "irof[segments=100,smoothing=0]"),
    *("region-perturbation[side=5,regions=10]", "region-perturbation[baseline=black]", "road[noise=0.5,steps=3]"),
    *("faithfulness-estimate[output=probability]", "monotonicity-correlation[output=probability]"),
    *("faithfulness-correlation[share=0.5,runs=20]", "sensitivity-n[sizes=2,runs=10]"),
    *("infidelity[side=4,output=probability]", "top-k-intersection[share=0.1]"),
]
WORLDS: dict[str, Callable[[], World]] = {
    "grey": partial(image_world, count=12),
    "rgb": partial(image_world, count=12, channels=3),
    "digits": digit_world,  # real ones, and a network that learned them
    "lite": photograph_world,
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("digits", "lite")]


def explained(world: World, x: Tensor) -> Tensor:
    """Input times gradient for the class of the plain inputs."""
    x = x.clone().requires_grad_()
    world.model(x).gather(1, world.scene.target[:, None]).sum().backward()
    return (x * x.grad).detach().sum(1).float()


def row_of(world: World, maps: Tensor) -> Evidence:
    """A row with all second maps, of which the first samples have them."""
    scene, generator = world.scene, torch.Generator().manual_seed(0)
    some = max(1, len(maps) // 2)
    drawn = {name: (maps + maps.std() * torch.randn(maps.shape, generator=generator))[:some] for name in VARIANTS}
    names = [f"{PERTURBED}:{number}" for number in (1, 2, 3)]
    near = {name: explained(world, perturbed(scene.x, scene.seeds, name))[:some] for name in names}
    return evidence(maps, variants=drawn | near)


def scene_for(metric: Metric, scene: Scene) -> Scene:
    """The scene, with a quadrant as mask where the metric wants mosaics."""
    if metric.name != "focus":
        return scene
    mask = torch.zeros_like(scene.mask)
    mask[:, : mask.shape[1] // 2, mask.shape[2] // 2 :] = True
    return dataclasses.replace(scene, mask=mask)


def both(metric: Metric, scene: Scene, row: Evidence) -> tuple[Tensor, Tensor]:
    """Our scores and Quantus', where there are both."""
    found = original(metric)
    assert found is not None
    ours, theirs = metric.score(scene, {"row": row})["row"].double(), found.scores(metric, scene, row)
    there = ours.isfinite() & theirs.isfinite()
    return ours[there], theirs[there]


@pytest.fixture(scope="module", params=["grey", "rgb", *SLOW])
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]()


@pytest.fixture(scope="module")
def row(world: World) -> Evidence:
    return row_of(world, signed_maps(world))


@pytest.mark.parametrize("spec", SPECS)
def test_a_score_is_that_of_its_original(spec: str, world: World, row: Evidence) -> None:
    metric = registry.metric(spec)
    scene = scene_for(metric, world.scene)
    if metric.name == "sufficiency":
        pytest.skip("has a test of its own below, with maps of which some are alike")
    try:
        ours, theirs = both(metric, scene, row)
    except Unsupported:
        assert metric.name == "infidelity"
        assert scene.x.shape[-1] % -(-scene.x.shape[-1] // metric.parameters.side)  # type: ignore[attr-defined]
        return
    assert len(ours)
    assert float(deviations(metric, ours, theirs).max()) < 1e-6


def test_sufficiency_is_that_of_its_original_where_maps_are_alike() -> None:
    world = image_world(count=30)
    smooth = evidence(torch.nn.functional.avg_pool2d(signed_maps(world)[:, None], 9, 1, 4)[:, 0])
    ours, theirs = both(Sufficiency(), world.scene, smooth)
    assert len(ours) > 10
    assert float((ours - theirs).abs().max()) < 1e-6
    assert float(ours.std()) > 0.01


def test_the_scores_that_are_compared_differ_from_sample_to_sample() -> None:
    """A constant would agree with a constant."""
    world = image_world(count=12)
    row = row_of(world, signed_maps(world))
    same = []
    for spec in SPECS:
        metric = registry.metric(spec)
        ours, _ = both(metric, scene_for(metric, world.scene), row)
        same += [spec] * (len(ours) > 2 and float(ours.std()) < 1e-4)
    assert set(same) <= {"pointing-game", "road-lerf", "sufficiency"}  # shares of a few events


def test_twenty_nine_metrics_claim_an_original_and_all_are_of_the_room() -> None:
    assert set(ORIGINALS) <= set(metrics_of_the_room())
    assert len(ORIGINALS) == 29
    assert all(hasattr(quantus, each.name) for each in ORIGINALS.values())
    assert original(registry.metric("decision-auc")) is None


@pytest.mark.parametrize("spec", ["pixel-flipping", "road", "faithfulness-estimate", "monotonicity-correlation"])
def test_equal_pixels_are_taken_in_the_same_order_by_both(spec: str) -> None:
    world = image_world(count=6)
    tied = (signed_maps(world) * 2).round()
    assert (tied == 0).double().mean() > 0.3
    ours, theirs = both(registry.metric(spec), world.scene, evidence(tied + torch.eye(24)))
    assert len(ours) == 6
    assert float((ours - theirs).abs().max()) < 1e-9


def test_untied_values_keep_their_order_and_follow_ours_among_equals() -> None:
    scene = image_world(count=5).scene
    values = torch.randn(5, 24, 24, generator=torch.Generator().manual_seed(1)).round(decimals=1) * 1e-3
    apart = untied(scene, values).flatten(1)
    assert torch.equal(apart.argsort(1, descending=True).argsort(1), descending(scene, values.flatten(1)))
    assert float((apart - values.flatten(1).double()).abs().max()) < 1e-12
    assert all(len(one.unique()) == 576 for one in apart)


@pytest.mark.parametrize("metric", [PointingGame, TopKIntersection, RelevanceRankAccuracy])
def test_where_a_tie_decides_localisation_there_is_no_number_of_quantus(metric: type[Metric]) -> None:
    world = image_world(count=4)
    maps = torch.zeros(4, 24, 24)
    maps[:, 3:9, 3:9] = 1  # partly in the mask
    maps[3] = torch.rand(24, 24, generator=torch.Generator().manual_seed(0))
    theirs = ORIGINALS[metric].scores(metric(), world.scene, evidence(maps))
    if metric is RelevanceRankAccuracy:  # zeros tie for what is left of the mask's size, some in it
        assert theirs.isnan().tolist() == [True, True, True, False]
    assert theirs[:3].isnan().all()
    assert theirs[3].isfinite()


def test_auc_gives_a_tie_one_half_in_both() -> None:
    world = image_world(count=8)
    maps = evidence((signed_maps(world) * 3).round().clamp(min=0) + torch.eye(24))
    ours, theirs = both(AUC(), world.scene, maps)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("metric", [RegionPerturbation(), IROF(IROF.Parameters(segments=9))])
def test_where_patches_tie_there_is_no_number_of_quantus(metric: Metric) -> None:
    world = image_world(count=3)
    maps = signed_maps(world)
    maps[1] = 0
    maps[1, 0, 0] = 1.0
    theirs = ORIGINALS[type(metric)].scores(metric, world.scene, evidence(maps))
    assert theirs.isnan().tolist() == [False, True, False]


def test_sufficiency_has_no_original_where_a_pixel_never_varies() -> None:
    world = image_world(count=12)
    maps = signed_maps(world)
    maps[:, 0, 0] = 0
    with pytest.raises(Unsupported, match="the same in all maps"):
        ORIGINALS[Sufficiency].scores(Sufficiency(), world.scene, evidence(maps))


def test_a_metric_that_goes_wrong_is_seen_by_its_original(monkeypatch: pytest.MonkeyPatch) -> None:
    world = image_world(count=6)
    row = row_of(world, signed_maps(world))
    for metric in (PixelFlipping(), RegionPerturbation()):
        with monkeypatch.context() as patch:
            patch.setattr(faithfulness_curves, "descending", lambda scene, values: descending(scene, -values))
            ours = metric.score(dataclasses.replace(world.scene), {"row": row})["row"]
        theirs = ORIGINALS[type(metric)].scores(metric, world.scene, row)
        assert float((ours - theirs).abs().max()) > 0.01


def test_quantus_leaves_generators_numpy_and_the_network_as_they_were() -> None:
    world = image_world(count=4)
    row = row_of(world, signed_maps(world))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    weights = {name: each.clone() for name, each in world.model.state_dict().items()}
    maps, had = row.map.clone(), hasattr(np, "trapz")
    choice, check = np.random.choice, quantus.helpers.asserts.assert_features_in_step
    for metric in ORIGINALS:
        ORIGINALS[metric].scores(metric(), scene_for(metric(), world.scene), row)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert all(torch.equal(each, weights[name]) for name, each in world.model.state_dict().items())
    assert torch.equal(row.map, maps)
    assert hasattr(np, "trapz") == had
    assert np.random.choice is choice or np.random.choice == choice
    assert quantus.helpers.asserts.assert_features_in_step is check


def test_the_table_is_one_for_the_tests_and_for_verify() -> None:
    from mibench.run import verification

    assert verification.original is originals.original
    assert localisation.Focus in ORIGINALS


def test_deviations_are_shares_of_the_range_or_of_the_score() -> None:
    ours, theirs = torch.tensor([0.5, 1.0]).double(), torch.tensor([0.5, 0.9]).double()
    assert deviations(PointingGame(), ours, theirs).tolist() == pytest.approx([0, 0.1])
    assert deviations(MonotonicityCorrelation(), ours, theirs).tolist() == pytest.approx([0, 0.05])
    unbounded: Any = registry.metric("complexity")
    assert deviations(unbounded, 10 * ours, 10 * theirs).tolist() == pytest.approx([0, 0.1])
