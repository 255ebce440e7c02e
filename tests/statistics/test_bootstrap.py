"""The bootstrap is what a loop gives, intervals are those of scipy, and the same scores give the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mibench.statistics.bootstrap import bootstrap, generator, intervals, pool, resamples
from mibench.statistics.pairs import pairs
from tests.statistics.boots import boot_of


def test_the_bootstrap_is_what_a_loop_over_resamples_gives() -> None:
    scores = np.random.default_rng(4).normal(size=(3, 1, 11))
    weights = resamples(11, generator("loop"), 50)
    boot = bootstrap(scores, weights, generator("none"))
    for b, counts in enumerate(weights):
        drawn = [i for i, count in enumerate(counts) for _ in range(count)]
        assert len(drawn) == 11
        for m in range(3):
            assert boot.draws[b, m] == pytest.approx(sum(scores[m, 0, i] for i in drawn) / 11, abs=1e-12)


def test_intervals_agree_with_those_of_scipy() -> None:
    scores = np.random.default_rng(5).exponential(size=64)
    theirs = stats.bootstrap((scores,), np.mean, method="BCa", n_resamples=20000, rng=np.random.default_rng(0))
    low, high = intervals(boot_of(scores[None, None], draws=20000))
    stretch = stats.t.ppf(0.975, 63) / stats.norm.ppf(0.975) * np.sqrt(64 / 63)
    mean = scores.mean()
    assert low[0] == pytest.approx(mean + stretch * (theirs.confidence_interval.low - mean), abs=0.01)
    assert high[0] == pytest.approx(mean + stretch * (theirs.confidence_interval.high - mean), abs=0.01)


def test_hits_alone_leave_room_for_the_miss_that_has_not_happened() -> None:
    boot = bootstrap(np.ones((1, 1, 64)), resamples(64, generator("x")), generator("y"), (0.0, 1.0))
    low, high = intervals(boot)
    assert low[0] == pytest.approx(stats.binomtest(64, 64).proportion_ci().low)
    assert high[0] == 1
    assert low[0] == pytest.approx(0.944, abs=0.001)


def test_a_method_with_fewer_seeds_is_averaged_over_its_own() -> None:
    scores = np.random.default_rng(13).normal(size=(2, 3, 20))
    scores[1, 1:] = np.nan
    boot = boot_of(scores)
    np.testing.assert_allclose(boot.mean, [scores[0].mean(), scores[1, 0].mean()])
    assert boot.freedom.tolist() == [[2, 2], [2, np.inf]]
    assert boot.seeded[1] == 0


def test_the_same_scores_give_the_same_bytes_in_any_order_of_methods() -> None:
    scores = np.random.default_rng(14).normal(size=(5, 1, 64)) + np.arange(5)[:, None, None] / 5
    one, again = (np.array(intervals(boot_of(scores))).tobytes() for _ in range(2))
    assert one == again
    order = [3, 0, 4, 1, 2]
    p, shuffled = pairs(boot_of(scores)).p, pairs(boot_of(scores[order])).p
    np.testing.assert_allclose(shuffled, p[np.ix_(order, order)])
    assert generator("a", "b").random() != generator("ab").random()


def test_pooled_tasks_count_once_each() -> None:
    rng = np.random.default_rng(18)
    few, many = boot_of(rng.normal(0, 1, (2, 1, 20)), "few"), boot_of(rng.normal(4, 1, (2, 1, 2000)), "many")
    pooled = pool([few, many])
    np.testing.assert_allclose(pooled.mean, (few.mean + many.mean) / 2)
    low, high = intervals(pooled)
    wide = np.subtract(*intervals(few)[::-1]) / 2
    np.testing.assert_allclose(high - low, wide, rtol=0.1)


def test_four_tasks_like_one_are_four_times_as_sure_and_less_skewed() -> None:
    rng = np.random.default_rng(14)
    scores = rng.exponential(size=(3, 2, 20)) + rng.normal(size=(3, 2, 1))
    boot = boot_of(scores, draws=200)
    pooled = pool([boot] * 4)
    assert all(np.any(each > 0) for each in (boot.error, boot.between, boot.rest, boot.seeded))
    for name, times in (("error", 4), ("between", 4), ("rest", 4), ("seeded", 4), ("third", 16), ("mean", 1)):
        assert getattr(pooled, name) == pytest.approx(getattr(boot, name) / times)
