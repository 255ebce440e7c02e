"""A verdict over tasks needs six of them, and finds the better method."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mibench.statistics.across import across


def test_tests_over_tasks_find_the_better_method_and_want_six_tasks() -> None:
    rng = np.random.default_rng(19)
    means = rng.normal(size=(12, 1)) + np.array([2.0, 0.0, 0.1]) + 0.05 * rng.normal(size=(12, 3))
    assert across(means[:5]) is None
    assert across(means[:, :2]) is None
    verdict = across(means)
    assert verdict is not None
    assert verdict.friedman == pytest.approx(stats.friedmanchisquare(*means.T).pvalue)
    assert verdict.wilcoxon[0, 1] < 0.01
    assert verdict.nemenyi[0, 1] < 0.01
    np.testing.assert_allclose(verdict.nemenyi, verdict.nemenyi.T)


def test_equal_methods_tie_over_tasks() -> None:
    means = np.repeat(np.random.default_rng(20).normal(size=(8, 1)), 3, axis=1)
    verdict = across(means)
    assert verdict is not None
    assert verdict.friedman == 1
    assert verdict.wilcoxon.min() > 0.05
