"""Bayes' rule without the places: the sum over all placements written out, calibrated, and equal where all is clear."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mibench.data import planted, searching
from mibench.data.planted import BACKGROUND, COLOURS, Parameters, draw_plan, glyphs, label_beliefs, render
from mibench.errors import DataError


def some(count: int, **more: Any) -> tuple[Parameters, planted.Plan, Tensor]:
    parameters = Parameters(**({"variant": "graded", "alphabet": 3, "cells": 2, "grid": 2} | more))
    plan = draw_plan(parameters, "scoring", count)
    return parameters, plan, render(parameters, plan)


def written_out(parameters: Parameters, x: Tensor) -> Tensor:
    """p(y, r | x) of one image by every placement and every content of the cells, (A, A)."""
    size, cells = parameters.alphabet, planted.patches(x[None], parameters.grid)[0].double()  # (G, 3, 8, 8)
    every = torch.arange(2 * size)

    def density(cell: int, colour: Tensor, glyph: int, ink: float) -> float:
        drawn = BACKGROUND + (colour - BACKGROUND)[:, None, None] * ink * glyphs(size)[glyph]
        return float(torch.distributions.Normal(drawn.double(), parameters.noise).log_prob(cells[cell]).sum())

    offset = sum(float(torch.distributions.Normal(BACKGROUND, parameters.noise).log_prob(c).sum()) for c in cells)
    colours = COLOURS[[*planted.source_colours(parameters).tolist(), 2]]  # the sources', and the second label's
    found = torch.zeros(size, size, dtype=torch.float64)
    count = len(colours)
    for places in itertools.permutations(range(len(cells)), count):
        rest = torch.zeros((), dtype=torch.float64)
        for cell in {*range(len(cells))} - {*places}:
            each = [density(cell, COLOURS[0], int(g), parameters.distractors) for g in every]
            rest += torch.tensor(each).double().logsumexp(0) - torch.tensor(2.0 * size).log()
        shown = torch.ones(size, dtype=torch.float64).log()  # of the label
        for place, colour, table in zip(places, colours, parameters.distribution.groups, strict=False):
            logs = torch.tensor([density(place, colour, g, parameters.contrast) for g in range(size)]).double()
            shown = shown + (table.log() + logs).logsumexp(1)
        second = torch.tensor([density(places[-1], colours[-1], size + g, parameters.contrast) for g in range(size)])
        found += (shown[:, None] + second.double() + rest - offset).exp()
    return found / found.sum()


@pytest.mark.parametrize("noise", [0.6, 1.5])
def test_the_search_is_the_sum_over_every_placement(noise: float) -> None:
    parameters, plan, x = some(4, noise=noise)
    found = searching.posterior(parameters, plan, x)
    for sample in range(4):
        torch.testing.assert_close(found[sample], written_out(parameters, x[sample]), atol=1e-5, rtol=0)


def test_quiet_pixels_give_every_place_away() -> None:
    parameters, plan, x = some(40, alphabet=6, cells=4, grid=3)
    found = searching.posterior(parameters, plan, x).sum(2)
    torch.testing.assert_close(found, label_beliefs(parameters, plan, x)[:, -1], atol=1e-9, rtol=0)


def test_who_must_search_knows_less_and_is_calibrated() -> None:
    parameters, plan, x = some(600, alphabet=4, cells=3, grid=3, noise=1.5)
    searched, given = searching.posterior(parameters, plan, x).sum(2), label_beliefs(parameters, plan, x)[:, -1]
    right = torch.nn.functional.one_hot(plan.label, 4).double()
    for belief in (searched, given):
        spread = float((belief * (1 - belief)).sum(1).mean() / len(belief)) ** 0.5
        assert abs(float((right * belief).sum(1).mean() - belief.square().sum(1).mean())) < 4 * spread
    nats = [float(belief[right.bool()].log().mean()) for belief in (searched, given)]
    assert nats[0] < nats[1] - 0.05


def test_what_cannot_be_searched_is_refused() -> None:
    parameters, plan, x = some(5, variant="xor")
    with pytest.raises(DataError, match="choose base"):
        searching.posterior(parameters, plan, x)
    assert searching.accuracies(parameters, plan) == planted.ideal_accuracies(parameters, plan)
