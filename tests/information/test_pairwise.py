"""The kernel for all pairs says what one pair's estimator says, on any data, device form and number of threads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_selection import mutual_info_regression
from torch import Tensor

from mibench.information import ksg, neighbours
from mibench.information.pairwise import KSG, every_pair, on_accelerator

VARIANTS = [(variant, counting) for variant in ("ksg", "mixed") for counting in ("psi", "log")]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relu_layers(samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Activations of two layers, the second computed from the first; one neuron never speaks, one is binary."""
    weights = normal(6, 5, seed=seed + 1)
    first = normal(samples, 6, seed=seed).relu()
    second = (first @ weights - 0.5).relu()
    first[:, 4], second[:, 3] = 0.0, (second[:, 3] > 0.5).double()
    return first, second


def one_by_one(first: Tensor, second: Tensor, pairs: Tensor, estimator: KSG) -> Tensor:
    """The estimator of two variables, once a pair; a constant neuron has no information."""
    rows = []
    for i, j in pairs:
        x, z = first[:, i], second[:, j]
        value = ksg.pointwise(x, z, k=estimator.k, variant=estimator.variant, counting=estimator.counting)
        rows.append(value if x.std() > 0 and z.std() > 0 else torch.zeros_like(value))
    return torch.stack(rows)


@pytest.mark.parametrize(("variant", "counting"), VARIANTS)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_every_pair_has_the_values_of_the_estimator_of_two(
    k: int, variant: ksg.Variant, counting: ksg.Counting
) -> None:
    first, second = relu_layers(150)
    pairs, estimator = every_pair(6, 5), KSG(k, variant, counting)
    truth = one_by_one(first, second, pairs, estimator)
    assert torch.allclose(estimator.pointwise(first, second, pairs), truth, atol=1e-9, rtol=0)
    assert torch.allclose(torch.cat(list(estimator.outright(first, second, pairs))), truth, atol=1e-9, rtol=0)
    assert torch.allclose(estimator.information(first, second, pairs), truth.mean(1), atol=1e-9, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(5, 60),
    k=st.integers(1, 4),
    levels=st.integers(1, 40),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 10_000),
)
def test_ties_of_every_kind_are_counted_right(samples: int, k: int, levels: int, scale: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    first = torch.from_numpy(random.integers(levels, size=(samples, 2)).astype(float) / levels) * scale
    second = torch.from_numpy(random.exponential(size=(samples, 2)).round(random.integers(3)))
    pairs, estimator = every_pair(2, 2), KSG(k)
    ours = estimator.pointwise(first, second, pairs)
    assert torch.allclose(ours, one_by_one(first, second, pairs, estimator), atol=1e-9, rtol=0)


def test_ksg_of_pairs_is_scikit_learns() -> None:
    x = normal(1000, 4)
    y = x @ normal(4, 3, seed=1) + 0.5 * normal(1000, 3, seed=2)
    x, y = (v / v.std(0, correction=0) for v in (x, y))
    ours = KSG(3, "ksg").information(x, y, every_pair(4, 3)).reshape(4, 3)
    for j in range(3):
        theirs = mutual_info_regression(x.numpy(), y[:, j].numpy(), n_neighbors=3, random_state=0)
        assert np.allclose(ours[:, j].clamp(min=0), theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("variant", "counting"), VARIANTS)
def test_a_new_sample_has_the_value_of_one_sample_more(variant: ksg.Variant, counting: ksg.Counting) -> None:
    first, second = relu_layers(120)
    first[0, 0], second[1, 1] = 9.0, -9.0  # beyond all others
    pairs, estimator = every_pair(6, 5), KSG(3, variant, counting)
    for new in range(12):
        others = torch.arange(120) != new
        asked = first[new : new + 1], second[new : new + 1]
        truth = one_by_one(first, second, pairs, estimator)[:, [new]]
        for ours in (
            estimator.pointwise(first[others], second[others], pairs, asked),
            torch.cat(list(estimator.outright(first[others], second[others], pairs, asked))),
        ):
            assert torch.allclose(ours, truth, atol=1e-9, rtol=0)


def test_new_samples_do_not_see_each_other() -> None:
    first, second = relu_layers(100)
    asked, pairs = relu_layers(8, seed=7), every_pair(6, 5)
    together = KSG(5).pointwise(first, second, pairs, asked)
    for new in range(8):
        alone = KSG(5).pointwise(first, second, pairs, (asked[0][[new]], asked[1][[new]]))
        assert torch.equal(alone[:, 0], together[:, new])


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = relu_layers(100)
    monkeypatch.setattr("mibench.information.pairwise.CHUNK", 4)
    answers = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        answers.append(KSG(3).information(first, second, every_pair(6, 5)))
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


@pytest.mark.parametrize(("variant", "counting"), VARIANTS)
def test_the_device_chooses_the_form_and_both_say_the_same(
    monkeypatch: pytest.MonkeyPatch, variant: ksg.Variant, counting: ksg.Counting
) -> None:
    """No accelerator is needed: the form for accelerators runs on the CPU, part by part."""
    first, second = relu_layers(120)
    asked, pairs, estimator = relu_layers(7, seed=5), every_pair(6, 5), KSG(4, variant, counting)
    compiled = [estimator.information(first, second, pairs), estimator.pointwise(first, second, pairs, asked)]
    monkeypatch.setattr("mibench.information.pairwise.on_accelerator", lambda _: True)
    monkeypatch.setattr("mibench.information.pairwise.BUDGET", 4 * 120 * 120)
    monkeypatch.setattr(KSG, "_compiled", None)  # would fail if it were called
    outright = [estimator.information(first, second, pairs), estimator.pointwise(first, second, pairs, asked)]
    for ours, theirs in zip(outright, compiled, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9, rtol=0)


def test_every_device_but_the_cpu_gets_the_form_for_accelerators() -> None:
    assert [on_accelerator(torch.empty(1, device=name)) for name in ("cpu", "meta")] == [False, True]


def test_rounding_at_the_boundary_miscounts_nobody() -> None:
    """0.1 + 0.2 > 0.3: looked up in the sorted values as 0.1 + rho, the neighbour that gave rho seems nearer."""
    x = torch.tensor([0.1, 0.3, 5.0, 9.0], dtype=torch.float64)
    rho = x[1] - x[0]
    assert int(torch.searchsorted(x, x[0] + rho)) != int(((x - x[0]).abs() < rho).sum()) or float(x[0] + rho) == 0.3
    values = normal(400, 2, seed=3).float().double() * 0.1
    ours = KSG(1, "ksg").pointwise(values[:, :1], values[:, 1:], torch.zeros(1, 2, dtype=torch.int64))[0]
    assert torch.allclose(ours, ksg.pointwise(values[:, 0], values[:, 1], k=1, variant="ksg"), atol=1e-12, rtol=0)


@pytest.mark.parametrize("estimator", ["jittered KSG", "mixed KSG less its permutation null"])
def test_shuffled_relus_hold_no_information(estimator: str) -> None:
    first, second = normal(600, 20).relu(), normal(600, 20, seed=1).relu()  # independent: the truth is 0
    pairs = every_pair(20, 20)
    if estimator == "jittered KSG":
        noise = normal(600, 20, seed=2), normal(600, 20, seed=3)
        first, second = ksg.jittered(first, first, noise[0]), ksg.jittered(second, second, noise[1])
        bias = KSG(10, "ksg").information(first, second, pairs).mean()
    else:
        shuffled = second[torch.randperm(600, generator=torch.Generator().manual_seed(4))]
        bias = (KSG(10).information(first, second, pairs) - KSG(10).information(first, shuffled, pairs)).mean()
    assert abs(float(bias)) < 0.005


def test_plain_estimators_are_biased_there() -> None:
    first, second = normal(600, 10).relu(), normal(600, 10, seed=1).relu()
    assert float(KSG(10, "mixed").information(first, second, every_pair(10, 10)).mean()) > 0.03
    assert float(KSG(10, "ksg").information(first, second, every_pair(10, 10)).mean()) < -0.5


def test_unusable_layers_are_refused() -> None:
    first, second = relu_layers(20)
    with pytest.raises(ValueError, match="lower k"):
        KSG(20).information(first, second, every_pair(6, 5))
    first[3, 2] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        KSG(3).information(first, second, every_pair(6, 5))


def test_the_kernel_compiles_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    njit = neighbours.numba.njit

    def refuse(cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(neighbours.numba, "njit", refuse)
    assert neighbours.compiled(lambda x: x + 1)(2) == 3
