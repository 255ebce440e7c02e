"""The sanity gates compare saved maps as Quantus compares fresh ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mibench.metrics.randomisation import MPRT, EfficientMPRT, RandomLogit, Repeatability, WeightRandomisation
from mibench.plugins import registry
from mibench.plugins.contract import FittedExplainer
from mibench.record.cells import TaskSpec
from mibench.run.explaining import centred, in_batches, sample_seeds, task_of
from tests import needs
from tests.metric_worlds import evidence, image_world, signed_maps

quantus = needs.quantus()


class Recorder:
    """An explanation function for Quantus that keeps the maps it gave."""

    def __init__(self) -> None:
        self.maps: list[torch.Tensor] = []

    def __call__(self, model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        x = torch.tensor(inputs, requires_grad=True)
        logits = model(x)
        logits.gather(1, torch.as_tensor(targets)[:, None]).sum().backward()
        maps = (x * x.grad).sum(1, keepdim=True).detach()
        self.maps.append(maps[:, 0])
        return (maps / maps.abs().amax((1, 2, 3), keepdim=True)).double().numpy()


def variants(metric: Any, first: torch.Tensor, second: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a check compares: its variant with the plain map, or with the variant that it declares."""
    return {metric.variant: second, **({metric.against: first} if metric.against else {})}


def score(metric: Any, world: Any, row: Any) -> np.ndarray:
    return metric().score(world.scene, {"row": row})["row"].numpy()


@pytest.mark.parametrize("metric", [RandomLogit, MPRT, WeightRandomisation, Repeatability])
def test_a_map_that_does_not_change_is_wholly_similar(metric: Any) -> None:
    world = image_world()
    maps = signed_maps(world)
    np.testing.assert_allclose(
        score(metric, world, evidence(maps, variants=variants(metric, maps, 3 * maps))), 1, atol=1e-6
    )


@pytest.mark.parametrize("metric", [RandomLogit, MPRT, WeightRandomisation, Repeatability, EfficientMPRT])
def test_only_samples_that_were_explained_again_are_scored(metric: Any) -> None:
    world = image_world(count=5)
    maps = signed_maps(world)
    again = maps[:3].flip(1)
    again[1, 0, 0] = torch.nan
    scores = score(metric, world, evidence(maps, variants=variants(metric, maps, again)))
    assert np.isnan(scores).tolist() == [False, True, False, True, True]
    assert np.isnan(score(metric, world, evidence(maps))).all(), "a row without a variant has no score"


def test_a_map_gone_flat_has_nothing_in_common_with_the_first() -> None:
    world = image_world()
    maps = signed_maps(world)
    assert score(MPRT, world, evidence(maps, variants={"random-weights": torch.zeros_like(maps)})).tolist() == [0.0] * 5


def noisy(maps: torch.Tensor, seed: int, share: float) -> torch.Tensor:
    """Maps with noise of a share of each one's largest value."""
    noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(seed))
    return maps + share * maps.abs().amax((1, 2), keepdim=True) * noise


def mean(first: torch.Tensor, second: torch.Tensor, metric: type[Any]) -> float:
    """A gate's mean over pairs of maps."""
    row = evidence(first, variants=variants(metric, first, second))
    return float(metric().score(image_world(count=len(first)).scene, {"row": row})["row"].mean())


def test_repeatabilitys_limit_passes_rounding_and_stops_new_draws() -> None:
    task = task_of(TaskSpec("planted", "planted", 8, 320), "cpu", "fp32")
    some = task.calibration[slice(16)]  # not what is scored
    target = task.predictions(some.x)
    for name in ("smoothgrad", "gradient-shap"):
        explainer = registry.explainer(name)
        if isinstance(explainer, FittedExplainer):
            explainer.restore(task.probe, explainer.learn(task.probe, task.calibration[slice(64, None)], 0))
        first, second = (
            in_batches(explainer, task.probe, some.x, target, sample_seeds(some.ids, seed), 0).maps["map"]
            for seed in (0, 1)
        )
        rounded = first * (1 + 1e-6 * torch.randn(first.shape, generator=torch.Generator().manual_seed(3)))
        assert mean(first, second, Repeatability) < Repeatability.limit <= mean(first, rounded, Repeatability), name


def test_no_limit_of_mprt_stops_a_map_that_trembles_on_dark_ground() -> None:
    still = torch.zeros(16, 24, 24)
    still[:, 8:16, 8:16] = 1 + torch.rand(16, 8, 8, generator=torch.Generator().manual_seed(0))
    assert mean(still, still, MPRT) == 1
    assert mean(noisy(still, 1, 1e-6), noisy(still, 2, 1e-6), MPRT) < 0.5, "the gate's limit was to be calibrated again"


def test_maps_of_a_logit_less_the_mean_react_to_the_class_and_noise_not() -> None:
    task = task_of(TaskSpec("planted", "planted", 8, 320), "cpu", "fp32")
    some = task.calibration[slice(16)]  # not what is scored
    target = task.predictions(some.x)
    other = (target + 1) % len(task.probe.classes)
    assert some.truth is not None
    still = {
        "edges": (some.x - some.x.roll((1, 1), (2, 3))).abs().sum(1),
        "intensities": some.x.abs().sum(1),
        "truth": task.probe.upsample(some.truth.information["decision"].float()),
    }

    for name in ("occlusion", "gradcam", "ig", "input-x-gradient", "saliency"):
        explainer = registry.explainer(name)
        if isinstance(explainer, FittedExplainer):
            explainer.restore(task.probe, explainer.learn(task.probe, task.calibration[slice(64, None)], 0))
        first, second = (
            in_batches(explainer, centred(task.probe), some.x, each, sample_seeds(some.ids, 0), 0).maps["map"]
            for each in (target, other)
        )
        assert mean(first, second, RandomLogit) < 0.8, name
    for name, maps in still.items():
        assert mean(noisy(maps, 1, 0.02), noisy(maps, 2, 0.02), RandomLogit) >= 0.9, name
    same = mean(still["edges"], still["edges"], WeightRandomisation)
    assert same >= WeightRandomisation.fails, "what never looks at the network cannot react"
