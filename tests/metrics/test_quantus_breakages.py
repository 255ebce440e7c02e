"""What is wrong in Quantus 0.6.0 and worked around in metrics/: a test here fails when its reason is gone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mibench.plugins.contract import Evidence, MapSpec
from tests import needs
from tests.metric_worlds import World, evidence, image_world, quantus_score, signed_maps

quantus = needs.quantus()


def with_flat_first(world: World, value: float) -> Evidence:
    """A row whose first map has one value everywhere; that all maps are zero Quantus would notice."""
    maps = evidence(signed_maps(world)).map
    maps[0] = value
    return Evidence(maps, maps, MapSpec("map"))


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """What Quantus does to the global generators is undone."""
    before = torch.get_rng_state(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])


@pytest.fixture
def rgb() -> Any:
    return image_world(channels=3)


@pytest.mark.skipif(hasattr(np, "trapz"), reason="this numpy still has trapz")
def test_areas_need_a_function_that_numpy_has_dropped() -> None:
    with pytest.raises(AttributeError, match="trapz"):
        quantus.helpers.utils.calculate_auc(np.ones(3))


def test_irof_refuses_colour_images_with_one_channel_maps(rgb: Any) -> None:
    with pytest.raises(AssertionError, match="shape of arr must be the same as the mask shape"):
        quantus_score("IROF", rgb, evidence(signed_maps(rgb)))


def test_road_fails_on_colour_images_with_one_channel_maps(rgb: Any) -> None:
    with pytest.raises(IndexError):
        quantus_score("ROAD", rgb, evidence(signed_maps(rgb)), percentages=[10])


def test_steps_must_divide_the_image() -> None:
    world = image_world()
    with pytest.raises(AssertionError, match="features_in_step"):
        quantus_score("PixelFlipping", world, evidence(signed_maps(world)), features_in_step=25)


def test_the_channels_of_a_pixel_count_as_features_of_their_own(rgb: Any) -> None:
    curves = quantus_score("PixelFlipping", rgb, evidence(signed_maps(rgb)), features_in_step=24)
    assert len(curves[0]) == 3 * 24


def test_infidelity_patches_must_divide_the_image() -> None:
    world = image_world()
    with pytest.raises(ValueError, match="reshape"):
        quantus_score("Infidelity", world, evidence(signed_maps(world)), perturb_patch_sizes=[5], n_perturb_samples=1)


def test_the_gates_reseed_the_global_generators() -> None:
    world = image_world()
    maps = evidence(signed_maps(world))

    def explain(inputs: np.ndarray, **_: Any) -> np.ndarray:
        return inputs

    with generators_kept():
        after = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)
            quantus_score("MPRT", world, maps, call={"explain_func": explain})
            quantus_score("RandomLogit", world, maps, num_classes=5, call={"explain_func": explain})
            after.append((torch.initial_seed(), np.random.rand()))
    assert after[0] == after[1]


def test_the_device_is_pushed_into_the_explainer() -> None:
    world, seen = image_world(), {}

    def explain(inputs: np.ndarray, **rest: Any) -> np.ndarray:
        seen.update(rest)
        return inputs

    quantus.RandomLogit(num_classes=5, disable_warnings=True)(
        model=world.model,
        x_batch=world.scene.x.numpy(),
        y_batch=world.scene.target.numpy(),
        a_batch=world.scene.x.numpy(),
        channel_first=True,
        device="cpu",
        explain_func=explain,
    )
    assert seen["device"] == "cpu"


@pytest.mark.parametrize("name", ["Sparseness", "Complexity"])
def test_complexity_scores_write_into_the_maps_they_are_given(name: str) -> None:
    world = image_world()
    maps = signed_maps(world).abs()[:, None].double().numpy()
    before = maps.copy()
    getattr(quantus, name)(normalise=False, abs=False, disable_warnings=True)(
        model=world.model,
        x_batch=world.scene.x.numpy(),
        y_batch=world.scene.target.numpy(),
        a_batch=maps,
        channel_first=True,
    )
    assert not np.array_equal(maps, before)


def test_normalising_one_image_depends_on_the_others() -> None:
    maps = np.array([[1.0, 2.0], [3.0, np.nan]])
    assert quantus.functions.normalise_func.normalise_by_max(maps[:1]).max() == 1
    assert np.isnan(quantus.functions.normalise_func.normalise_by_max(maps)[0]).all()


def test_pointing_at_an_empty_mask_is_a_hit() -> None:
    world = image_world()
    world.scene.mask[0] = False
    assert quantus_score("PointingGame", world, evidence(signed_maps(world)))[0]


@pytest.mark.parametrize("value", [0.0, 0.5], ids=["zero", "constant"])
def test_pointing_with_a_map_that_points_nowhere_is_a_hit(value: float) -> None:
    world = image_world()
    assert quantus_score("PointingGame", world, with_flat_first(world, value))[0]


def test_the_order_of_the_pixels_decides_the_top_of_a_constant_map() -> None:
    world = image_world()
    for rows, share in ((slice(12), 1.0), (slice(12, 24), 0.0)):
        world.scene.mask[0] = False
        world.scene.mask[0, rows] = True
        assert quantus_score("TopKIntersection", world, with_flat_first(world, 0.5), k=24)[0] == share


def test_monotonicity_replaces_the_baseline_by_itself_and_is_1_for_any_map() -> None:
    world = image_world()
    maps = signed_maps(world)
    for each in (maps, -maps, maps.flip(2)):
        assert all(quantus_score("Monotonicity", world, evidence(each), features_in_step=24, abs=True))


def test_selectivity_is_the_unsubtracted_curve_of_region_perturbation() -> None:
    world = image_world()
    maps, patches = evidence(signed_maps(world)), {"patch_size": 4, "perturb_baseline": 0.3}
    before = world.model(world.scene.x).softmax(1).gather(1, world.scene.target[:, None]).detach().numpy()
    curves = np.array(quantus_score("Selectivity", world, maps, **patches))
    falls = np.array(quantus_score("RegionPerturbation", world, maps, regions_evaluation=36, order="morf", **patches))
    np.testing.assert_allclose(before - curves, falls, atol=1e-6)


def test_non_sensitivity_crashes_unless_pixels_go_one_by_one() -> None:
    world = image_world()
    with pytest.raises(ValueError, match="broadcast"):
        quantus_score("NonSensitivity", world, evidence(signed_maps(world)), abs=True, features_in_step=24)


def test_smooth_mprt_asks_another_explainer_than_it_is_given() -> None:
    world, asked = image_world(count=2), []

    def explain(inputs: np.ndarray, **_: Any) -> np.ndarray:
        asked.append(len(inputs))
        return inputs

    with generators_kept():
        quantus_score(
            "SmoothMPRT",
            world,
            evidence(signed_maps(world)),
            nr_samples=2,
            skip_layers=True,
            call={"explain_func": explain, "explain_func_kwargs": {"method": "Saliency"}},
        )
    assert not asked


def test_continuity_knows_no_nan_on_numpy_2() -> None:
    world = image_world()
    with pytest.raises(AttributeError, match="NaN"):
        quantus_score(
            "Continuity",
            world,
            evidence(signed_maps(world)),
            nr_steps=4,
            return_nan_when_prediction_changes=True,
            call={"explain_func": lambda inputs, **_: inputs},
        )


def test_effective_complexity_counts_all_pixels_of_a_map_without_zeros() -> None:
    world = image_world()
    maps = signed_maps(world)
    for each in (maps, maps.abs().square(), torch.rand(5, 24, 24, generator=torch.Generator().manual_seed(0))):
        counts = np.array(quantus_score("EffectiveComplexity", world, evidence(each), abs=True))
        assert (counts > 0.95 * 576).all()


def test_completeness_wants_sums_of_floating_point_numbers_to_be_equal() -> None:
    world = image_world()
    x, target = world.scene.x, world.scene.target[:, None]
    falls = (world.model(x) - world.model(torch.zeros_like(x))).gather(1, target).detach()
    maps = torch.rand(5, 24, 24, generator=torch.Generator().manual_seed(0)).double()
    complete = (maps * (falls / maps.flatten(1).sum(1, keepdim=True))[..., None]).float()  # up to rounding
    row = dataclasses.replace(evidence(maps), map=complete)
    assert not any(quantus_score("Completeness", world, row, softmax=False, perturb_baseline=0.0))


def test_evaluate_loses_all_scores_with_one_metric_that_fails() -> None:
    world = image_world()
    maps = evidence(signed_maps(world)).map[:, None].numpy()
    metrics = {"sound": quantus.Sparseness(disable_warnings=True), "failing": quantus.PointingGame()}  # wants masks
    with pytest.raises(KeyError):
        quantus.evaluate(
            metrics, {"maps": maps}, world.model, world.scene.x.numpy(), world.scene.target.numpy(), call_kwargs=None
        )


def test_evaluate_hands_the_settings_of_one_explainer_to_the_next() -> None:
    world, seen = image_world(), {}
    maps = evidence(signed_maps(world)).map[:, None].double().numpy()

    def metric(explain_func_kwargs: dict[str, Any], **_: Any) -> float:
        seen[explain_func_kwargs["method"]] = explain_func_kwargs
        return 0.0

    quantus.evaluate(
        {"metric": metric},
        {"Saliency": {"xai_lib": "captum", "abs": True}, "saved": maps},
        torch.nn.Sequential(world.model),
        world.scene.x.numpy(),
        world.scene.target.numpy(),
    )
    assert seen["saved"]["abs"], "settings of Saliency"


def test_the_irof_of_an_image_depends_on_the_segments_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = np.arange(576).reshape(24, 24) // 288
    cuts = iter([halves, halves, halves, np.arange(576).reshape(24, 24) // 24])
    monkeypatch.setattr(quantus.helpers.utils, "get_superpixel_segments", lambda **_: next(cuts))
    world = image_world(count=2)
    maps = evidence(signed_maps(world))
    with_an_alike, with_a_finer_one = (quantus_score("IROF", world, maps, perturb_baseline=0.0) for _ in range(2))
    assert abs(with_an_alike[0] - with_a_finer_one[0]) > 1e-3


def test_road_forgets_all_batches_but_the_first() -> None:
    world = image_world(count=12)
    maps = evidence(signed_maps(world))
    whole, first = (
        quantus_score("ROAD", world, maps, percentages=[30, 60, 90], noise=0.0, call={"batch_size": size})
        for size in (12, 2)
    )
    assert whole != first


def test_region_perturbation_is_declared_the_wrong_way_round() -> None:
    assert quantus.RegionPerturbation.score_direction.value == "lower"


def test_sufficiency_is_nothing_for_all_where_one_pixel_never_varies() -> None:
    world = image_world(count=30)
    maps = signed_maps(world)
    maps[:, 0, 0] = 0
    assert not np.any(quantus_score("Sufficiency", world, evidence(maps), abs=True, threshold=1.0))


def test_sensitivity_n_is_one_number_a_step_and_none_a_sample() -> None:
    world = image_world()
    scores = quantus_score("SensitivityN", world, evidence(signed_maps(world)), features_in_step=24)
    assert len(scores) == int(0.8 * 24)
