"""The faithfulness scores are Quantus' numbers, to 1e-6, wherever Quantus gives a number."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from skimage.segmentation import slic
from torch import Tensor

from mibench.metrics.faithfulness_curves import IROF, ROAD, noises
from mibench.metrics.imputation import impute
from tests import needs
from tests.metric_worlds import digit_world, evidence, image_world, photograph_world, signed_maps

quantus = needs.quantus()

BOTH_OUTPUTS = pytest.mark.parametrize("output", ["probability", "logit"])


WORLDS = {
    "grey": image_world,
    "rgb": partial(image_world, channels=3),
    "digits": digit_world,  # real ones, and a network that learned them
    "lite": photograph_world,
}


def ours(metric: Any, world: Any, row: Any, **parameters: Any) -> np.ndarray:
    return metric(metric.Parameters(**parameters)).score(world.scene, {"row": row})["row"].numpy()


def same(first: np.ndarray, second: Any) -> None:
    np.testing.assert_allclose(first, np.array(second, dtype=float), atol=1e-6, rtol=0)
    assert np.std(first) > 1e-4, "all scores are alike: the comparison says nothing"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputation_is_quantus_imputation(share: float) -> None:
    x = torch.randn(3, 1, 13, 17, generator=torch.Generator().manual_seed(0))
    removed = torch.rand(3, 13, 17, generator=torch.Generator().manual_seed(1)) < share
    for sample in range(3):
        indices = np.flatnonzero(removed[sample].numpy())
        theirs = quantus.functions.perturb_func.noisy_linear_imputation(x[sample].double().numpy(), indices, noise=0.0)
        np.testing.assert_allclose(impute(x, removed)[sample].numpy(), theirs, atol=1e-6)


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
