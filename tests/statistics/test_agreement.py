"""Orders are compared as scipy compares them, and intervals of bent statistics reach to the further side."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mibench.statistics.agreement import around, taus


def test_tau_is_that_of_scipy() -> None:
    rng = np.random.default_rng(17)
    means = rng.integers(0, 5, (20, 3, 7)).astype(float)
    means[:, 2, 6] = np.nan  # a method that the last metric does not rank
    for found, orders in zip(taus(means), means, strict=True):
        for k, one in enumerate(orders):
            for m, other in enumerate(orders):
                theirs = stats.kendalltau(one, other, nan_policy="omit").statistic
                assert found[k, m] == pytest.approx(theirs, nan_ok=True)


def test_an_interval_around_a_bent_statistic_reaches_to_the_further_side() -> None:
    draws = np.linspace(-1, 0.5, 1001)
    low, high = around(0.4, draws)
    assert low == pytest.approx(np.quantile(draws, 0.025))
    assert high == pytest.approx(0.8 - np.quantile(draws, 0.025))
    assert np.isnan(around(0.4, np.full(5, np.nan))).all()


@pytest.mark.parametrize("draws", [np.linspace(0, 1, 1001) ** 3, 1 - np.linspace(0, 1, 1001) ** 3])
def test_an_interval_around_a_bent_statistic_reaches_as_far_on_both_sides(draws: np.ndarray) -> None:
    observed = float(np.median(draws))
    low, high = around(observed, draws)
    further = np.abs(np.quantile(draws, [0.025, 0.975]) - observed).max()
    assert (observed - low, high - observed) == pytest.approx((further, further))
