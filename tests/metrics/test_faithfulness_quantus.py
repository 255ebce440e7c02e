"""The faithfulness scores are Quantus' numbers, to 1e-6, wherever Quantus gives a number."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from skimage.segmentation import slic
from torch import Tensor

from mibench.metrics.faithfulness_agreement import (
    FaithfulnessCorrelation,
    FaithfulnessEstimate,
    Infidelity,
    MonotonicityCorrelation,
    SensitivityN,
    Sufficiency,
    random_sets,
)
from mibench.metrics.faithfulness_curves import IROF, ROAD, PixelFlipping, RegionPerturbation, noises, segments
from mibench.metrics.imputation import impute
from tests import needs
from tests.metric_worlds import digit_world, evidence, image_world, photograph_world, quantus_score, signed_maps

quantus = needs.quantus()

BOTH_OUTPUTS = pytest.mark.parametrize("output", ["probability", "logit"])


WORLDS = {
    "grey": image_world,
    "rgb": partial(image_world, channels=3),
    "digits": digit_world,  # real ones, and a network that learned them
    "lite": photograph_world,
}


@pytest.fixture(params=["grey", "rgb", *(pytest.param(name, marks=pytest.mark.slow) for name in ("digits", "lite"))])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "lite":  # no step of whole RGB pixels divides the pixels of an image of 224 on a side
        monkeypatch.setattr(quantus.helpers.asserts, "assert_features_in_step", lambda **_: None)
    return WORLDS[request.param]()


def baseline_of(world: Any, name: str = "mean") -> Callable[..., np.ndarray]:
    """A Quantus perturbation that puts our baseline, pixel by pixel, where the indices or the mask say."""
    values = world.scene.baselines[name].numpy()

    def replace(arr: np.ndarray, indices: Any = None, mask: Any = None, **_: Any) -> np.ndarray:
        if mask is not None:
            return np.where(mask, values, arr)
        changed, line = arr.copy(), np.arange(len(arr))[:, None]
        changed[line, indices] = values.reshape(len(arr), -1)[line, indices]
        return changed

    return replace


def ours(metric: Any, world: Any, row: Any, **parameters: Any) -> np.ndarray:
    return metric(metric.Parameters(**parameters)).score(world.scene, {"row": row})["row"].numpy()


def same(first: np.ndarray, second: Any) -> None:
    np.testing.assert_allclose(first, np.array(second, dtype=float), atol=1e-6, rtol=0)
    assert np.std(first) > 1e-4, "all scores are alike: the comparison says nothing"


def size(world: Any) -> int:
    """The pixels of an image."""
    return int(world.scene.x[0, 0].numel())


def steps_of(world: Any) -> int:
    """Steps that divide an image of 24, 28 or 224 pixels on a side."""
    return 24 if size(world) == 24**2 else 28


def features(world: Any, pixels: int) -> int:
    """Quantus counts every channel of a pixel as a feature."""
    return pixels * world.scene.x.shape[1]


@pytest.mark.parametrize("part", [1, 2])
def test_pixel_flipping_is_quantus_area_over_its_length(world: Any, part: int) -> None:
    steps = steps_of(world) // part
    maps = evidence(signed_maps(world))
    areas = quantus_score(
        "PixelFlipping",
        world,
        maps,
        features_in_step=features(world, size(world) // steps),
        perturb_func=baseline_of(world),
        return_auc_per_sample=True,
    )
    same(ours(PixelFlipping, world, maps, steps=steps), np.array(areas) / (steps - 1))


def test_steps_that_do_not_divide_the_pixels_are_what_quantus_refuses(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantus.helpers.asserts, "assert_features_in_step", lambda **_: None)
    maps = evidence(signed_maps(world))
    areas = quantus_score(
        "PixelFlipping",
        world,
        maps,
        features_in_step=features(world, -(-size(world) // 5)),
        perturb_func=baseline_of(world),
        return_auc_per_sample=True,
    )
    same(ours(PixelFlipping, world, maps, steps=5), np.array(areas) / 4)


@pytest.mark.parametrize("side", [4, 5], ids=["divides", "pads"])
def test_region_perturbation_is_quantus_curve_averaged_with_its_start(world: Any, side: int) -> None:
    patch = -(-world.scene.x.shape[-1] // side)
    world.scene.baselines["mean"].fill_(0.3)
    maps = evidence(signed_maps(world))
    curves = quantus_score(
        "RegionPerturbation", world, maps, patch_size=patch, regions_evaluation=10, order="morf", perturb_baseline=0.3
    )
    same(ours(RegionPerturbation, world, maps, side=side, regions=10), np.sum(curves, axis=1) / 11)


@pytest.mark.parametrize(("number", "smoothing"), [(36, 1.0), (100, 0.0)], ids=["ours", "quantus"])
def test_irof_is_quantus_area_over_the_number_of_segments(
    world: Any, monkeypatch: pytest.MonkeyPatch, number: int, smoothing: float
) -> None:
    monkeypatch.setattr(quantus.helpers.utils, "slic", partial(slic, n_segments=number, sigma=smoothing))
    maps = evidence(signed_maps(world))
    areas = quantus_score(
        "IROF", world, maps, segmentation_method="slic", perturb_func=_one_by_one(world), call={"batch_size": 1}
    )
    count = segments(world.scene, number, smoothing).amax(1).numpy() + 1
    same(ours(IROF, world, maps, segments=number, smoothing=smoothing), np.array(areas) / count)


def _one_by_one(world: Any) -> Callable[..., np.ndarray]:
    """Quantus' IROF with one image at a time: a new sample begins where the array is an untouched sample."""
    images, values = world.scene.x.numpy(), world.scene.baselines["mean"].numpy()
    state = {"sample": -1}

    def replace(arr: np.ndarray, mask: np.ndarray, **_: Any) -> np.ndarray:
        following = state["sample"] + 1
        if following < len(images) and np.array_equal(arr[0], images[following]):
            state["sample"] = following
        return np.where(mask, values[state["sample"]][None], arr)

    return replace


def test_road_keeps_the_decision_where_quantus_does() -> None:
    world = image_world(count=12)
    maps, noise = evidence(signed_maps(world)), 0.5 * noises(world.scene).numpy()
    plain = quantus.functions.perturb_func.noisy_linear_imputation
    images = world.scene.x.numpy()

    def imputed(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        sample = next(index for index, image in enumerate(images) if np.array_equal(image, arr))
        filled = plain(arr, indices, noise=0.0)
        filled.reshape(len(arr), -1)[:, indices] += noise[sample].reshape(len(arr), -1)[:, indices]
        return filled

    kept = quantus_score("ROAD", world, maps, percentages=[10, 30, 50, 70, 90], perturb_func=imputed)
    scores = ours(ROAD, world, maps, noise=0.5)
    np.testing.assert_allclose(scores.mean(), np.mean(list(kept.values())), atol=1e-6)
    assert 0.1 < scores.mean() < 0.95


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputation_is_quantus_imputation(share: float) -> None:
    x = torch.randn(3, 1, 13, 17, generator=torch.Generator().manual_seed(0))
    removed = torch.rand(3, 13, 17, generator=torch.Generator().manual_seed(1)) < share
    for sample in range(3):
        indices = np.flatnonzero(removed[sample].numpy())
        theirs = quantus.functions.perturb_func.noisy_linear_imputation(x[sample].double().numpy(), indices, noise=0.0)
        np.testing.assert_allclose(impute(x, removed)[sample].numpy(), theirs, atol=1e-6)


@BOTH_OUTPUTS
def test_faithfulness_estimate_is_quantus(world: Any, output: str) -> None:
    maps = evidence(signed_maps(world))
    theirs = quantus_score(
        "FaithfulnessEstimate",
        world,
        maps,
        features_in_step=features(world, size(world) // steps_of(world)),
        perturb_func=baseline_of(world),
        softmax=output == "probability",
    )
    same(ours(FaithfulnessEstimate, world, maps, steps=steps_of(world), output=output), theirs)


@BOTH_OUTPUTS
def test_monotonicity_correlation_is_quantus(world: Any, output: str) -> None:
    maps = evidence(signed_maps(world))
    theirs = quantus_score(
        "MonotonicityCorrelation",
        world,
        maps,
        abs=True,
        nr_samples=1,
        eps=0.0,
        features_in_step=features(world, size(world) // steps_of(world)),
        perturb_func=baseline_of(world),
        softmax=output == "probability",
    )
    same(ours(MonotonicityCorrelation, world, maps, steps=steps_of(world), output=output), theirs)


def quantus_on_our_sets(world: Any, maps: Any, patch: Any, share: float, runs: int) -> np.ndarray:
    """FaithfulnessCorrelation as Quantus computes it, with its draws replaced by ours."""
    pixels, channels = size(world), world.scene.x.shape[1]
    sets = random_sets(world.scene.seeds, pixels, runs, share)  # (B, R, F)
    draws = iter(
        np.concatenate([np.flatnonzero(sets[sample, run]) + channel * pixels for channel in range(channels)])
        for run in range(runs)
        for sample in range(len(sets))
    )
    patch.setattr(np.random, "choice", lambda *_, **__: next(draws))
    return np.array(
        quantus_score(
            "FaithfulnessCorrelation",
            world,
            maps,
            nr_runs=runs,
            subset_size=round(share * pixels),
            perturb_func=baseline_of(world),
            softmax=False,
        )
    )


def test_faithfulness_correlation_is_quantus_on_the_same_sets(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = evidence(signed_maps(world))
    theirs = quantus_on_our_sets(world, maps, monkeypatch, share=0.2, runs=20)
    same(ours(FaithfulnessCorrelation, world, maps, share=0.2, runs=20), theirs)


def test_sensitivity_n_is_the_mean_of_quantus_faithfulness_correlations(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = evidence(signed_maps(world))
    theirs = [quantus_on_our_sets(world, maps, monkeypatch, share, runs=10) for share in (0.4, 0.8)]
    same(ours(SensitivityN, world, maps, sizes=2, runs=10), np.mean(theirs, axis=0))


@BOTH_OUTPUTS
def test_infidelity_is_quantus(world: Any, output: str) -> None:
    maps = evidence(signed_maps(world))
    theirs = quantus_score(
        "Infidelity",
        world,
        maps,
        perturb_patch_sizes=[world.scene.x.shape[-1] // 4],
        n_perturb_samples=1,
        perturb_func=baseline_of(world),
        softmax=output == "probability",
    )
    mine = ours(Infidelity, world, maps, side=4, output=output)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)  # sums of hundreds of single-precision differences


def test_sufficiency_is_quantus_where_a_similar_map_exists() -> None:
    world = image_world(count=30)
    maps = evidence(torch.nn.functional.avg_pool2d(signed_maps(world)[:, None], 9, 1, 4)[:, 0])
    theirs = quantus_score("Sufficiency", world, maps, abs=True, threshold=0.6, normalise_func=_over_the_largest)
    mine = ours(Sufficiency, world, maps)
    scored = ~np.isnan(mine)
    assert scored.sum() > 10
    same(mine[scored], np.array(theirs)[scored])
    assert not np.array(theirs)[~scored].any(), "Quantus calls a map without a similar one insufficient"


def _over_the_largest(distances: np.ndarray) -> np.ndarray:
    return distances / np.abs(distances).max()


def test_rgb_road_follows_the_paper_read_literally() -> None:
    """Each removed pixel the weighted mean of its neighbours, all equations solved at once, channel by channel."""
    world = image_world(count=6, channels=3, side=12)
    scene, maps = world.scene, evidence(signed_maps(world))
    kept = np.zeros((6, 5))
    for sample, x in enumerate(scene.x.double()):
        order = maps.map[sample].flatten().argsort(descending=True)
        for step, share in enumerate([0.1, 0.3, 0.5, 0.7, 0.9]):
            removed = order[: int(share * 144)]
            filled = _solved(x, removed)
            filled.flatten(1)[:, removed] += 0.3 * noises(scene)[sample].flatten(1)[:, removed].double()
            kept[sample, step] = world.model(filled[None].float()).argmax() == scene.target[sample]
    same(ours(ROAD, world, maps, noise=0.3), kept.mean(1))


def _solved(x: Tensor, removed: Tensor) -> Tensor:
    side, filled = x.shape[-1], x.clone()
    place = {int(pixel): index for index, pixel in enumerate(removed)}
    system, right = torch.zeros(len(place), len(place)).double(), torch.zeros(len(place), len(x)).double()
    for pixel, own in place.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                y, z = pixel // side + down, pixel % side + across
                if (down or across) and 0 <= y < side and 0 <= z < side:
                    weight = 1 / 12 if down and across else 1 / 6
                    system[own, own] += weight
                    if y * side + z in place:
                        system[own, place[y * side + z]] -= weight
                    else:
                        right[own] += weight * x[:, y, z]
    filled.flatten(1)[:, removed] = torch.linalg.solve(system, right).T
    return filled


def test_rgb_irof_follows_the_paper_read_literally() -> None:
    """Segments by mean attribution, removed one after the other, the curve over the unperturbed probability."""
    world = image_world(count=4, channels=3)
    scene, maps = world.scene, evidence(signed_maps(world))
    scores = []
    for x, base, values, target in zip(scene.x, scene.baselines["mean"], maps.map, scene.target, strict=True):
        found = slic(x.permute(1, 2, 0).double().numpy(), n_segments=36, sigma=1, start_label=0)
        order = sorted(np.unique(found), key=lambda label: -values.numpy()[found == label].mean(dtype=float))
        removed, curve = x.clone(), []
        for label in order:
            removed[:, torch.from_numpy(found == label)] = base[:, torch.from_numpy(found == label)]
            curve.append(world.model(removed[None]).softmax(1)[0, target] / world.model(x[None]).softmax(1)[0, target])
        scores.append((len(order) - np.trapezoid(curve)) / len(order))
    same(ours(IROF, world, maps), scores)
