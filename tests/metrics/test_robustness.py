"""The robustness family equals Quantus when Quantus is given our perturbations and our explanations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mibench.metrics.robustness import (
    LocalLipschitz,
    MaxSensitivity,
    RelativeInputStability,
    RelativeOutputStability,
    Robustness,
)
from mibench.network.noise import RADIUS, perturbed
from mibench.plugins.contract import PERTURBED
from tests.metric_worlds import World, evidence, image_world, signed_maps

TWINS = {
    "MaxSensitivity": MaxSensitivity,
    "LocalLipschitzEstimate": LocalLipschitz,
    "RelativeInputStability": RelativeInputStability,
    "RelativeOutputStability": RelativeOutputStability,
}
NAMES = tuple(f"{PERTURBED}:{number}" for number in (1, 2, 3))


def inputs(world: World, name: str) -> Tensor:
    return perturbed(world.scene.x, world.scene.seeds, name)


def explained(world: World, name: str) -> Tensor:
    """Input times gradient at perturbed inputs, for the class of the plain ones."""
    x = inputs(world, name).requires_grad_()
    world.model(x).gather(1, world.scene.target[:, None]).sum().backward()
    return (x * x.grad).detach().sum(1).float()


class Replay:
    """Quantus' perturbation and explanation: hands out ours, one after the other."""

    def __init__(self, world: World) -> None:
        self.x = [inputs(world, name).flatten(1).double().numpy() for name in NAMES]
        self.maps = [evidence(explained(world, name)).map[:, None].double().numpy() for name in NAMES]
        self.at = -1

    def perturb(self, arr: Any, **_: Any) -> Any:
        self.at += 1
        return self.x[self.at].astype(arr.dtype)

    def explain(self, **_: Any) -> Any:
        return self.maps[self.at].copy()


def test_perturbations_are_small_and_each_sample_and_variant_has_its_own() -> None:
    scene = image_world().scene
    first, second = (perturbed(scene.x, scene.seeds, name) - scene.x for name in NAMES[:2])
    assert 0.99 * RADIUS < first.abs().max() <= RADIUS + 1e-6
    assert abs(float(first.mean())) < 0.01
    assert not torch.allclose(first, second)
    assert not torch.allclose(first[0], first[1])
    alone = perturbed(scene.x[2:3], scene.seeds[2:3], NAMES[0])
    assert torch.equal(alone[0], perturbed(scene.x, scene.seeds, NAMES[0])[2])


@pytest.mark.parametrize("metric", TWINS.values(), ids=TWINS)
def test_samples_explained_again_are_scored_and_still_maps_are_perfect(
    metric: type[Robustness],
) -> None:
    world = image_world()
    maps = signed_maps(world)
    row = evidence(maps, variants=dict.fromkeys(NAMES, maps[:2]))
    assert metric().score(world.scene, {"row": row})["row"].tolist() == pytest.approx(
        [0, 0, *3 * [np.nan]], nan_ok=True
    )


@pytest.mark.parametrize("metric", [RelativeInputStability, RelativeOutputStability])
def test_no_score_where_noise_changes_the_class(metric: type[Robustness]) -> None:
    world = image_world()

    def fickle(x: Tensor) -> Tensor:
        logits = world.scene.predict(x).clone()
        if not torch.equal(x, world.scene.x):
            logits[1] = logits[1].flip(0) if logits[1].argmax() != logits[1].flip(0).argmax() else -logits[1]
        return logits

    row = evidence(signed_maps(world), variants={name: explained(world, name) for name in NAMES})
    scores = metric().score(dataclasses.replace(world.scene, predict=fickle), {"row": row})["row"]
    assert scores.isnan().tolist() == [False, True, False, False, False]
