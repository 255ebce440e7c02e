"""Neighbour estimators against scikit-learn, a plain reading of Gao et al. (2017), and known information."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression
from torch import Tensor

from mibench.information import ksg
from mibench.information.exact import discrete, gaussian_pair


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(rho: float, samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x, noise = normal(samples, seed=seed), normal(samples, seed=seed + 1)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def gao(x: Tensor, z: Tensor, k: int, counting: str = "psi") -> Tensor:
    """Gao et al. (2017), sample by sample and neighbour by neighbour, as their code reads."""
    count = digamma if counting == "psi" else math.log
    samples, values = len(x), []
    for i in range(samples):
        dx = [abs(float(x[i] - x[j])) for j in range(samples)]
        dz = [abs(float(z[i] - z[j])) for j in range(samples)]
        together = [max(a, b) for a, b in zip(dx, dz, strict=True)]
        rho, neighbours = sorted(together)[k], k  # the nearest of all is the sample itself
        if rho == 0:
            neighbours = sum(d == 0 for d in together)
            nx, nz = sum(d == 0 for d in dx), sum(d == 0 for d in dz)
        else:
            nx, nz = sum(d < rho for d in dx), sum(d < rho for d in dz)
        values.append(digamma(neighbours) + math.log(samples) - count(nx) - count(nz))
    return torch.tensor(values, dtype=torch.float64)


def with_atoms(samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two ReLUs of correlated inputs: both at zero, one at zero, none at zero; and some rounded values."""
    x, z = correlated(0.7, samples, seed)
    x = x.relu()
    z = torch.where(torch.arange(samples) % 3 == 0, (4 * z.relu()).round() / 4, z.relu())
    return x, z


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ksg_is_scikit_learns_on_continuous_samples(k: int) -> None:
    x, z = correlated(0.8, 400)
    theirs = mutual_info_regression(x[:, None].numpy(), z.numpy(), n_neighbors=k, random_state=0)[0]
    scaled = [v / v.std(correction=0) for v in (x, z)]
    assert ksg.ksg(*scaled, k=k) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("counting", ["psi", "log"])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_mixed_ksg_is_a_plain_reading_of_gao_on_samples_with_atoms(k: int, counting: ksg.Counting) -> None:
    x, z = with_atoms(90)
    ours = ksg.pointwise(x, z, k=k, counting=counting)
    assert torch.allclose(ours, gao(x, z, k, counting), atol=1e-9, rtol=0)


def test_the_mean_of_the_pointwise_values_is_the_estimate() -> None:
    x, z = with_atoms(200)
    assert ksg.mixed_ksg(x, z, k=4) == pytest.approx(float(ksg.pointwise(x, z, k=4).mean()), abs=1e-12)


@pytest.mark.parametrize(("rho", "error"), [(0.0, 0.02), (0.5, 0.02), (0.9, 0.02), (0.99, 0.05)])
def test_ksg_knows_the_information_of_gaussians(rho: float, error: float) -> None:
    estimates = [ksg.ksg(*correlated(rho, 2000, seed), k=3) for seed in range(0, 120, 10)]
    assert np.mean(estimates) == pytest.approx(gaussian_pair(rho), abs=error)


def test_ksg_falls_short_in_five_dimensions_as_it_is_known_to() -> None:
    x, noise = normal(2000, 5), normal(2000, 5, seed=1)
    estimate = ksg.ksg(x, 0.9 * x + math.sqrt(1 - 0.81) * noise, k=3)
    assert -1.4 < estimate - gaussian_pair(0.9, 5) < -1.0


def test_mixed_ksg_knows_the_information_of_discrete_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    x, guess = torch.randint(4, (2, 3000), generator=generator)
    z = torch.where(torch.rand(3000, generator=generator) < 0.7, x, guess)
    counts = torch.zeros(4, 4).index_put((x, z), torch.ones(3000), accumulate=True)
    assert ksg.mixed_ksg(x, z) == pytest.approx(discrete(counts), abs=0.005)


def test_two_names_for_one_variable_reach_the_ceiling_none_exceeds() -> None:
    x = normal(500)
    assert ksg.ksg(x, x, k=3) == pytest.approx(ksg.ceiling(500, 3), abs=1e-9)
    assert ksg.ksg(*correlated(0.999999, 500), k=3) < ksg.ceiling(500, 3) < gaussian_pair(0.999999)


def test_jitter_leaves_information_and_constants_alone_and_parts_atoms() -> None:
    x = torch.stack([normal(100).relu(), torch.full((100,), 3.0)], 1)
    jittered = ksg.jittered(x, x, normal(100, 2, seed=5))
    assert len(jittered[:, 0].unique()) == 100
    assert len(jittered[:, 1].unique()) == 1
    assert torch.allclose(jittered[:, 0], x[:, 0].double() / x[:, 0].std(correction=0), atol=1e-8)


def test_unusable_samples_are_refused_with_the_mend() -> None:
    x = normal(5)
    with pytest.raises(ValueError, match="5 samples, but 5 neighbours need at least 6: lower k"):
        ksg.ksg(x, x, k=5)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ksg.ksg(torch.tensor([1.0, math.nan, 2.0, 3.0]), normal(4), k=1)
    with pytest.raises(ValueError, match="pairs"):
        ksg.ksg(x, normal(6), k=2)


def test_duplicate_samples_are_no_error() -> None:
    x, z = correlated(0.5, 30)
    assert math.isfinite(ksg.mixed_ksg(x.repeat(4), z.repeat(4), k=3))
