"""The K-S test of table 1: scipy's numbers, the paper's p-values and what they really say."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy.stats import ks_2samp, kstwobign
from torch import nn

from mibench.metrics.agreement import KSProbability, KSStatistic, information
from mibench.plugins.contract import Scene, Unsupported
from tests.metric_worlds import evidence, frozen, image_world, make_world, table_world


def one_feature_decides(samples: int = 200) -> Scene:
    """Of six features only the third reaches the logits."""
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in model:
            layer.weight.normal_()
        model[0].weight[:, torch.arange(6) != 2] = 0.0
    x = torch.randn(samples, 6, generator=torch.Generator().manual_seed(1))
    return make_world(frozen(model), x, {"mean": torch.zeros_like(x)}).scene


def test_the_papers_three_p_values_are_those_of_four_values_against_four() -> None:
    """So table 1 does not compare maps of digits, and its p at D = 1 rejects a common distribution."""
    root = math.sqrt(4 * 4 / (4 + 4))
    for statistic, p in ((1.0, 0.011), (0.75, 0.107), (0.25, 0.996)):
        assert kstwobign.sf((root + 0.12 + 0.11 / root) * statistic) == pytest.approx(p, abs=1e-3)
    disjoint = ks_2samp([1, 2, 3, 4], [5, 6, 7, 8])
    assert (disjoint.statistic, disjoint.pvalue) == (1.0, pytest.approx(2 / 70))


def test_the_information_is_at_the_feature_that_decides() -> None:
    scene = one_feature_decides()
    found = information(scene, 3)
    assert found.shape == (6, 2)
    assert found.argmax(0).tolist() == [2, 2]
    assert float(found[2].min()) > 2 > 0.2 > float(found[torch.arange(6) != 2].max())


def test_a_map_that_is_the_information_agrees_and_a_flat_one_does_not() -> None:
    scene = one_feature_decides()
    truth = information(scene, 3)[:, scene.target].T[:, None]  # (B, 1, F)
    rows = {"truth": evidence(truth), "flat": evidence(1 + 0.01 * torch.rand(truth.shape))}
    distance, p = KSStatistic().score(scene, rows), KSProbability().score(scene, rows)
    assert float(distance["truth"].max()) == 0
    assert float(distance["flat"].min()) > 0.5
    assert float(p["truth"].min()) == 1
    assert float(p["flat"].max()) < 0.5


def test_the_figures_are_scipys_on_the_cells_of_images() -> None:
    scene = image_world(count=8, channels=3, side=24).scene
    generator = torch.Generator().manual_seed(0)
    row = evidence(torch.randn(8, 24, 24, generator=generator))
    statistic = KSStatistic().score(scene, {"row": row})["row"]
    found = information(scene, 3)  # (576, C)
    assert found.shape[0] == 576
    for sample in range(8):
        expected = found[:, scene.target[sample]]
        test = ks_2samp(row.map[sample].abs().flatten().double(), expected / expected.max())
        assert float(statistic[sample]) == pytest.approx(test.statistic)


def test_a_shuffled_map_scores_the_same_so_the_test_says_nothing_of_places() -> None:
    scene = one_feature_decides(40)
    map_ = torch.rand(40, 1, 6, generator=torch.Generator().manual_seed(0))
    rows = {"map": evidence(map_), "shuffled": evidence(map_[..., torch.tensor([5, 3, 1, 0, 2, 4])])}
    scores = KSStatistic().score(scene, rows)
    assert torch.equal(scores["map"], scores["shuffled"])


def test_too_few_samples_are_no_test() -> None:
    scene = table_world().scene
    scene = dataclasses.replace(scene, x=scene.x[:3], target=scene.target[:3], label=scene.label[:3])
    with pytest.raises(Unsupported, match="more than 3 samples"):
        KSStatistic().score(scene, {"row": evidence(torch.rand(3, 1, scene.x.shape[1]))})
