"""Each truth wins the scores of its claim and no empty or encoding map does; noise costs in every score."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch import Tensor, nn

from mibench.data.planted import CELL, Parameters, draw_plan, render, state_truth
from mibench.metrics import claims, information
from mibench.plugins.contract import CLAIMS, Claim, MapSpec, Metric, Scene
from mibench.record.cells import TaskSpec
from mibench.run import scoring
from tests.metric_worlds import frozen, make_world
from tests.metrics.ideal_maps import check_no_contradiction, check_noise_costs, ideal, mean, noise, row

VARIANTS = ("base", "xor", "shared", "partial", "graded", "suppressor", "copies", "and", "rdnxor")
COUNT = 24
TRAINED = ("planted-vit", "planted-residual")  # beside the plain network: what has reached its bar


class Flat(nn.Module):
    """Any network of six classes whose features have one place a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.AvgPool2d(CELL)
        self.body = nn.Flatten()
        self.head = nn.Linear(48, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.trunk(x)))  # type: ignore[no-any-return]


@functools.cache
def scene(variant: Any) -> Scene:
    """Planted images with the data's own truth."""
    parameters = Parameters(variant=variant)
    plan = draw_plan(parameters, "scoring", COUNT)
    x = render(parameters, plan)
    world = make_world(frozen(Flat()), x, {"mean": torch.zeros_like(x)})
    truth = state_truth(parameters, plan, x)
    return dataclasses.replace(world.scene, label=plan.label, target=plan.label, truth=truth)


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_contradicts_itself(variant: str, claim: Claim) -> None:
    check_no_contradiction(scene(variant), claim)


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_score_falls_as_the_truth_is_drowned_in_noise(variant: str, claim: Claim) -> None:
    check_noise_costs(scene(variant), claim)


NETWORKS = [
    *(pytest.param(f"planted[variant={variant}]", marks=pytest.mark.slow) for variant in VARIANTS[1:]),
    *(pytest.param(spec, marks=pytest.mark.slow) for spec in TRAINED),
]


@functools.cache
def explained(spec: str) -> Scene:
    """A trained network's images, with what the network makes of hidden cells as the truth."""
    return scoring.scene_of(TaskSpec(spec, "", samples=8, calibration=8), "cpu", "fp32", 0, 0)


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("spec", ["planted", *NETWORKS])
def test_no_networks_own_truth_contradicts_itself(spec: str, claim: Claim) -> None:
    here = explained(spec)
    assert here.truth is not None
    assert here.truth.network is not None
    check_no_contradiction(here, claim)


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("spec", ["planted", *NETWORKS])
def test_every_score_falls_as_a_networks_own_truth_is_drowned(spec: str, claim: Claim) -> None:
    check_noise_costs(explained(spec), claim)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000))
def test_tau_is_kendalls_tau_b(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values, truth = torch.randint(4, (2, 1, count), generator=generator).double()
    found, wanted = float(claims.tau(values, truth, 0.0)), kendalltau(values[0], truth[0]).statistic
    if truth.unique().numel() == 1:
        assert found != found
    else:
        assert found == pytest.approx(0.0 if values.unique().numel() == 1 else wanted)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (claims.RankMarginal, 0.0),
        (claims.RankAdditive, 0.0),
        (claims.RankConditional, 0.0),
        (information.DecisionAUC, 0.5),
    ],
)
def test_random_maps_have_the_score_that_chance_is_said_to_have(metric: type[Metric], expected: float) -> None:
    here = scene("graded")
    found = [mean(metric(), here, row(here, noise(here, seed), None)) for seed in range(40)]
    drawn = torch.tensor(found)
    assert metric.chance == expected
    assert abs(float(drawn.mean()) - expected) < 4 * float(drawn.std()) / 40**0.5


def test_nats_are_judged_by_the_truth_that_they_claim_and_no_other() -> None:
    here = scene("shared")
    additive = ideal(here, "additive")
    judged = {claim: mean(claims.ClaimedError(), here, row(here, additive, claim)) for claim in CLAIMS}
    assert judged["additive"] == pytest.approx(0.0, abs=1e-5)
    wrong = math.log(6) / 2 / 3  # too few nats, or too many, in one of three kinds of cell
    assert judged["marginal"] == pytest.approx(wrong, abs=1e-4)
    assert judged["conditional"] == pytest.approx(wrong, abs=1e-4)
    assert math.isnan(mean(claims.ClaimedError(), here, row(here, additive, None)))  # it claims nothing


def test_a_map_that_is_never_negative_is_judged_by_the_positive_part() -> None:
    here = scene("graded")
    truth = ideal(here, "marginal")
    assert (truth < 0).any()
    positive = truth.clamp_min(0)
    assert mean(claims.ClaimedError(), here, row(here, positive, "marginal", signed=False)) == pytest.approx(
        0, abs=1e-4
    )
    assert mean(claims.ClaimedError(), here, row(here, positive, "marginal")) > 0.01
    assert mean(claims.RankMarginal(), here, row(here, positive, None, signed=False)) == pytest.approx(1, abs=1e-4)
    assert mean(claims.RankMarginal(), here, row(here, positive, None)) < 0.999


def test_the_profile_shows_who_gives_the_suppressor_weight() -> None:
    here = scene("suppressor")
    assert here.truth is not None
    signal, suppressor = here.truth.cells["signal"].float(), here.truth.cells["suppressor"].float()
    both, alone = row(here, signal + suppressor, None), row(here, signal, None)
    assert mean(claims.ProfileConditional(), here, both) > 0.95 > 0.6 > mean(claims.ProfileConditional(), here, alone)
    assert mean(claims.ProfileMarginal(), here, alone) > 0.9 > mean(claims.ProfileMarginal(), here, both)


def test_a_map_of_another_quantity_has_no_order_to_be_judged() -> None:
    here = scene("graded")
    total = dataclasses.replace(row(here, noise(here), None), spec=MapSpec("total", role="total"))
    assert math.isnan(mean(claims.RankMarginal(), here, total))
    assert torch.isnan(claims.ProfileAdditive().score(here, {"row": total})["row"]).all()


def test_amounts_below_the_truths_own_error_have_neither_order_nor_share() -> None:
    here = scene("xor")
    assert here.truth is not None
    left = 0.04 * noise(here, 9).double()  # what a network's training leaves by chance
    here = dataclasses.replace(here, truth=dataclasses.replace(here.truth, information={"marginal": left}))
    for metric in (claims.RankMarginal(), claims.ProfileMarginal()):
        assert math.isnan(mean(metric, here, row(here, left, "marginal")))


def test_what_training_leaves_by_chance_puts_no_other_map_above_the_truth() -> None:
    here = scene("graded")
    assert here.truth is not None
    sources = sum(cells.float() for name, cells in here.truth.cells.items() if name != "redundant")
    left = here.truth.information["conditional"] + 0.02 * sources * noise(here, 4)
    here = dataclasses.replace(here, truth=dataclasses.replace(here.truth, information={"conditional": left}))
    for metric in (claims.RankConditional(), claims.ProfileConditional()):
        assert mean(metric, here, row(here, left, None)) == pytest.approx(1, abs=1e-4)
        assert mean(metric, here, row(here, sources + 0.01 * noise(here), None)) < 0.9
