"""Intervals cover as often as they say; what is equal ties, what differs is found; same scores, same bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mibench.statistics import statistics as ours

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(2.0, 3.0, shape), 2.0),
    "exponential": (lambda rng, shape: rng.exponential(1.0, shape), 1.0),
    "beta, near its bound": (lambda rng, shape: rng.beta(2, 8, shape), 0.2),
}


def bootstrap(scores: np.ndarray, name: str = "test", draws: int = ours.DRAWS) -> ours.Bootstrap:
    weights = ours.resamples(scores.shape[2], ours.generator(name, "samples"), draws)
    return ours.bootstrap(scores, weights, ours.generator(name, "seeds"))


def coverage(draw: Callable[[], np.ndarray], truth: float, repeats: int = 8) -> float:
    """How often the intervals of (M, S, n) scores hold the truth, over repeated draws."""
    held = []
    for repeat in range(repeats):
        low, high = ours.intervals(bootstrap(draw(), f"coverage {repeat}"))
        held.append(((low <= truth) & (truth <= high)).mean())
    return float(np.mean(held))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_intervals_of_64_samples_cover_the_mean_in_94_to_96_of_100(name: str) -> None:
    draw, mean = DISTRIBUTIONS[name]
    rng = np.random.default_rng(1)
    assert 0.94 <= coverage(lambda: draw(rng, (1000, 1, 64)), mean) <= 0.96


def test_intervals_of_skewed_scores_miss_on_both_sides_alike() -> None:
    rng = np.random.default_rng(22)
    low, high = np.concatenate(
        [ours.intervals(bootstrap(rng.exponential(size=(1000, 1, 64)), f"skew {k}")) for k in range(4)], axis=1
    )
    assert 0.015 <= np.mean(low > 1) <= 0.035
    assert 0.015 <= np.mean(high < 1) <= 0.035


@pytest.mark.parametrize("samples", [8, 16])
def test_intervals_of_few_samples_are_stretched_to_cover(samples: int) -> None:
    rng = np.random.default_rng(2)
    assert 0.93 <= coverage(lambda: rng.normal(size=(1000, 1, samples)), 0.0, 3) <= 0.965


def of_seeds(rng: np.random.Generator, seeds: int, share: float, samples: int = 64, skewed: bool = False) -> np.ndarray:
    """(1000, S, n) scores with mean zero; the seeds make this share of the variance of a mean."""
    noise = (lambda *shape: rng.exponential(size=shape) - 1) if skewed else (lambda *shape: rng.normal(size=shape))
    spread = share / (1 - share) * (seeds + 1 / 4) / samples  # beside 1 of the samples and 1 / 4 of the rest
    drawn = np.sqrt(spread) * rng.normal(size=(1000, seeds, 1))
    return noise(1000, 1, samples) + noise(1000, seeds, samples) / 2 + drawn


@pytest.mark.parametrize("skewed", [False, True], ids=["normal", "skewed"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("seeds", "samples"), [(3, 64), (3, 32), (5, 64)])
def test_intervals_over_few_seeds_cover_what_other_seeds_would_give(
    seeds: int, samples: int, share: float, skewed: bool
) -> None:
    rng = np.random.default_rng(3)
    least = 0.925 if skewed and samples < 64 else 0.935
    assert least <= coverage(lambda: of_seeds(rng, seeds, share, samples, skewed), 0.0, 3) <= 0.97


@pytest.mark.parametrize(("share", "least"), [(0.0, 0.94), (0.5, 0.93), (0.9, 0.89)])
def test_intervals_over_two_seeds_fall_short_by_no_more_than_the_module_says(share: float, least: float) -> None:
    rng = np.random.default_rng(3)
    assert least <= coverage(lambda: of_seeds(rng, 2, share), 0.0, 3) <= 0.975


def test_leaving_the_seeds_out_would_not_cover() -> None:
    rng = np.random.default_rng(3)

    def draw() -> np.ndarray:
        scores = rng.normal(size=(1000, 1, 64)) + 0.5 * rng.normal(size=(1000, 3, 1))
        return scores.mean(1, keepdims=True)

    assert coverage(draw, 0.0, 2) < 0.7


def test_the_bootstrap_is_what_a_loop_over_resamples_gives() -> None:
    scores = np.random.default_rng(4).normal(size=(3, 1, 11))
    weights = ours.resamples(11, ours.generator("loop"), 50)
    boot = ours.bootstrap(scores, weights, ours.generator("none"))
    for b, counts in enumerate(weights):
        drawn = [i for i, count in enumerate(counts) for _ in range(count)]
        assert len(drawn) == 11
        for m in range(3):
            assert boot.draws[b, m] == pytest.approx(sum(scores[m, 0, i] for i in drawn) / 11, abs=1e-12)


def test_intervals_agree_with_those_of_scipy() -> None:
    scores = np.random.default_rng(5).exponential(size=64)
    theirs = stats.bootstrap((scores,), np.mean, method="BCa", n_resamples=20000, rng=np.random.default_rng(0))
    low, high = ours.intervals(bootstrap(scores[None, None], draws=20000))
    stretch = stats.t.ppf(0.975, 63) / stats.norm.ppf(0.975) * np.sqrt(64 / 63)
    mean = scores.mean()
    assert low[0] == pytest.approx(mean + stretch * (theirs.confidence_interval.low - mean), abs=0.01)
    assert high[0] == pytest.approx(mean + stretch * (theirs.confidence_interval.high - mean), abs=0.01)


@pytest.mark.parametrize(
    ("samples", "seeds", "spread"),
    [(64, 1, 0.0), (16, 1, 0.0), (64, 3, 0.0), (64, 3, 0.05), (64, 3, 0.2), (64, 5, 0.1)],
)
def test_two_methods_that_do_not_differ_tie_in_95_of_100_boards(samples: int, seeds: int, spread: float) -> None:
    rng = np.random.default_rng(6)
    weights = ours.resamples(samples, ours.generator("ties"))
    ties = 0
    for _ in range(1500):
        scores = rng.normal(size=(1, 1, samples)) + spread * rng.normal(size=(2, seeds, 1))
        scores = scores + rng.exponential(size=(2, seeds, samples))
        ties += not ours.pairs(ours.bootstrap(scores, weights, rng)).above.any()
    assert 0.935 <= ties / 1500 <= (0.965 if seeds == 1 else 0.985)  # over few seeds, rather too careful


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_a_method_of_three_seeds_ties_with_its_equal_of_one(spread: float) -> None:
    rng = np.random.default_rng(23)
    weights = ours.resamples(64, ours.generator("one seed"))
    ties = 0
    for _ in range(1500):
        scores = np.full((2, 3, 64), np.nan)
        scores[0] = rng.normal(size=64) + rng.normal(size=(3, 64)) / 2 + spread * rng.normal(size=(3, 1))
        scores[1, 0] = rng.normal(size=64)
        ties += not ours.pairs(ours.bootstrap(scores, weights, rng)).above.any()
    assert 0.935 <= ties / 1500 <= 0.985


def separated(draw: Callable[[], np.ndarray], samples: int = 64, repeats: int = 300, **options: object) -> float:
    """How often a table of equal rows has a false separation."""
    rng, weights = np.random.default_rng(25), ours.resamples(samples, ours.generator("equal"))
    return float(
        np.mean([ours.pairs(ours.bootstrap(draw(), weights, rng, **options)).above.any() for _ in range(repeats)])
    )


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("rows", [2, 10])
def test_mean_ranks_of_equal_rows_are_seldom_told_apart_although_ranks_share_their_seeds(
    rows: int, spread: float
) -> None:
    rng = np.random.default_rng(26)

    def draw() -> np.ndarray:
        seeds = rng.normal(size=(rows, 3, 64)) / 2 + spread * rng.normal(size=(rows, 3, 1))
        return -ours.sample_ranks(rng.normal(size=(1, 1, 64)) + seeds)

    assert separated(draw) <= 0.085


def test_two_rows_of_one_fit_that_move_against_each_other_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(27)

    def draw() -> np.ndarray:
        fits = 0.3 * rng.normal(size=(1, 3, 1)) * np.array([1.0, -1.0])[:, None, None]
        return rng.normal(size=(1, 1, 64)) + rng.normal(size=(2, 3, 64)) / 2 + fits

    assert separated(draw, repeats=600) <= 0.075


@pytest.mark.parametrize("samples", [2, 3, 4, 8, 64])
def test_of_fifteen_equal_rows_that_hit_or_miss_few_tables_tell_any_apart(samples: int) -> None:
    rng = np.random.default_rng(28)
    draw = lambda: (rng.random((15, 1, samples)) < 0.5).astype(float)  # noqa: E731
    assert separated(draw, samples, bounds=(0.0, 1.0)) <= 0.065


@pytest.mark.parametrize(("samples", "share"), [(64, 0.5), (64, 0.98), (64, 0.99), (32, 0.95), (8, 0.9)])
def test_intervals_of_hits_and_misses_cover_their_share(samples: int, share: float) -> None:
    rng = np.random.default_rng(29)
    scores = (rng.random((2000, 1, samples)) < share).astype(float)
    weights = ours.resamples(samples, ours.generator("hits"))
    low, high = ours.intervals(ours.bootstrap(scores, weights, rng, (0.0, 1.0)))
    assert ((low <= share) & (share <= high)).mean() >= 0.94


def test_hits_alone_leave_room_for_the_miss_that_has_not_happened() -> None:
    boot = ours.bootstrap(np.ones((1, 1, 64)), ours.resamples(64, ours.generator("x")), ours.generator("y"), (0.0, 1.0))
    low, high = ours.intervals(boot)
    assert low[0] == pytest.approx(stats.binomtest(64, 64).proportion_ci().low)
    assert high[0] == 1
    assert low[0] == pytest.approx(0.944, abs=0.001)


def test_differences_of_one_size_are_as_sure_as_their_signs() -> None:
    hits = np.zeros((2, 1, 40))
    hits[0, 0, :9], hits[1, 0, 39] = 1, 1
    assert ours.pairs(bootstrap(hits)).p[0, 1] >= 0.9 * stats.binomtest(9, 10).pvalue
    assert ours.pairs(bootstrap(np.arange(2.0)[:, None, None] + np.zeros((2, 1, 4)))).p[0, 1] == 2**-3


@pytest.mark.parametrize("samples", [8, 64])
def test_a_board_of_eight_equal_methods_seldom_has_a_false_separation(samples: int) -> None:
    rng = np.random.default_rng(7)
    weights = ours.resamples(samples, ours.generator("eight"))
    shared = rng.normal(size=(500, 1, 1, samples))
    boards = [ours.pairs(ours.bootstrap(one + rng.normal(size=(8, 1, samples)), weights, rng)) for one in shared]
    assert np.mean([board.above.any() for board in boards]) <= 0.075


def test_a_planted_difference_is_found_as_often_as_the_needed_samples_promise() -> None:
    rng = np.random.default_rng(8)
    pilot = ours.pairs(bootstrap(np.stack([rng.normal(0.4, 1, (1, 4000)), rng.normal(0, 1, (1, 4000))])))
    needed = int(pilot.needed[0, 1])
    assert needed == pytest.approx((1.96 + 0.84) ** 2 * 2 / 0.4**2, rel=0.25)
    weights = ours.resamples(needed, ours.generator("power"))
    found = [
        ours.pairs(
            ours.bootstrap(np.stack([rng.normal(0.4, 1, (1, needed)), rng.normal(0, 1, (1, needed))]), weights, rng)
        ).above[0, 1]
        for _ in range(400)
    ]
    assert 0.72 <= np.mean(found) <= 0.88


def test_a_large_difference_is_found_and_the_better_method_is_above() -> None:
    rng = np.random.default_rng(9)
    hardness = rng.normal(size=(1, 1, 64))
    pairs = ours.pairs(
        bootstrap(hardness + np.array([0.0, 1.0, 0.5])[:, None, None] + 0.3 * rng.normal(size=(3, 1, 64)))
    )
    assert pairs.rank.tolist() == [3, 1, 2]
    assert pairs.letters == ("c", "a", "b")
    assert [each.tolist() for each in pairs.rank_interval] == [[3, 1, 2], [3, 1, 2]]


def test_pairing_finds_what_separate_intervals_would_not() -> None:
    rng = np.random.default_rng(10)
    hardness = 5 * rng.normal(size=(1, 1, 64))
    boot = bootstrap(hardness + np.array([0.0, 0.3])[:, None, None] + 0.2 * rng.normal(size=(2, 1, 64)))
    low, high = ours.intervals(boot)
    assert low[1] < high[0]
    assert ours.pairs(boot).above[1, 0]


def test_identical_methods_tie_and_share_their_rank() -> None:
    one = np.random.default_rng(11).normal(size=(1, 1, 64))
    pairs = ours.pairs(bootstrap(np.concatenate([one, one - 3, one])))
    assert pairs.rank.tolist() == [1, 3, 1]
    assert pairs.p[0, 2] == 1
    assert pairs.letters == ("a", "b", "a")
    assert np.isinf(pairs.needed[0, 2])


def test_constant_scores_that_differ_are_told_apart_and_have_no_width() -> None:
    boot = bootstrap(np.stack([np.full((1, 40), 0.25), np.full((1, 40), 0.75)]))
    low, high = ours.intervals(boot)
    np.testing.assert_allclose(low, high)
    assert ours.pairs(boot).above.tolist() == [[False, False], [True, False]]


def test_one_sample_tells_nothing_apart() -> None:
    boot = bootstrap(np.array([[[0.0]], [[1.0]]]))
    assert np.isnan(ours.intervals(boot)).all()
    assert not ours.pairs(boot).above.any()
    assert ours.pairs(boot).letters == ("a", "a")


def test_one_method_stands_alone() -> None:
    pairs = ours.pairs(bootstrap(np.random.default_rng(12).normal(size=(1, 1, 20))))
    assert pairs.rank.tolist() == [1]
    assert pairs.letters == ("a",)


def test_a_method_with_fewer_seeds_is_averaged_over_its_own() -> None:
    scores = np.random.default_rng(13).normal(size=(2, 3, 20))
    scores[1, 1:] = np.nan
    boot = bootstrap(scores)
    np.testing.assert_allclose(boot.mean, [scores[0].mean(), scores[1, 0].mean()])
    assert boot.freedom.tolist() == [[2, 2], [2, np.inf]]
    assert boot.seeded[1] == 0


def test_the_same_scores_give_the_same_bytes_and_the_order_of_methods_does_not_matter() -> None:
    scores = np.random.default_rng(14).normal(size=(5, 1, 64)) + np.arange(5)[:, None, None] / 5
    one, again = (np.array(ours.intervals(bootstrap(scores))).tobytes() for _ in range(2))
    assert one == again
    order = [3, 0, 4, 1, 2]
    p, shuffled = ours.pairs(bootstrap(scores)).p, ours.pairs(bootstrap(scores[order])).p
    np.testing.assert_allclose(shuffled, p[np.ix_(order, order)])
    assert ours.generator("a", "b").random() != ours.generator("ab").random()


def test_rank_intervals_hold_the_true_ranks_of_all_methods_at_once() -> None:
    rng = np.random.default_rng(15)
    weights = ours.resamples(64, ours.generator("ranks"))
    truth = np.arange(8)
    held = []
    for _ in range(400):
        scores = -0.15 * truth[:, None, None] + rng.normal(size=(1, 1, 64)) + 0.5 * rng.normal(size=(8, 1, 64))
        low, high = ours.pairs(ours.bootstrap(scores, weights, rng)).rank_interval
        held.append(((low <= truth + 1) & (truth + 1 <= high)).all())
    assert np.mean(held) >= 0.94


def test_step_down_is_what_its_definition_says() -> None:
    rng = np.random.default_rng(16)
    z, drawn = np.abs(rng.normal(size=6)) * 1.5, np.abs(rng.normal(size=(6, 200)))
    adjusted, largest = ours.step_down(z, lambda k: drawn[k])
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
    pairs = ours.Pairs(difference, p + p.T + np.eye(methods), np.ones_like(p))
    apart = pairs.above | pairs.above.T
    for i in range(methods):
        for j in range(methods):
            assert bool({*pairs.letters[i]} & {*pairs.letters[j]}) == (not apart[i, j])
    assert "a" in pairs.letters[int(mean.argmax())]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_ranks_lie_in_their_intervals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = ours.pairs(bootstrap(rng.normal(size=(6, 1, 12)) + rng.normal(size=(6, 1, 1)), draws=100))
    low, high = pairs.rank_interval
    assert (low <= pairs.rank).all()
    assert (pairs.rank <= high).all()


def test_tau_is_that_of_scipy() -> None:
    rng = np.random.default_rng(17)
    means = rng.integers(0, 5, (20, 3, 7)).astype(float)
    means[:, 2, 6] = np.nan  # a method that the last metric does not rank
    for found, orders in zip(ours.taus(means), means, strict=True):
        for k, one in enumerate(orders):
            for m, other in enumerate(orders):
                theirs = stats.kendalltau(one, other, nan_policy="omit").statistic
                assert found[k, m] == pytest.approx(theirs, nan_ok=True)


def test_an_interval_around_a_bent_statistic_reaches_to_the_further_side() -> None:
    draws = np.linspace(-1, 0.5, 1001)
    low, high = ours.around(0.4, draws)
    assert low == pytest.approx(np.quantile(draws, 0.025))
    assert high == pytest.approx(0.8 - np.quantile(draws, 0.025))
    assert np.isnan(ours.around(0.4, np.full(5, np.nan))).all()


def test_ranks_on_samples_share_ties_and_repeat_the_seeds_that_a_method_has() -> None:
    scores = np.array([[[3.0, 1.0], [0.0, 0.0]], [[2.0, 1.0], [np.nan, np.nan]], [[1.0, 5.0], [9.0, 0.5]]])
    ranks = ours.sample_ranks(scores)
    assert ranks[:, 0].T.tolist() == [[1, 2, 3], [2.5, 2.5, 1]]
    assert ranks[:, 1].T.tolist() == [[3, 2, 1], [3, 1, 2]]


def test_pooled_tasks_count_once_each() -> None:
    rng = np.random.default_rng(18)
    few, many = bootstrap(rng.normal(0, 1, (2, 1, 20)), "few"), bootstrap(rng.normal(4, 1, (2, 1, 2000)), "many")
    pooled = ours.pool([few, many])
    np.testing.assert_allclose(pooled.mean, (few.mean + many.mean) / 2)
    low, high = ours.intervals(pooled)
    wide = np.subtract(*ours.intervals(few)[::-1]) / 2
    np.testing.assert_allclose(high - low, wide, rtol=0.1)


def test_tests_over_tasks_find_the_better_method_and_want_six_tasks() -> None:
    rng = np.random.default_rng(19)
    means = rng.normal(size=(12, 1)) + np.array([2.0, 0.0, 0.1]) + 0.05 * rng.normal(size=(12, 3))
    assert ours.across(means[:5]) is None
    assert ours.across(means[:, :2]) is None
    verdict = ours.across(means)
    assert verdict is not None
    assert verdict.friedman == pytest.approx(stats.friedmanchisquare(*means.T).pvalue)
    assert verdict.wilcoxon[0, 1] < 0.01
    assert verdict.nemenyi[0, 1] < 0.01
    np.testing.assert_allclose(verdict.nemenyi, verdict.nemenyi.T)


def test_of_equal_methods_few_tables_over_tasks_tell_any_apart_although_two_tests_look() -> None:
    rng = np.random.default_rng(24)
    found = [ours.across(rng.normal(size=(20, 3))) for _ in range(400)]
    assert 0 < np.mean([verdict.apart.any() for verdict in found if verdict]) <= 0.07


def test_equal_methods_tie_over_tasks() -> None:
    means = np.repeat(np.random.default_rng(20).normal(size=(8, 1)), 3, axis=1)
    verdict = ours.across(means)
    assert verdict is not None
    assert verdict.friedman == 1
    assert verdict.wilcoxon.min() > 0.05


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(21).random(9) ** 3
    np.testing.assert_allclose(ours.holm(p), multitest.multipletests(p, method="holm")[1])


def test_four_tasks_like_one_are_four_times_as_sure_and_less_skewed() -> None:
    rng = np.random.default_rng(14)
    scores = rng.exponential(size=(3, 2, 20)) + rng.normal(size=(3, 2, 1))
    boot = bootstrap(scores, draws=200)
    pooled = ours.pool([boot] * 4)
    assert all(np.any(each > 0) for each in (boot.error, boot.between, boot.rest, boot.seeded))
    for name, times in (("error", 4), ("between", 4), ("rest", 4), ("seeded", 4), ("third", 16), ("mean", 1)):
        assert getattr(pooled, name) == pytest.approx(getattr(boot, name) / times)


@pytest.mark.parametrize("seeded", [0.0, 0.001, 0.004])
def test_with_the_samples_needed_a_difference_just_reaches_the_power(seeded: float) -> None:
    difference, spread, strict = 0.2, 1.7, 2.1
    needed = float(ours.samples_needed(np.array(difference), np.array(spread), np.array(seeded), strict, power=0.8))

    def power(count: float) -> float:
        return float(stats.norm.cdf(difference / np.sqrt(spread / count + seeded) - strict))

    assert power(needed) >= 0.8 > power(needed - 1)


def test_no_samples_are_enough_where_the_seeds_alone_differ_as_much() -> None:
    assert ours.samples_needed(np.array(0.2), np.array(1.7), np.array(0.01), 2.1) == np.inf


@pytest.mark.parametrize("draws", [np.linspace(0, 1, 1001) ** 3, 1 - np.linspace(0, 1, 1001) ** 3])
def test_an_interval_around_a_bent_statistic_reaches_as_far_on_both_sides(draws: np.ndarray) -> None:
    observed = float(np.median(draws))
    low, high = ours.around(observed, draws)
    further = np.abs(np.quantile(draws, [0.025, 0.975]) - observed).max()
    assert (observed - low, high - observed) == pytest.approx((further, further))
