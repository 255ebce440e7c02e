"""What is equal ties, what differs is found, and p values are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mibench.statistics.bootstrap import intervals
from mibench.statistics.pairs import Pairs, holm, pairs, samples_needed, step_down
from tests.statistics.boots import boot_of


def test_differences_of_one_size_are_as_sure_as_their_signs() -> None:
    hits = np.zeros((2, 1, 40))
    hits[0, 0, :9], hits[1, 0, 39] = 1, 1
    assert pairs(boot_of(hits)).p[0, 1] >= 0.9 * stats.binomtest(9, 10).pvalue
    assert pairs(boot_of(np.arange(2.0)[:, None, None] + np.zeros((2, 1, 4)))).p[0, 1] == 2**-3


def test_a_large_difference_is_found_and_the_better_method_is_above() -> None:
    rng = np.random.default_rng(9)
    hardness = rng.normal(size=(1, 1, 64))
    told = pairs(boot_of(hardness + np.array([0.0, 1.0, 0.5])[:, None, None] + 0.3 * rng.normal(size=(3, 1, 64))))
    assert told.rank.tolist() == [3, 1, 2]
    assert told.letters == ("c", "a", "b")
    assert [each.tolist() for each in told.rank_interval] == [[3, 1, 2], [3, 1, 2]]


def test_pairing_finds_what_separate_intervals_would_not() -> None:
    rng = np.random.default_rng(10)
    hardness = 5 * rng.normal(size=(1, 1, 64))
    boot = boot_of(hardness + np.array([0.0, 0.3])[:, None, None] + 0.2 * rng.normal(size=(2, 1, 64)))
    low, high = intervals(boot)
    assert low[1] < high[0]
    assert pairs(boot).above[1, 0]


def test_identical_methods_tie_and_share_their_rank() -> None:
    one = np.random.default_rng(11).normal(size=(1, 1, 64))
    told = pairs(boot_of(np.concatenate([one, one - 3, one])))
    assert told.rank.tolist() == [1, 3, 1]
    assert told.p[0, 2] == 1
    assert told.letters == ("a", "b", "a")
    assert np.isinf(told.needed[0, 2])


def test_constant_scores_that_differ_are_told_apart_and_have_no_width() -> None:
    boot = boot_of(np.stack([np.full((1, 40), 0.25), np.full((1, 40), 0.75)]))
    low, high = intervals(boot)
    np.testing.assert_allclose(low, high)
    assert pairs(boot).above.tolist() == [[False, False], [True, False]]


def test_one_sample_tells_nothing_apart() -> None:
    boot = boot_of(np.array([[[0.0]], [[1.0]]]))
    assert np.isnan(intervals(boot)).all()
    assert not pairs(boot).above.any()
    assert pairs(boot).letters == ("a", "a")


def test_one_method_stands_alone() -> None:
    told = pairs(boot_of(np.random.default_rng(12).normal(size=(1, 1, 20))))
    assert told.rank.tolist() == [1]
    assert told.letters == ("a",)


def test_step_down_is_what_its_definition_says() -> None:
    rng = np.random.default_rng(16)
    z, drawn = np.abs(rng.normal(size=6)) * 1.5, np.abs(rng.normal(size=(6, 200)))
    adjusted, largest = step_down(z, lambda k: drawn[k])
    assert largest.tolist() == drawn.max(0).tolist()
    order, worst = sorted(range(6), key=lambda k: -z[k]), 0.0
    for place, k in enumerate(order):
        left = order[place:]
        exceed = sum(max(row[m] for m in left) >= z[k] for row in drawn.T)
        worst = max(worst, (1 + exceed) / 201)
        assert adjusted[k] == pytest.approx(worst)


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_methods_share_a_letter_if_and_only_if_they_tie(methods: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=methods)
    p = np.triu(rng.choice([0.01, 0.5], size=(methods, methods)), 1)
    difference = mean[:, None] - mean
    told = Pairs(difference, p + p.T + np.eye(methods), np.ones_like(p))
    apart = told.above | told.above.T
    for i in range(methods):
        for j in range(methods):
            assert bool({*told.letters[i]} & {*told.letters[j]}) == (not apart[i, j])
    assert "a" in told.letters[int(mean.argmax())]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_ranks_lie_in_their_intervals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    told = pairs(boot_of(rng.normal(size=(6, 1, 12)) + rng.normal(size=(6, 1, 1)), draws=100))
    low, high = told.rank_interval
    assert (low <= told.rank).all()
    assert (told.rank <= high).all()


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(21).random(9) ** 3
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])


@pytest.mark.parametrize("seeded", [0.0, 0.001, 0.004])
def test_with_the_samples_needed_a_difference_just_reaches_the_power(seeded: float) -> None:
    difference, spread, strict = 0.2, 1.7, 2.1
    needed = float(samples_needed(np.array(difference), np.array(spread), np.array(seeded), strict, power=0.8))

    def power(count: float) -> float:
        return float(stats.norm.cdf(difference / np.sqrt(spread / count + seeded) - strict))

    assert power(needed) >= 0.8 > power(needed - 1)


def test_no_samples_are_enough_where_the_seeds_alone_differ_as_much() -> None:
    assert samples_needed(np.array(0.2), np.array(1.7), np.array(0.01), 2.1) == np.inf
