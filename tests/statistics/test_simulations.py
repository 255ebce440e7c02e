"""Intervals cover as often as they say, and tables of equal rows are seldom told apart.

Each simulation is done in full with --slow, and on a tenth of its draws otherwise, where a share may miss its bounds by
the three standard errors that so few draws leave it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mibench.statistics.across import across
from mibench.statistics.agreement import sample_ranks
from mibench.statistics.bootstrap import bootstrap, generator, intervals, resamples
from mibench.statistics.pairs import pairs
from tests.effort import Effort
from tests.statistics.boots import boot_of

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(2.0, 3.0, shape), 2.0),
    "exponential": (lambda rng, shape: rng.exponential(1.0, shape), 1.0),
    "beta, near its bound": (lambda rng, shape: rng.beta(2, 8, shape), 0.2),
}


def covered(draw: Callable[[], np.ndarray], truth: float, repeats: int) -> np.ndarray:
    """Whether the intervals of (M, S, n) scores hold the truth, over repeated draws."""
    held = []
    for repeat in range(repeats):
        low, high = intervals(boot_of(draw(), f"coverage {repeat}"))
        held.append((low <= truth) & (truth <= high))
    return np.array(held)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_intervals_of_64_samples_cover_the_mean_in_94_to_96_of_100(name: str, effort: Effort) -> None:
    draw, mean = DISTRIBUTIONS[name]
    rng = np.random.default_rng(1)
    found = covered(lambda: draw(rng, (effort.of(1000), 1, 64)), mean, 8)
    assert effort.within(found, 0.94, 0.96)


def test_intervals_of_skewed_scores_miss_on_both_sides_alike(effort: Effort) -> None:
    rng = np.random.default_rng(22)
    rows = effort.of(1000)
    low, high = np.concatenate(
        [intervals(boot_of(rng.exponential(size=(rows, 1, 64)), f"skew {k}")) for k in range(4)], axis=1
    )
    assert effort.within(low > 1, 0.015, 0.035)
    assert effort.within(high < 1, 0.015, 0.035)


@pytest.mark.parametrize("samples", [8, 16])
def test_intervals_of_few_samples_are_stretched_to_cover(samples: int, effort: Effort) -> None:
    rng = np.random.default_rng(2)
    assert effort.within(covered(lambda: rng.normal(size=(effort.of(1000), 1, samples)), 0.0, 3), 0.93, 0.965)


def of_seeds(
    rng: np.random.Generator, rows: int, seeds: int, share: float, samples: int = 64, skewed: bool = False
) -> np.ndarray:
    """(M, S, n) scores with mean zero; the seeds make this share of the variance of a mean."""
    noise = (lambda *shape: rng.exponential(size=shape) - 1) if skewed else (lambda *shape: rng.normal(size=shape))
    spread = share / (1 - share) * (seeds + 1 / 4) / samples  # beside 1 of the samples and 1 / 4 of the rest
    drawn = np.sqrt(spread) * rng.normal(size=(rows, seeds, 1))
    return noise(rows, 1, samples) + noise(rows, seeds, samples) / 2 + drawn


@pytest.mark.parametrize("skewed", [False, True], ids=["normal", "skewed"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("seeds", "samples"), [(3, 64), (3, 32), (5, 64)])
def test_intervals_over_few_seeds_cover_what_other_seeds_would_give(
    seeds: int, samples: int, share: float, skewed: bool, effort: Effort
) -> None:
    rng = np.random.default_rng(3)
    least = 0.925 if skewed and samples < 64 else 0.935
    found = covered(lambda: of_seeds(rng, effort.of(1000), seeds, share, samples, skewed), 0.0, 3)
    assert effort.within(found, least, 0.97)


@pytest.mark.parametrize(("share", "least"), [(0.0, 0.94), (0.5, 0.93), (0.9, 0.89)])
def test_intervals_over_two_seeds_fall_short_by_no_more_than_documented(
    share: float, least: float, effort: Effort
) -> None:
    rng = np.random.default_rng(3)
    assert effort.within(covered(lambda: of_seeds(rng, effort.of(1000), 2, share), 0.0, 3), least, 0.975)


def test_leaving_the_seeds_out_would_not_cover(effort: Effort) -> None:
    rng = np.random.default_rng(3)
    rows = effort.of(1000)

    def draw() -> np.ndarray:
        scores = rng.normal(size=(rows, 1, 64)) + 0.5 * rng.normal(size=(rows, 3, 1))
        return scores.mean(1, keepdims=True)

    assert covered(draw, 0.0, 2).mean() < 0.7


@pytest.mark.parametrize(
    ("samples", "seeds", "spread"),
    [(64, 1, 0.0), (16, 1, 0.0), (64, 3, 0.0), (64, 3, 0.05), (64, 3, 0.2), (64, 5, 0.1)],
)
def test_two_methods_that_do_not_differ_tie_in_95_of_100_boards(
    samples: int, seeds: int, spread: float, effort: Effort
) -> None:
    rng = np.random.default_rng(6)

    def draw() -> np.ndarray:
        scores = rng.normal(size=(1, 1, samples)) + spread * rng.normal(size=(2, seeds, 1))
        return scores + rng.exponential(size=(2, seeds, samples))

    least = 0.035 if seeds == 1 else 0.015  # over few seeds, rather too careful
    assert effort.within(separated(draw, samples, effort.of(1500), rng), least, 0.065)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_a_method_of_three_seeds_ties_with_its_equal_of_one(spread: float, effort: Effort) -> None:
    rng = np.random.default_rng(23)

    def draw() -> np.ndarray:
        scores = np.full((2, 3, 64), np.nan)
        scores[0] = rng.normal(size=64) + rng.normal(size=(3, 64)) / 2 + spread * rng.normal(size=(3, 1))
        scores[1, 0] = rng.normal(size=64)
        return scores

    assert effort.within(separated(draw, 64, effort.of(1500), rng), 0.015, 0.065)


def separated(
    draw: Callable[[], np.ndarray], samples: int, tables: int, rng: np.random.Generator, **options: object
) -> np.ndarray:
    """Whether a table of equal rows has a false separation, over repeated draws."""
    weights = resamples(samples, generator("equal"))
    return np.array([pairs(bootstrap(draw(), weights, rng, **options)).above.any() for _ in range(tables)])


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("rows", [2, 10])
def test_mean_ranks_of_equal_rows_with_shared_seeds_seldom_differ(rows: int, spread: float, effort: Effort) -> None:
    rng = np.random.default_rng(26)

    def draw() -> np.ndarray:
        seeds = rng.normal(size=(rows, 3, 64)) / 2 + spread * rng.normal(size=(rows, 3, 1))
        return -sample_ranks(rng.normal(size=(1, 1, 64)) + seeds)

    assert effort.within(separated(draw, 64, effort.of(300), rng), high=0.085)


def test_two_opposed_rows_of_one_fit_seldom_differ_significantly(effort: Effort) -> None:
    rng = np.random.default_rng(27)

    def draw() -> np.ndarray:
        fits = 0.3 * rng.normal(size=(1, 3, 1)) * np.array([1.0, -1.0])[:, None, None]
        return rng.normal(size=(1, 1, 64)) + rng.normal(size=(2, 3, 64)) / 2 + fits

    assert effort.within(separated(draw, 64, effort.of(600), rng), high=0.075)


@pytest.mark.parametrize("samples", [2, 3, 4, 8, 64])
def test_of_fifteen_equal_rows_that_hit_or_miss_few_tables_tell_any_apart(samples: int, effort: Effort) -> None:
    rng = np.random.default_rng(28)
    draw = lambda: (rng.random((15, 1, samples)) < 0.5).astype(float)  # noqa: E731
    assert effort.within(separated(draw, samples, effort.of(300), rng, bounds=(0.0, 1.0)), high=0.065)


@pytest.mark.parametrize(("samples", "share"), [(64, 0.5), (64, 0.98), (64, 0.99), (32, 0.95), (8, 0.9)])
def test_intervals_of_hits_and_misses_cover_their_share(samples: int, share: float, effort: Effort) -> None:
    rng = np.random.default_rng(29)
    scores = (rng.random((effort.of(2000), 1, samples)) < share).astype(float)
    weights = resamples(samples, generator("hits"))
    low, high = intervals(bootstrap(scores, weights, rng, (0.0, 1.0)))
    assert effort.within((low <= share) & (share <= high), low=0.94)


@pytest.mark.parametrize("samples", [8, 64])
def test_a_board_of_eight_equal_methods_seldom_has_a_false_separation(samples: int, effort: Effort) -> None:
    rng = np.random.default_rng(7)
    draw = lambda: rng.normal(size=(1, 1, samples)) + rng.normal(size=(8, 1, samples))  # noqa: E731
    assert effort.within(separated(draw, samples, effort.of(500), rng), high=0.075)


def test_a_planted_difference_is_found_as_often_as_the_samples_promise(effort: Effort) -> None:
    rng = np.random.default_rng(8)
    pilot = pairs(boot_of(np.stack([rng.normal(0.4, 1, (1, 4000)), rng.normal(0, 1, (1, 4000))])))
    needed = int(pilot.needed[0, 1])
    assert needed == pytest.approx((1.96 + 0.84) ** 2 * 2 / 0.4**2, rel=0.25)
    weights = resamples(needed, generator("power"))
    found = [
        pairs(
            bootstrap(np.stack([rng.normal(0.4, 1, (1, needed)), rng.normal(0, 1, (1, needed))]), weights, rng)
        ).above[0, 1]
        for _ in range(effort.of(400))
    ]
    assert effort.within(np.array(found), 0.72, 0.88)


def test_rank_intervals_hold_the_true_ranks_of_all_methods_at_once(effort: Effort) -> None:
    rng = np.random.default_rng(15)
    weights = resamples(64, generator("ranks"))
    truth = np.arange(8)
    held = []
    for _ in range(effort.of(400)):
        scores = -0.15 * truth[:, None, None] + rng.normal(size=(1, 1, 64)) + 0.5 * rng.normal(size=(8, 1, 64))
        low, high = pairs(bootstrap(scores, weights, rng)).rank_interval
        held.append(((low <= truth + 1) & (truth + 1 <= high)).all())
    assert effort.within(np.array(held), low=0.94)


def test_tables_over_tasks_seldom_separate_equal_methods_with_two_tests(effort: Effort) -> None:
    rng = np.random.default_rng(24)
    found = [across(rng.normal(size=(20, 3))) for _ in range(effort.of(400))]
    told = np.array([verdict.apart.any() for verdict in found if verdict])
    assert len(told) == len(found)
    assert effort.within(told, low=0.001, high=0.07)
