"""The closed forms agree with each other, with sampling and with what must hold for any information."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mibench.information import exact


@pytest.mark.parametrize(("correlation", "dimensions", "nats"), [(0.0, 1, 0.0), (0.9, 1, 0.830), (0.9, 5, 4.152)])
def test_gaussian_pairs_have_the_known_information(correlation: float, dimensions: int, nats: float) -> None:
    assert exact.gaussian_pair(correlation, dimensions) == pytest.approx(nats, abs=5e-4)


def test_the_determinants_give_what_the_correlation_gives() -> None:
    rho = 0.7
    covariance = torch.tensor([[1, 0, rho, 0], [0, 1, 0, rho], [rho, 0, 1, 0], [0, rho, 0, 1]], dtype=torch.float64)
    assert exact.gaussian(covariance, 2) == pytest.approx(exact.gaussian_pair(rho, 2), abs=1e-9)


def test_the_mean_of_the_pointwise_values_is_the_information() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, 1, generator=generator)
    z = 0.8 * x + 0.6 * torch.randn(200_000, 1, generator=generator)
    assert float(exact.gaussian_pointwise(x, z, 0.8).mean()) == pytest.approx(exact.gaussian_pair(0.8), abs=0.01)


def test_pointwise_values_are_the_ratio_of_densities() -> None:
    x, z, rho = torch.tensor([[0.3]]), torch.tensor([[-1.2]]), 0.6
    joint = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[1, rho], [rho, 1]]))
    single = torch.distributions.Normal(0.0, 1.0)
    ratio = joint.log_prob(torch.cat([x, z], 1)) - single.log_prob(x[:, 0]) - single.log_prob(z[:, 0])
    torch.testing.assert_close(exact.gaussian_pointwise(x, z, rho), ratio)


def test_a_label_that_is_copied_tells_its_entropy_and_a_coin_tells_nothing() -> None:
    assert exact.discrete(torch.eye(6)) == pytest.approx(math.log(6))
    assert exact.discrete(torch.ones(2, 3)) == pytest.approx(0.0)
    assert exact.entropy(torch.ones(6)) == pytest.approx(math.log(6))


def test_certainty_is_refused() -> None:
    with pytest.raises(ValueError, match=r"inside \(-1, 1\)"):
        exact.gaussian_pair(1.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=12, max_size=12).filter(lambda counts: sum(counts) > 0))
def test_information_is_never_negative_nor_above_either_entropy(counts: list[int]) -> None:
    joint = torch.tensor(counts, dtype=torch.float64).reshape(3, 4)
    found = exact.discrete(joint)
    assert -1e-9 <= found <= min(exact.entropy(joint.sum(0)), exact.entropy(joint.sum(1))) + 1e-9
