"""The variational bound is exact on independent Gaussians, and too large where coordinates repeat each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mibench.information import exact, vib
from mibench.information.critic import minibatches


def fitted(x: Tensor, z: Tensor) -> Tensor:
    """E KL( p(z|x) || N(0, I) ) with p(z|x) learned by likelihood."""
    generator = torch.Generator().manual_seed(0)
    head = vib.GaussianHead(x.shape[1], z.shape[1], 64, generator)
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
    for _ in range(20):
        for index in minibatches(len(x), 200, generator):
            loss = vib.negative_log_likelihood(z[index], *head(x[index])).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    with torch.no_grad():
        return vib.kl_to_standard(*head(x))


@pytest.mark.parametrize("dimensions", [1, 5])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.99])
def test_the_bound_is_the_information_of_independent_gaussian_pairs(correlation: float, dimensions: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2000, dimensions, generator=generator)
    z = correlation * x + math.sqrt(1 - correlation**2) * torch.randn(2000, dimensions, generator=generator)
    sample = float(exact.gaussian_pointwise(x, z, correlation).mean())
    assert float(fitted(x, z).mean()) == pytest.approx(sample, abs=0.02 * dimensions)


def test_coordinates_that_repeat_each_other_are_counted_twice() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2000, 1, generator=generator)
    z = 0.9 * x + math.sqrt(0.19) * torch.randn(2000, 1, generator=generator)
    assert float(fitted(x, z.repeat(1, 3)).mean()) == pytest.approx(3 * exact.gaussian_pair(0.9), abs=0.15)


def test_the_divergence_is_torchs() -> None:
    mean, log_variance = torch.randn(4, 3), torch.randn(4, 3)
    given = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(torch.zeros(4, 3), torch.ones(4, 3))
    torch.testing.assert_close(
        vib.kl_to_standard(mean, log_variance), torch.distributions.kl_divergence(given, standard).sum(1)
    )
    z = torch.randn(4, 3)
    torch.testing.assert_close(vib.negative_log_likelihood(z, mean, log_variance), -given.log_prob(z).sum(1))


def test_a_bound_is_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 1000, 4, generator=generator)
    assert float(vib.kl_to_standard(mean, log_variance).min()) >= 0
