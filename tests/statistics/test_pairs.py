"""What is equal ties, what differs is found, and p values are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mibench.statistics.pairs import Pairs, holm, samples_needed, step_down
from mibench.statistics.seeds import parts
from tests.statistics.boots import fits_of, means_of, pairs_of


def test_differences_of_one_size_are_as_sure_as_their_signs() -> None:
    hits = np.zeros((2, 1, 40))
    hits[0, 0, :9], hits[1, 0, 39] = 1, 1
    assert pairs_of(hits).p[0, 1] >= stats.binomtest(9, 10).pvalue
    assert pairs_of(np.arange(2.0)[:, None, None] + np.zeros((2, 1, 4))).p[0, 1] == 2**-3


def test_a_single_pair_of_rows_that_need_no_seed_is_students_paired_test() -> None:
    scores = np.random.default_rng(3).normal(size=(2, 1, 40))
    theirs = stats.ttest_rel(scores[0, 0], scores[1, 0])
    found = pairs_of(scores)
    assert found.p[0, 1] == pytest.approx(theirs.pvalue)
    assert found.difference[0, 1] == pytest.approx(scores[0].mean() - scores[1].mean())
    assert (found.low[0, 1], found.high[0, 1]) == pytest.approx((-found.high[1, 0], -found.low[1, 0]))
    assert found.low[0, 1] < found.difference[0, 1] < found.high[0, 1]


def test_a_pair_of_moderated_rows_adds_their_variances_with_welchs_freedom() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(2, 3, 40)) + 0.3 * rng.normal(size=(2, 3, 1))
    found, one = parts((scores[:1] - scores[1:]).mean(1)[:, None]), parts(scores)
    b = (8 * 0.05 / 3 + 2 * one.between) / 10
    ordinary = max(0.0, found.sampled[0] - one.rest.sum())
    welch = (b.sum() ** 2) / (b**2 / 12).sum() - 2
    share = b.sum() / (ordinary + b.sum())
    freedom = 1 / ((1 - share) / 39 + share / welch)
    expected = 2 * stats.t.sf(abs(found.mean[0]) / np.sqrt(ordinary + b.sum()), freedom)
    assert pairs_of(scores, fits_of(2, 0.05)).p[0, 1] == pytest.approx(expected)


def test_rows_of_one_fit_are_compared_within_each_seed() -> None:
    rng = np.random.default_rng(5)
    fit = rng.normal(size=(1, 3, 1))
    scores = rng.normal(size=(1, 1, 40)) + fit + np.array([0.0, 0.5])[:, None, None] + 0.2 * rng.normal(size=(2, 3, 40))
    apart = pairs_of(scores, fits_of(2, 0.5)).p[0, 1]
    together = pairs_of(scores, fits_of(2, 1e-4, source=np.zeros(2, int))).p[0, 1]
    assert together < 1e-6 < 0.05 < apart
    within = parts(scores[:1] - scores[1:])
    b = (16 * 2e-4 / 3 + 2 * within.between[0]) / 18
    variance = max(0.0, within.sampled[0] - within.rest[0]) + b
    share = b / variance
    freedom = 1 / ((1 - share) / 39 + share / 18)
    assert together == pytest.approx(2 * stats.t.sf(abs(within.mean[0]) / np.sqrt(variance), freedom))


def test_where_each_seed_has_a_network_the_networks_own_scatter_cancels() -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal(size=(1, 1, 40)) + 2 * rng.normal(size=(1, 3, 1)) + 0.1 * rng.normal(size=(3, 3, 40))
    scores += np.array([0.0, 0.2, 0.4])[:, None, None]
    own = pairs_of(scores, fits_of(3, 1e-4, seeded=False, networks=True))
    assert np.triu(own.above.T, 1).sum() == 3
    assert own.difference[0, 1] == pytest.approx((scores[0] - scores[1]).mean())


def test_a_pair_is_judged_on_the_samples_that_both_rows_have() -> None:
    easy = np.random.default_rng(7).normal(size=(1, 1, 40))
    easy[..., :3] = 50.0
    lucky = easy.copy()
    lucky[..., :3] = np.nan
    found = pairs_of(np.concatenate([easy, lucky]))
    assert found.difference[0, 1] == 0
    assert found.mean[0] > found.mean[1] + 3


@pytest.mark.parametrize(("bounds", "size"), [((0.0, 2.0), 2.0), ((-np.inf, np.inf), 0.5 + 0.5)])
def test_a_difference_within_rounding_is_none(bounds: tuple[float, float], size: float) -> None:
    for share, apart in ((0.9e-6, False), (1.1e-6, True)):
        scores = np.full((2, 1, 40), 0.5)
        scores[1] += share * size
        assert pairs_of(scores, bounds=bounds).above.any() == apart


def test_pairing_finds_what_separate_intervals_would_not() -> None:
    rng = np.random.default_rng(10)
    hardness = 5 * rng.normal(size=(1, 1, 64))
    scores = hardness + np.array([0.0, 0.3])[:, None, None] + 0.2 * rng.normal(size=(2, 1, 64))
    low, high = means_of(scores).intervals()
    assert low[1] < high[0]
    assert pairs_of(scores).above[1, 0]


def test_a_large_difference_is_found_and_the_better_row_is_best() -> None:
    rng = np.random.default_rng(9)
    hardness = rng.normal(size=(1, 1, 64))
    told = pairs_of(hardness + np.array([0.0, 1.0, 0.5])[:, None, None] + 0.3 * rng.normal(size=(3, 1, 64)))
    assert told.rank.tolist() == [3, 1, 2]
    assert told.leading == ("", "best", "")
    assert [each.tolist() for each in told.rank_interval] == [[3, 1, 2], [3, 1, 2]]


def test_equal_rows_tie_share_their_rank_and_are_both_best() -> None:
    one = np.random.default_rng(11).normal(size=(1, 1, 64))
    told = pairs_of(np.concatenate([one, one - 3, one]))
    assert told.rank.tolist() == [1, 3, 1]
    assert told.p[0, 2] == 1
    assert told.leading == ("best", "", "best")
    assert np.isinf(told.needed[0, 2])


def test_constant_scores_that_differ_are_told_apart_and_have_no_width() -> None:
    scores = np.stack([np.full((1, 40), 0.25), np.full((1, 40), 0.75)])
    low, high = means_of(scores).intervals()
    np.testing.assert_allclose(low, high)
    assert pairs_of(scores).above.tolist() == [[False, False], [True, False]]


def test_one_sample_tells_nothing_apart() -> None:
    scores = np.array([[[0.0]], [[1.0]]])
    assert np.isnan(means_of(scores).intervals()).all()
    assert not pairs_of(scores).above.any()
    assert pairs_of(scores).leading == ("with the best", "best")


def test_one_row_is_compared_with_nobody() -> None:
    told = pairs_of(np.random.default_rng(12).normal(size=(1, 1, 20)))
    assert told.rank.tolist() == [1]
    assert told.leading == ("best",)
    assert told.compared == 0


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


def test_few_samples_and_variances_without_a_prior_are_adjusted_by_holm() -> None:
    scores = np.random.default_rng(18).normal(size=(4, 3, 29)) + np.arange(4)[:, None, None] / 4
    for samples, level in ((29, 0.1), (29, np.nan)):
        found = pairs_of(scores[..., :samples], fits_of(4, level))
        single = [
            pairs_of(scores[[i, j]], fits_of(2, level)).p[0, 1] for i, j in zip(*np.triu_indices(4, 1), strict=True)
        ]
        assert found.p[np.triu_indices(4, 1)] == pytest.approx(holm(np.array(single)))


def _apart_from(seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(2, 9))
    mean, p = rng.normal(size=rows), np.triu(rng.choice([0.01, 0.5], size=(rows, rows)), 1)
    difference, none = mean[:, None] - mean, np.ones((rows, rows))
    return Pairs(mean, difference, none, none, p + p.T + np.eye(rows), none, rows)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_who_leads_is_below_nobody_and_its_bar_touches_the_firsts(seed: int) -> None:
    told = _apart_from(seed)
    first, half = int(told.mean.argmax()), told.bars
    assert told.leading[first] == "best"
    for row, word in enumerate(told.leading):
        assert bool(word) == (not told.above[:, row].any())
        if word:
            assert abs(told.mean[row] - told.mean[first]) <= half[row] + half[first]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_ranks_lie_in_their_intervals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    told = pairs_of(rng.normal(size=(6, 1, 12)) + rng.normal(size=(6, 1, 1)), draws=100)
    low, high = told.rank_interval
    assert (low <= told.rank).all()
    assert (told.rank <= high).all()


@given(st.integers(0, 2**32 - 1), st.permutations(range(6)), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_what_is_said_of_two_rows_is_the_same_whoever_else_is_there(seed: int, order: list[int], kept: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(6, 3, 40)) + rng.normal(size=(6, 3, 1)) / 4
    scores[order[0], :, :5] = np.nan
    sources = np.array([0, 0, 1, 2, 3, 4])
    whole, some = (
        pairs_of(scores[rows], fits_of(len(rows), 0.05, source=sources[rows])) for rows in (range(6), order[:kept])
    )
    both = np.ix_(order[:kept], order[:kept])
    for name in ("difference", "low", "high"):
        np.testing.assert_allclose(getattr(some, name), getattr(whole, name)[both], atol=1e-12)
    if kept == 6:
        np.testing.assert_allclose(some.p, whole.p[both], atol=1e-12)


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
