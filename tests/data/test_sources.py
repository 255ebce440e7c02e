"""What subsets of sources tell is found again by simulation, by counting, and by the Gaussian's own density."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.distributions import MultivariateNormal

from mibench.data import asked, planted
from mibench.data.planted import Parameters, draw_plan, inks, label_beliefs, likelihood, render, state_truth, suppressed
from mibench.data.sources import Sources, noisy, sources
from mibench.information.pointwise import of_class
from mibench.plugins.contract import CLAIMS

DISCRETE = ("base", "xor", "shared", "partial", "graded", "copies", "and", "rdnxor")
VARIANTS = (*DISCRETE, "suppressor")
COUNT = 1_500  # samples that are counted


def some(variant: Any, count: int, **more: Any) -> tuple[Parameters, planted.Plan, Tensor]:
    parameters = Parameters(variant=variant, **({"alphabet": 4, "cells": 3, "grid": 3} | more))
    plan = draw_plan(parameters, "scoring", count)
    return parameters, plan, render(parameters, plan)


@pytest.mark.parametrize("variant", DISCRETE)
def test_what_is_drawn_has_the_stated_distribution(variant: Any) -> None:
    parameters, plan, _ = some(variant, COUNT, p=0.7)
    shown = plan.glyph.gather(1, plan.places)  # (N, K)
    expected = COUNT * parameters.distribution.joint
    drawn = torch.zeros_like(expected)
    drawn.index_put_((plan.label, *shown.unbind(1)), torch.ones(COUNT).double(), accumulate=True)
    assert float(expected.sum()) == pytest.approx(COUNT)
    assert not drawn[expected == 0].any()
    often = expected >= 5
    found, wanted = ([*each[often].tolist(), float(each[~often].sum())] for each in (drawn, expected))
    kept = [(f, w) for f, w in zip(found, wanted, strict=True) if w > 0]
    assert chisquare(*zip(*kept, strict=True)).pvalue > 1e-4


@pytest.mark.parametrize("variant", DISCRETE)
def test_beliefs_are_those_of_the_enumerated_table(variant: Any) -> None:
    parameters, plan, x = some(variant, 20, p=0.7, noise=0.02)
    found, joint = label_beliefs(parameters, plan, x), parameters.distribution.joint
    shown = plan.glyph.gather(1, plan.places)
    for sample, number in itertools.product(range(20), range(found.shape[1])):
        left = joint
        for source in reversed(range(shown.shape[1])):
            seen = number >> source & 1
            left = left.select(source + 1, int(shown[sample, source])) if seen else left.sum(source + 1)
        torch.testing.assert_close(found[sample, number], left / left.sum(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("variant", "nats"),
    [
        ("base", {"marginal": [4], "conditional": [4], "additive": [4]}),
        ("shared", {"marginal": [4, 4], "conditional": [1, 1], "additive": [2, 2]}),
        ("xor", {"marginal": [1, 1], "conditional": [4, 4], "additive": [2, 2]}),
        ("rdnxor", {"marginal": [2, 2], "conditional": [2, 2], "additive": [2, 2]}),
    ],
)
def test_certain_variants_have_their_known_amounts(variant: Any, nats: dict[str, list[int]]) -> None:
    parameters, plan, x = some(variant, 10)  # of an alphabet of four: logarithms of 1, 2 and 4
    truth = state_truth(parameters, plan, x)
    for claim, amounts in nats.items():
        found = truth.information[claim].flatten(1).gather(1, plan.places)
        torch.testing.assert_close(found, torch.tensor(amounts).float().log().expand(10, -1))
        assert float(truth.information[claim].sum()) == pytest.approx(float(found.sum()))  # nothing elsewhere


@pytest.mark.parametrize(("variant", "noise"), [("graded", 0.8), ("copies", 1.0), ("xor", 0.9), ("suppressor", 1.5)])
def test_beliefs_are_calibrated_however_loud_the_pixels(variant: Any, noise: float) -> None:
    parameters, plan, x = some(variant, COUNT, noise=noise)
    beliefs = label_beliefs(parameters, plan, x)  # (N, 2^K, A)
    right = torch.nn.functional.one_hot(plan.label, 4).double()
    assert 0.4 < float(beliefs[:, -1].amax(1).mean()) < 0.99  # there is doubt, or nothing is tested
    for each in beliefs.unbind(1):  # the means of p and of [y = a] agree wherever p is alike
        for low in (0.0, 0.1, 0.3, 0.6):
            alike = (each >= low) & (each < 1.001 if low == 0.6 else each < {0.0: 0.1, 0.1: 0.3, 0.3: 0.6}[low])
            if alike.sum() > 100:
                deviation = float((each * (1 - each))[alike].sum().sqrt()) / float(alike.sum())
                assert abs(float((right - each)[alike].mean())) < 4 * deviation + 1e-6


def test_a_clamped_pixels_likelihood_is_a_density_and_two_masses() -> None:
    x = torch.linspace(0, 1, 20_001, dtype=torch.float64)[1:-1]
    mean, deviation = torch.tensor(0.7).double(), 0.4
    constant = math.log(deviation * math.sqrt(2 * math.pi))
    inside = (planted.log_normal(x, mean, deviation, clamped=True) - constant).exp().sum() / 20_000
    ends = (planted.log_normal(torch.tensor([0.0, 1.0]).double(), mean, deviation, clamped=True) - constant).exp()
    assert float(inside + ends.sum()) == pytest.approx(1, abs=1e-4)


def test_the_suppressor_tells_nothing_alone_and_all_beside_the_signal() -> None:
    parameters, plan, x = some("suppressor", 300, alphabet=6, grid=4)
    truth = state_truth(parameters, plan, x)
    mean = {claim: truth.information[claim].flatten(1).gather(1, plan.places).mean(0) for claim in CLAIMS}
    assert mean["marginal"][1] == 0
    assert mean["marginal"][0] < 0.1
    assert (mean["conditional"] > math.log(6) - 0.1).all()
    assert (mean["additive"] - math.log(6) / 2).abs().max() < 0.05


def test_the_suppressors_beliefs_are_those_of_its_joint_gaussian() -> None:
    parameters, plan, x = some("suppressor", 12, noise=1.5, contrast=0.6)
    seen, pair = inks(parameters, plan, x), suppressed(parameters)
    t2, (a, b) = pair.common**2, pair.noise
    covariance = torch.tensor([[t2 + a * a, t2], [t2, t2 + b * b]]).double()
    means = torch.stack([pair.glyphs, torch.zeros_like(pair.glyphs)], 2)  # (A, P, 2)
    both = MultivariateNormal(means, covariance).log_prob(seen.transpose(1, 2)[:, None]).sum(2).softmax(1)  # (N, A)
    alone = torch.distributions.Normal(pair.glyphs, (t2 + a * a) ** 0.5).log_prob(seen[:, :1]).sum(2).softmax(1)
    found = label_beliefs(parameters, plan, x)
    torch.testing.assert_close(found[:, 3], both, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 1], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, [0, 2]], torch.full((12, 2, 4), 0.25).double())


def test_no_pixel_is_cut_where_the_posterior_must_be_exact() -> None:
    for variant in VARIANTS:
        _, _, x = some(variant, 5, noise=0.5)
        cut = float(((x == 0) | (x == 1)).float().mean())
        assert (cut > 0.1) == (variant in planted.CLAMPED), variant


def test_three_sources_add_up_to_what_all_of_them_tell() -> None:
    parameters, plan, x = some("graded", 50)
    truth = state_truth(parameters, plan, x)
    together = (label_beliefs(parameters, plan, x)[:, -1].gather(1, plan.label[:, None])[:, 0] * 4).log()
    torch.testing.assert_close(truth.information["additive"].sum((1, 2)).double(), together, atol=1e-5, rtol=0)
    assert (truth.information["marginal"] < 0).any()  # a glyph that speaks against the label


# What a network makes of hidden sources: an ideal observer in the network's place must give the data's own truth.


@pytest.mark.parametrize("variant", [each for each in DISCRETE if each != "base"])
def test_an_ideal_network_has_the_datas_own_truth(variant: Any) -> None:
    parameters, plan, x = some(variant, 4, p=0.7)
    distribution, known = parameters.distribution, likelihood(parameters, plan, x, plan.places, 0)
    shown, joint = plan.glyph.gather(1, plan.places), distribution.joint
    answers = (joint / joint.sum(0).clamp_min(1e-300)).movedim(0, -1)  # p(y | g), whatever is shown
    for sample in range(4):
        found = asked.enumerated(distribution, known[sample], shown[sample], answers)
        torch.testing.assert_close(found, distribution.beliefs(known[sample : sample + 1])[0], atol=1e-9, rtol=0)


@dataclasses.dataclass
class Observer:
    """Stands for a network on images of one sample: the ideal observer who knows its places."""

    parameters: Parameters
    plan: planted.Plan

    def __call__(self, images: Tensor) -> Tensor:
        plans = planted.Plan(
            *(
                getattr(self.plan, each.name).expand(len(images), *getattr(self.plan, each.name).shape[1:])
                for each in dataclasses.fields(self.plan)
            )
        )
        return label_beliefs(self.parameters, plans, images)[:, -1]


@pytest.mark.parametrize("variant", ["graded", "copies", "suppressor"])
def test_draws_find_an_ideal_networks_truth_within_their_error(variant: Any) -> None:
    parameters, plan, x = some(variant, 3, noise=0.1)
    ideal = label_beliefs(parameters, plan, x)
    misses = []
    for sample in range(3):
        part = plan[sample : sample + 1]
        random = torch.Generator().manual_seed(sample)
        if variant == "suppressor":
            strata = planted._suppressor_cells(parameters, part, x[sample], random)
        else:
            pictures = planted.pictures(parameters, part)
            known = likelihood(parameters, part, x[sample : sample + 1], part.places, 0)[0]
            glyph = part.glyph[0, part.places[0]]
            strata = asked.drawn_cells(parameters.distribution, known, glyph, pictures, random)
        means, errors = asked.drawn(Observer(parameters, part), x[sample], part.places[0], strata)  # type: ignore[arg-type]
        misses.append(((means - ideal[sample]).abs() / (errors + 0.01)).flatten())
    assert float(torch.cat(misses).max()) < 4.5
    assert float(torch.cat(misses).median()) < 1


def test_a_cell_that_is_drawn_again_keeps_its_pixel_noise() -> None:
    parameters, plan, x = some("suppressor", 1)
    strata = list(planted._suppressor_cells(parameters, plan, x[0], torch.Generator().manual_seed(0)))
    own = planted.patches(x, 3)[0, plan.places[0]]
    assert torch.equal(strata[3][1], own.expand_as(strata[3][1]))  # nothing is hidden
    label = int(plan.label)
    hidden = strata[1][1][label, :, 1]  # (n, 3, 8, 8) the suppressor, given the signal and the label
    spread = (hidden - own[1]).std()  # n is known up to the signal's pixel noise
    assert 0.02 < float(spread) < 0.15


def test_the_table_of_an_uncertain_glyph_adds_up() -> None:
    assert torch.allclose(noisy(6, 0.4).sum(1), torch.ones(6).double())
    assert isinstance(sources("graded", 6, 0.8, 8), Sources)
    found = of_class(sources("graded", 6, 0.8, 2).beliefs(torch.zeros(1, 2, 6).double()), torch.tensor([0]))
    assert all(float(nats.abs().max()) == 0 for nats in found.values())  # blurred beyond recognition: nothing is told
