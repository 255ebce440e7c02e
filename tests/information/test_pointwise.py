"""Marginal, conditional and additive information, of enumerated tables and over all orders of arrival."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mibench.information.pointwise import FLOOR, MAX_SOURCES, agreement, of_class, pointwise


def beliefs(joint: Tensor, shown: tuple[int, ...]) -> Tensor:
    """p(y | x_S) for every S of one sample, by summing the table p(y, x_1, …) over what is not seen; (2^K, A)."""
    found = []
    for number in range(2 ** len(shown)):
        left = joint
        for source in reversed(range(len(shown))):
            left = left.select(source + 1, shown[source]) if number >> source & 1 else left.sum(source + 1)
        found.append(left / left.sum())
    return torch.stack(found)


def by_orders(values: Tensor) -> list[float]:
    """Shapley values of v (2^K,) as the definition has them: the mean gain over all orders in which sources arrive."""
    sources = len(values).bit_length() - 1
    gains = [0.0] * sources
    for order in itertools.permutations(range(sources)):
        seen = 0
        for source in order:
            gains[source] += float(values[seen | 1 << source] - values[seen])
            seen |= 1 << source
    return [gain / math.factorial(sources) for gain in gains]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 10_000))
def test_the_additive_values_are_mean_gains_over_all_orders(sources: int, seed: int) -> None:
    values = torch.randn(1, 2**sources, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = pointwise(values)
    assert found["additive"][0].tolist() == pytest.approx(by_orders(values[0]))
    assert float(found["additive"].sum()) == pytest.approx(float(values[0, -1] - values[0, 0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_three_follow_from_the_table_of_probabilities(seed: int) -> None:
    joint = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05
    joint = joint / joint.sum()
    label, first, second = 1, 0, 2
    found = of_class(beliefs(joint, (first, second))[None], torch.tensor([label]))
    alone = joint.sum(2)  # p(y, x_1)
    marginal = math.log(alone[label, first] / (alone.sum(1)[label] * alone.sum(0)[first]))
    other = joint[:, :, second]  # p(y, x_1, x_2 = second)
    conditional = math.log(other[label, first] * other.sum() / (other.sum(1)[label] * other.sum(0)[first]))
    assert float(found["marginal"][0, 0]) == pytest.approx(marginal)
    assert float(found["conditional"][0, 0]) == pytest.approx(conditional)
    both = marginal + conditional  # of two sources the Shapley value is the mean of arriving first and last
    assert float(found["additive"][0, 0]) == pytest.approx(both / 2)


def test_shared_and_summed_labels_part_the_three() -> None:
    size, whole = 4, math.log(4)
    shared, summed = torch.zeros(2, size, size, size, dtype=torch.float64)
    for a, b in itertools.product(range(size), repeat=2):
        shared[a, a, a] = 1 / size
        summed[(a + b) % size, a, b] = 1 / size**2
    for joint, shown, marginal, conditional in ((shared, (1, 1), whole, 0.0), (summed, (3, 2), 0.0, whole)):
        found = of_class(beliefs(joint, shown)[None], torch.tensor([1]))
        assert found["marginal"].tolist() == [pytest.approx([marginal] * 2)]
        assert found["conditional"].tolist() == [pytest.approx([conditional] * 2)]
        assert found["additive"].tolist() == [pytest.approx([whole / 2] * 2)]


def test_a_class_that_is_ruled_out_has_the_floor_left() -> None:
    known = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]])
    found = of_class(known, torch.tensor([1]))
    assert float(found["marginal"]) == pytest.approx(math.log(FLOOR) - math.log(0.5))


def test_more_than_eight_sources_are_refused() -> None:
    with pytest.raises(ValueError, match=f"Shapley values of 9 sources .* choose 1 to {MAX_SOURCES}"):
        pointwise(torch.zeros(1, 2**9))


def test_the_figures_of_agreement_are_differences_and_errors_in_nats() -> None:
    ideal = torch.tensor([[[0.5, 0.5], [0.2, 0.8]]]).double()
    network = torch.tensor([[[0.5, 0.5], [0.4, 0.6]]]).double()
    errors = torch.tensor([[[0.0, 0.0], [0.0, 0.03]]]).double()
    figures = agreement(ideal, network, errors, torch.tensor([[0.7, 0.3]]), torch.tensor([1]))
    assert figures["marginal gap"] == figures["additive gap"] == pytest.approx(math.log(0.8 / 0.6))
    assert figures["conditional largest error"] == pytest.approx(0.05)
    assert figures["leak"] == pytest.approx(math.log(0.6 / 0.3))
