"""The planted truth is counted again, symbol by symbol, and the images are what the plan says."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from mibench.data.planted import CELL, ROLES, Parameters, Planted, draw_plan, glyphs, render, state_truth
from mibench.errors import DataError, UsageError
from mibench.plugins import registry

VARIANTS = ("base", "xor", "shared", "partial")
SHAPE = (3, 32, 32)


def planted(**parameters: Any) -> Planted:
    return Planted(Planted.Parameters(**parameters))


def counted(symbols: Tensor, known: Tensor) -> Tensor:
    """log p(symbol | known) / p(symbol), by counting symbols over all cells of all images."""
    pooled: Counter[int] = Counter()
    given: dict[int, Counter[int]] = {}
    for row, key in zip(symbols.tolist(), known.tolist(), strict=True):
        pooled.update(row)
        given.setdefault(key, Counter()).update(row)
    sizes = {key: counter.total() for key, counter in given.items()}
    return torch.tensor(
        [
            [math.log(given[key][s] / sizes[key]) - math.log(pooled[s] / symbols.numel()) for s in row]
            for row, key in zip(symbols.tolist(), known.tolist(), strict=True)
        ]
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_stated_information_is_what_counting_finds(variant: Any) -> None:
    parameters = Parameters(variant=variant, alphabet=3, grid=2, p=0.7)
    plan = draw_plan(parameters, "training", 12_000)
    truth = state_truth(parameters, plan, render(parameters, plan))
    stated = {name: nats.flatten(1) for name, nats in truth.information.items()}
    symbols = plan.role * 100 + plan.glyph
    total = counted(symbols, plan.label * 100 + plan.second)
    decision = counted(symbols, plan.label)
    for name, found in {"total": total, "decision": decision, "redundant": total - decision}.items():
        for role in range(len(ROLES)):
            at_role = plan.role == role
            if at_role.any():
                error = (found - stated[name])[at_role].abs()
                assert error.mean() < 0.08, (name, ROLES[role], error.mean())  # a rare symbol is counted roughly


@pytest.mark.parametrize(("p", "alphabet"), [(0.8, 6), (0.5, 2), (0.95, 4)])
def test_a_hint_tells_the_alphabet_less_the_entropy_of_its_errors(p: float, alphabet: int) -> None:
    parameters = Parameters(variant="partial", p=p, alphabet=alphabet, grid=2)
    plan = draw_plan(parameters, "training", 6_000)
    truth = state_truth(parameters, plan, render(parameters, plan))
    entropy = -p * math.log(p) - (1 - p) * math.log((1 - p) / (alphabet - 1))
    mean = truth.information["decision"][truth.cells["hint"]].mean()
    assert mean == pytest.approx(math.log(alphabet) - entropy, abs=0.05)


def test_two_xor_cells_together_tell_the_label() -> None:
    plan = draw_plan(Parameters(variant="xor"), "scoring", 200)
    signal = plan.glyph[plan.role == ROLES.index("signal")].reshape(200, 2)
    assert torch.equal(signal.sum(1) % 6, plan.label)


@pytest.mark.parametrize(("variant", "signals"), [("base", 1), ("partial", 1), ("shared", 2), ("xor", 2)])
def test_every_image_has_its_cells(variant: Any, signals: int) -> None:
    samples = planted(variant=variant, grid=5).load("scoring", 20, (3, 40, 40))
    assert samples.truth is not None
    assert samples.mask is not None
    assert (samples.truth.cells["signal"].sum((1, 2)) == signals).all()
    assert (samples.truth.cells["redundant"].sum((1, 2)) == 1).all()
    assert not (samples.truth.cells["signal"] & samples.truth.cells["redundant"]).any()
    assert (samples.mask.sum((1, 2)) == signals * CELL**2).all()


def test_without_noise_the_signal_cell_shows_the_glyph_of_the_label() -> None:
    samples = planted(noise=0.0).load("scoring", 30, SHAPE)
    assert samples.mask is not None
    for image, mask, label in zip(samples.x, samples.mask, samples.label, strict=True):
        red = image[0][mask].reshape(CELL, CELL)
        assert torch.equal(red > 0.5, glyphs(6)[label] > 0)


def test_a_sample_does_not_depend_on_how_many_are_asked_for() -> None:
    few, many = planted().load("scoring", 5, SHAPE), planted().load("scoring", 9, SHAPE)
    assert torch.equal(few.x, many.x[:5])
    assert few.ids == many.ids[:5]


def test_the_splits_share_no_image() -> None:
    images = [image.numpy().tobytes() for s in ("training", "calibration", "scoring") for image in _first(s)]
    assert len(set(images)) == len(images) == 150


def _first(split: Any) -> Tensor:
    return planted().load(split, 50, SHAPE).x


def test_labels_are_uniform_and_independent_of_the_second_ones() -> None:
    plan = draw_plan(Parameters(), "training", 6_000)
    joint = torch.zeros(6, 6).index_put_((plan.label, plan.second), torch.ones(6_000), accumulate=True)
    assert (joint / 6_000 - 1 / 36).abs().max() < 0.01


def test_glyphs_are_told_apart_by_shape_and_not_by_ink() -> None:
    every = glyphs(12).flatten(1)
    assert (every.sum(1) == 18).all()
    assert all((a != b).sum() >= 12 for i, a in enumerate(every) for b in every[:i])


def test_fainter_distractors_leave_the_other_cells_as_they_are() -> None:
    loud, faint = (planted(noise=0.0, distractors=d).load("scoring", 3, SHAPE) for d in (1.0, 0.2))
    assert loud.mask is not None
    assert torch.equal(loud.x.movedim(1, -1)[loud.mask], faint.x.movedim(1, -1)[loud.mask])
    assert faint.x.sum() < loud.x.sum()


def test_a_model_that_wants_another_size_is_told_so() -> None:
    with pytest.raises(DataError, match=r"planted\[grid=4\] makes images of 3x32x32, not 3x64x64"):
        planted().load("scoring", 1, (3, 64, 64))


@pytest.mark.parametrize(
    "spec", ["planted[alphabet=99]", "planted[variant=or]", "planted[p=1.1]", "planted[noise=nan]", "planted[noise=5]"]
)
def test_impossible_parameters_are_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        registry.data(spec)


@pytest.mark.parametrize(
    ("spec", "mend"),
    [
        ("planted[variant=copies,p=0.1]", "p=0.1 is below chance, 1/6: choose 0.167 to 1"),
        ("planted[variant=graded,cells=9]", "cells=9 have 2^9 subsets, too many for Shapley values: choose 1 to 8"),
        ("planted[variant=rdnxor,alphabet=5]", "choose an even number"),
        ("planted[variant=graded,cells=8,grid=2]", "grid=2 has no room for 9 cells: choose a larger grid"),
        ("planted[variant=suppressor,noise=0]", "choose a noise above 0"),
    ],
)
def test_what_cannot_be_planted_is_refused_in_one_line(spec: str, mend: str) -> None:
    with pytest.raises(UsageError) as refusal:
        registry.data(spec)
    assert mend in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["1/f", "photographs"])
def test_backgrounds_are_added_to_images_and_taken_as_known(kind: Any) -> None:
    plain, behind = (planted(variant="graded", background=b).load("scoring", 20, SHAPE) for b in ("none", kind))
    difference = behind.x - plain.x
    assert difference.flatten(1).std(1).tolist() == pytest.approx([0.15] * 20, abs=0.01)
    assert difference.flatten(1).mean(1).abs().max() < 1e-4
    assert (difference[0] - difference[1]).abs().max() > 0.1
    near = (difference[..., 1:] - difference[..., :-1]).square().mean()
    assert near < difference.square().mean()  # neighbours are alike, as white noise's are not
    assert plain.truth is not None
    assert behind.truth is not None
    torch.testing.assert_close(plain.truth.beliefs, behind.truth.beliefs, atol=1e-4, rtol=0)
