"""Intervals are what their equations say, step by step; no row's interval depends on another row."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from mibench.statistics.means import unskewed
from mibench.statistics.resampling import generator, resampled, resamples
from mibench.statistics.seeds import Ratio, averages, moderated, parts
from tests.statistics.boots import fits_of, means_of


def test_resampled_means_are_what_a_loop_over_resamples_gives() -> None:
    values = np.random.default_rng(4).normal(size=(3, 11))
    values[1, [2, 7]] = np.nan
    weights = resamples(11, generator("loop"), 50)
    found = resampled(values, weights) + np.nanmean(values, 1)
    for b, counts in enumerate(weights):
        drawn = [i for i, count in enumerate(counts) for _ in range(count)]
        assert len(drawn) == 11
        for m in range(3):
            assert found[b, m] == pytest.approx(np.nanmean([values[m, i] for i in drawn]), abs=1e-12)


def test_random_numbers_depend_on_where_names_end() -> None:
    assert generator("a", "b").random() != generator("ab").random()
    assert generator("a", "b").random() == generator("a", "b").random()


def test_the_parts_of_a_variance_are_those_of_an_analysis_of_variance() -> None:
    scores = np.random.default_rng(1).normal(size=(1, 3, 9)) + np.arange(3)[:, None]
    found, y = parts(scores), scores[0]
    rest = y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()
    assert found.mean[0] == pytest.approx(y.mean())
    assert found.sampled[0] == pytest.approx(y.mean(0).var(ddof=1) / 9)
    assert found.between[0] == pytest.approx(y.mean(1).var(ddof=1) / 3)
    assert found.rest[0] == pytest.approx((rest**2).sum() / (2 * 8) / 27)
    assert found.third[0] == pytest.approx(((y.mean(0) - y.mean()) ** 3).mean() / 81)


def test_a_sample_that_one_seed_lacks_is_left_out_and_a_missing_seed_not() -> None:
    scores = np.arange(12.0).reshape(1, 3, 4)
    scores[0, 1, 2], scores[0, 2] = np.nan, np.nan
    assert averages(scores)[0].tolist() == pytest.approx([2, 3, np.nan, 5], nan_ok=True)
    found = parts(scores)
    assert (found.samples[0], found.seeds[0]) == (3, 2)
    assert found.mean[0] == pytest.approx(10 / 3)
    assert found.between[0] == pytest.approx(np.var([4 / 3, 16 / 3], ddof=1) / 2)


def test_a_seeds_variance_is_pooled_with_the_prior_by_degrees_of_freedom() -> None:
    found = parts(np.random.default_rng(2).normal(size=(3, 3, 7)))
    between, freedom = moderated(found, np.array([True, True, False]), np.array([0.6, np.nan, 0.6]), 4.0)
    assert between.tolist() == pytest.approx([(4 * 0.6 / 3 + 2 * found.between[0]) / 6, found.between[1], 0])
    assert freedom.tolist() == [6, 2, np.inf]


def test_one_seed_takes_the_prior_as_it_is_and_without_it_is_alone() -> None:
    scores = np.random.default_rng(3).normal(size=(3, 1, 7))
    seeded = np.array([True, True, False])
    known, unknown = (means_of(scores, fits_of(3, level, seeded=seeded)) for level in (0.6, np.nan))
    assert [each.tolist() for each in known.between] == [[0.6, 0.6, 0], [8, 8, np.inf]]
    assert known.alone.tolist() == [False] * 3
    assert unknown.alone.tolist() == [True, True, False]
    assert unknown.between[0].tolist() == [0] * 3


def test_where_each_seed_has_a_network_no_row_is_free_of_seeds() -> None:
    scores = np.random.default_rng(5).normal(size=(2, 3, 7))
    found = means_of(scores, fits_of(2, 0.6, seeded=False, networks=True))
    assert (found.between[0] > 0.1).all()
    assert means_of(scores, fits_of(2, seeded=False)).between[0].tolist() == [0, 0]


def test_halls_transformation_is_undone() -> None:
    for a in (-0.9, -0.2, 1e-9, 0.3, 1.1):
        for wanted in (-2.5, -1.0, 0.0, 1.7):
            cubic = lambda t: t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6  # noqa: B023, E731
            root = optimize.brentq(lambda t: cubic(t) - wanted, -200, 200)  # noqa: B023
            assert float(unskewed(np.array(wanted), np.array(a))) == pytest.approx(root, abs=1e-6)


def test_the_interval_of_symmetric_scores_is_students() -> None:
    half = np.random.default_rng(6).exponential(size=20)
    scores = np.concatenate([half, -half])
    low, high = means_of(scores[None, None]).intervals()
    theirs = stats.ttest_1samp(scores, 0).confidence_interval()
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_of_skewed_scores_reaches_further_to_their_long_side() -> None:
    scores = np.random.default_rng(7).exponential(size=(1, 1, 40))
    low, high = means_of(scores).intervals()
    assert high[0] - scores.mean() > 1.2 * (scores.mean() - low[0])
    turned = means_of(-scores).intervals()
    assert (turned[1][0], turned[0][0]) == pytest.approx((-low[0], -high[0]))


def test_hits_alone_leave_room_for_the_miss_that_has_not_happened() -> None:
    low, high = means_of(np.ones((1, 1, 64)), bounds=(0.0, 1.0)).intervals()
    assert low[0] == pytest.approx(stats.binomtest(64, 64).proportion_ci().low)
    assert high[0] == 1
    assert low[0] == pytest.approx(0.944, abs=0.001)


def test_a_row_with_fewer_seeds_is_averaged_over_its_own() -> None:
    scores = np.random.default_rng(13).normal(size=(2, 3, 20))
    scores[1, 1:] = np.nan
    found = means_of(scores, fits_of(2, 0.1))
    np.testing.assert_allclose(found.mean, [scores[0].mean(), scores[1, 0].mean()])
    assert found.between[1].tolist() == [10, 8]


def test_a_rows_interval_is_the_same_to_the_bit_whoever_else_is_there() -> None:
    scores = np.random.default_rng(14).exponential(size=(5, 3, 64))
    scores[4, :, :30] = np.nan
    whole = np.array(means_of(scores, fits_of(5, 0.01)).intervals())
    for rows in ([3], [4, 0], [2, 1, 3]):
        some = np.array(means_of(scores, fits_of(5, 0.01))[rows].intervals())
        assert some.tobytes() == np.ascontiguousarray(whole[:, rows]).tobytes()


def test_with_several_seeds_the_rows_own_rest_shows_what_seeds_may_do() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(1, 3, 40)) + rng.normal(size=(1, 1, 40))
    found = parts(scores)
    prior, weight = np.array([1e-3]), 1.0
    between, freedom = moderated(found, np.array([True]), prior, weight, Ratio(2.0, 4.0, 20))
    expected = (4 * (1 + 40 / 20) * found.rest + 2 * found.between) / 6
    assert between == pytest.approx(expected)
    assert freedom == 6
    single = parts(scores[:, :1])
    assert moderated(single, np.array([True]), prior, weight, Ratio(2.0, 4.0, 20))[0] == pytest.approx(prior)
