"""Comparison bars touch where rows are tied, and are apart where rows are apart if any bars can show it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mibench.statistics.bars import bars, touch


def _apart(mean: np.ndarray, reach: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(mean[:, None] - mean) > reach[:, None] + reach)


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_bars_show_every_verdict_that_bars_can_show(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, reach = rng.normal(size=rows), rng.exponential(size=rows)
    apart = _apart(mean, reach) & (np.abs(mean[:, None] - mean) > 1.01 * (reach[:, None] + reach))
    tied = ~_apart(mean, reach)
    if (apart | tied).all():  # no verdict within a hundredth of its edge
        half = bars(mean, apart)
        assert (half >= 0).all()
        assert (touch(mean, half) == ~apart).all()


@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_tied_rows_touch_whatever_the_verdicts(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, upper = rng.normal(size=rows), np.triu(rng.random((rows, rows)) < 0.5, 1)
    apart = upper | upper.T
    assert (touch(mean, bars(mean, apart)) | apart).all()


def test_of_two_tied_rows_each_bar_reaches_the_other_and_no_further() -> None:
    half = bars(np.array([0.0, 3.0]), np.zeros((2, 2), bool))
    assert abs(half.sum() - 3) < 1e-4


def test_equal_rows_and_single_rows_need_no_bars() -> None:
    assert bars(np.full(3, 0.5), np.zeros((3, 3), bool)).tolist() == [0, 0, 0]
    assert bars(np.array([0.5]), np.zeros((1, 1), bool)).tolist() == [0]
    assert bars(np.empty(0), np.zeros((0, 0), bool)).tolist() == []


def test_a_near_pair_apart_and_a_far_pair_tied_cannot_both_be_shown() -> None:
    mean = np.array([0.0, 1.0, 10.0])
    apart = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)  # the third is uncertain
    half = bars(mean, apart)
    assert (touch(mean, half) == ~apart).all()
    locked = np.array([[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]], bool)
    mean = np.array([0.0, 3.0, 1.0, 2.0])  # tied 3 apart, separated 1 apart: u0 + u1 >= 3, u2 + u3 >= 1, sums < 2
    found = touch(mean, bars(mean, locked))
    assert (found | locked).all()
    assert (found & locked).any()
