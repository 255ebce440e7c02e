"""Counting estimators: one width of bins, and EDGE's ensemble of widths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor

from mibench.information.binning import Binning
from mibench.information.edge import EDGE, weights
from mibench.information.exact import gaussian_pair
from mibench.information.pairwise import every_pair


def correlated(rho: float, samples: int, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, samples, pairs, generator=generator, dtype=torch.float64)
    return x, rho * x + math.sqrt(1 - rho**2) * noise, torch.arange(pairs)[:, None].repeat(1, 2)


def test_binning_is_scikit_learns_score_of_the_binned_values() -> None:
    x, z, pairs = correlated(0.6, 300, 3)
    ours = Binning(8).information(x, z, pairs)
    for pair in range(3):
        a, b = (
            np.digitize(v, np.linspace(v.min(), v.max(), 9)[1:-1]) for v in (x[:, pair].numpy(), z[:, pair].numpy())
        )
        assert float(ours[pair]) == pytest.approx(mutual_info_score(a, b), abs=1e-9)


@pytest.mark.parametrize(("estimator", "error"), [(EDGE(), 0.04), (Binning(), 0.04)])
def test_gaussian_information_is_found(estimator: EDGE | Binning, error: float) -> None:
    estimate = estimator.information(*correlated(0.9, 2000, 10)).mean()
    assert float(estimate) == pytest.approx(gaussian_pair(0.9), abs=error)


def test_the_weights_of_edge_cancel_what_they_are_said_to() -> None:
    widths = (1.0, 1.5, 2.0, 3.0, 4.0)
    found = weights(widths)
    assert sum(found) == pytest.approx(1)
    assert sum(w * t**2 for w, t in zip(found, widths, strict=True)) == pytest.approx(0, abs=1e-9)
    assert sum(w * t**-2 for w, t in zip(found, widths, strict=True)) == pytest.approx(0, abs=1e-9)


def test_edge_has_less_bias_than_any_width_alone_without_information() -> None:
    x, z, pairs = correlated(0.0, 2000, 10)
    alone = [float(Binning(bins).information(x, z, pairs).mean()) for bins in (16, 24, 32, 48)]
    assert abs(float(EDGE().information(x, z, pairs).mean())) < min(alone)


@pytest.mark.parametrize("estimator", [EDGE(), Binning()])
def test_the_mean_of_the_pointwise_values_is_the_estimate(estimator: EDGE | Binning) -> None:
    x, z, pairs = correlated(0.5, 200, 4)
    values = estimator.pointwise(x, z, pairs)
    assert torch.allclose(values.mean(1), estimator.information(x, z, pairs), atol=1e-12)


def test_a_new_sample_is_counted_as_one_more() -> None:
    x, z, pairs = correlated(0.5, 100, 3)
    middle = int((x[:, 0].abs() + z[:, 0].abs()).argmin())  # not at the ends, which set where the bins are
    others = torch.arange(100) != middle
    ours = Binning(6).pointwise(x[others], z[others], pairs[:1], (x[[middle]], z[[middle]]))
    assert torch.allclose(ours[0], Binning(6).pointwise(x, z, pairs[:1])[0, [middle]], atol=1e-12)


@pytest.mark.parametrize("estimator", [EDGE(), Binning()])
def test_a_constant_neuron_has_no_information_and_new_values_are_allowed(estimator: EDGE | Binning) -> None:
    x, z, _ = correlated(0.5, 100, 2)
    x[:, 1] = 4.0
    values = estimator.pointwise(x, z, every_pair(2, 2), (torch.full((1, 2), 1e6), torch.zeros(1, 2)))
    assert torch.isfinite(values).all()
    assert torch.equal(values[2:], torch.zeros(2, 1).double())


def test_nan_is_refused() -> None:
    x, z, pairs = correlated(0.5, 100, 2)
    x[0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        EDGE().information(x, z, pairs)
