"""Each truth wins the scores of its claim and no empty or encoding map does; noise costs in every score."""

from __future__ import annotations

import dataclasses
import functools
import itertools
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
from mibench.plugins import registry
from mibench.plugins.contract import CLAIMS, Claim, Evidence, MapSpec, Metric, Scene
from tests.metric_worlds import frozen, make_world

VARIANTS = ("base", "xor", "shared", "partial", "graded", "suppressor", "copies", "and", "rdnxor")
COUNT = 24
RANKS = (claims.RankMarginal, claims.RankConditional, claims.RankAdditive)
PROFILES = (claims.ProfileMarginal, claims.ProfileConditional, claims.ProfileAdditive)


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


def row(here: Scene, cells: Tensor, claim: Claim | None, *, signed: bool = True) -> Evidence:
    """A map (N, h, w) of cells that claims to be one of the truths."""
    raw = here.probe.upsample(cells.float())
    spec = MapSpec("map", unit="nats", signed=signed, claim=claim)
    return Evidence(raw / raw.abs().amax((1, 2), keepdim=True).clamp_min(1e-9), raw, spec, {"map": raw})


def ideal(here: Scene, claim: str) -> Tensor:
    assert here.truth is not None
    return here.truth.information[claim]


def noise(seed: int = 0) -> Tensor:
    return torch.rand(COUNT, 4, 4, generator=torch.Generator().manual_seed(seed))


def candidates(here: Scene) -> dict[str, Tensor]:
    encoder: Any = registry.explainer("encoder")
    spots = encoder.explain(here.probe, here.x, here.target, here.seeds).maps["map"]
    others = {
        "empty": torch.zeros(COUNT, 4, 4),
        "random": noise(),
        "encoder": torch.nn.functional.avg_pool2d(spots, CELL),
    }
    return {claim: ideal(here, claim) for claim in CLAIMS} | others


def scores(claim: Claim) -> dict[str, Metric]:
    """The scores of one claim."""
    rank = next(each for each in RANKS if each().claim == claim)
    profile = next(each for each in PROFILES if each().claim == claim)
    return {
        "rank": rank(),
        "rank of sources": rank(rank.Parameters(over="sources")),
        "profile": profile(),
        "error": claims.ClaimedError(),
    }


def mean(metric: Metric, here: Scene, evidence: Evidence) -> float:
    return float(metric.score(here, {"row": evidence})["row"].nanmean())


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_contradicts_itself(variant: str, claim: Claim) -> None:
    here, judged = scene(variant), 0
    something = bool(ideal(here, claim).abs().max() > 0)
    for name, metric in scores(claim).items():
        found = {who: mean(metric, here, row(here, cells, claim)) for who, cells in candidates(here).items()}
        if found[claim] != found[claim]:
            continue  # this truth has no order or no positive part here, and nobody gets a score
        judged += 1
        best = (max if metric.direction == "higher" else min)(each for each in found.values() if each == each)
        assert found[claim] == pytest.approx(best, abs=1e-4), (name, found)
        for who in ("random", "encoder", *(["empty"] if something else [])):
            assert found[who] != pytest.approx(best, abs=0.02), (name, who, found)
    assert judged >= (2 if something else 1)  # where the claim is zero everywhere, the error alone


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_score_falls_as_the_truth_is_drowned_in_noise(variant: str, claim: Claim) -> None:
    here = scene(variant)
    truth = ideal(here, claim)
    if not bool(truth.abs().max() > 0):
        pytest.skip("there is no truth to drown: every cell holds nothing of this claim")
    scale = truth.abs().amax()
    for name, metric in scores(claim).items():
        steps = []
        for share in (0.0, 0.3, 0.6, 1.0):
            draws = [row(here, (1 - share) * truth + share * scale * noise(seed), claim) for seed in range(6)]
            steps.append(sum(mean(metric, here, each) for each in draws) / 6)
        if steps[0] == steps[0]:
            falling = steps if metric.direction == "higher" else [-each for each in steps]
            assert falling[0] > falling[-1], (name, steps)
            few = name == "rank of sources"  # two sources keep their order while the noise is weak
            assert all(a > b or (few and a == b) for a, b in itertools.pairwise(falling)), (name, steps)


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
    found = [mean(metric(), here, row(here, noise(seed), None)) for seed in range(40)]
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
    total = dataclasses.replace(row(here, noise(), None), spec=MapSpec("total", role="total"))
    assert math.isnan(mean(claims.RankMarginal(), here, total))
    assert torch.isnan(claims.ProfileAdditive().score(here, {"row": total})["row"]).all()


def test_amounts_below_the_truths_own_error_have_neither_order_nor_share() -> None:
    here = scene("xor")
    assert here.truth is not None
    left = 0.04 * noise(9).double()  # what a network's training leaves by chance
    here = dataclasses.replace(here, truth=dataclasses.replace(here.truth, information={"marginal": left}))
    for metric in (claims.RankMarginal(), claims.ProfileMarginal()):
        assert math.isnan(mean(metric, here, row(here, left, "marginal")))


def test_what_training_leaves_by_chance_puts_no_other_map_above_the_truth() -> None:
    here = scene("graded")
    assert here.truth is not None
    sources = sum(cells.float() for name, cells in here.truth.cells.items() if name != "redundant")
    left = here.truth.information["conditional"] + 0.02 * sources * noise(4)
    here = dataclasses.replace(here, truth=dataclasses.replace(here.truth, information={"conditional": left}))
    for metric in (claims.RankConditional(), claims.ProfileConditional()):
        assert mean(metric, here, row(here, left, None)) == pytest.approx(1, abs=1e-4)
        assert mean(metric, here, row(here, sources + 0.01 * noise(), None)) < 0.9
