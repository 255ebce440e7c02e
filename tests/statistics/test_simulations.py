"""Intervals cover as often as they say, equal rows are seldom told apart, and rows that differ are.

Each simulation is done in full with --slow, and on a tenth of its draws otherwise, where a share may miss its bounds by
the three standard errors that so few draws leave it. With -s the figures are printed. Seeds' standard deviations differ
from row to row (scaled inverse chi squared, FREEDOM degrees of freedom), and 30 % of the rows need no seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from mibench.statistics.means import ENDLESS, Bounds, Means
from mibench.statistics.pairs import Pairs, pairs
from mibench.statistics.resampling import generator, resamples
from mibench.statistics.seeds import Fits, parts
from tests.effort import Effort
from tests.statistics.boots import fits_of, pairs_of

FREEDOM = 8
REST = 0.25  # of the samples' variance
SHAPES: dict[str, Bounds] = {"normal": ENDLESS, "bounded": (0.0, 1.0), "binary": (0.0, 1.0), "lognormal": ENDLESS}


@dataclass(frozen=True)
class World:
    """Rows of one mean, the samples that they share, and what a panel of other rows says of their seeds."""

    shape: str
    seeds: int
    share: float  # of the variance of a mean that comes from the seeds
    samples: int = 64
    spread: float = 0.0  # the seeds' own standard deviation, in the place of a share
    known: bool = True  # whether there is a panel

    @property
    def variance(self) -> float:
        """Of one seed's mean, in units of the latent scores, that the law is scaled by."""
        others = (1 + REST / self.seeds) / self.samples
        return self.spread**2 or self.seeds * others * self.share / (1 - self.share)

    def draw(
        self, rng: np.random.Generator, rows: int, still: float = 0.3, shared: float = 0.5
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores (M, S, n), the true means (M,), and which rows are seeded; all rows share a part of the samples."""
        seeded = rng.random(rows) >= still
        variance = np.where(seeded, self.variance * FREEDOM / rng.chisquare(FREEDOM, rows), 0.0)
        seed = np.sqrt(variance)[:, None, None] * rng.normal(size=(rows, self.seeds, 1))
        rest = np.where(seeded, np.sqrt(REST), 0.0)[:, None, None] * rng.normal(size=(rows, self.seeds, self.samples))
        common = rng.normal(size=(1, 1, self.samples)) * np.sqrt(shared)
        sample = common + rng.normal(size=(rows, 1, self.samples)) * np.sqrt(1 - shared)
        latent, total = sample + rest + seed, 1 + variance + np.where(seeded, REST, 0.0)
        if self.shape == "bounded":
            scores, truth = ndtr(0.8 + latent), ndtr(0.8 / np.sqrt(1 + total))
        elif self.shape == "binary":
            scores, truth = (latent < 0.5).astype(float), ndtr(0.5 / np.sqrt(total))
        elif self.shape == "lognormal":
            scores, truth = np.exp(sample) + 2.16 * (rest + seed), np.full(rows, np.exp(0.5))
        else:
            scores, truth = latent, np.zeros(rows)
        scores[~seeded, 1:] = np.nan
        return scores, truth, seeded

    def level(self) -> float:
        """What a panel of 200 other rows of three seeds says of the variance of one seed's mean."""
        found = parts(
            World(self.shape, 3, 0.0, self.samples, np.sqrt(self.variance)).draw(generator("panel"), 200, 0, 0)[0]
        )
        return float((3 * found.between).mean()) * (FREEDOM - 2) / FREEDOM if self.known else np.nan

    def fits(self, seeded: np.ndarray, level: float) -> Fits:
        """What is known of the rows' seeds."""
        return fits_of(len(seeded), level, FREEDOM, seeded=seeded)

    def covered(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        """Whether the interval of each row holds its true mean."""
        scores, truth, seeded = self.draw(rng, rows, 0.0 if self.share else 1.0, 0.0)
        low, high = Means(scores, self.fits(seeded, self.level()), SHAPES[self.shape]).intervals()
        return np.asarray((low <= truth) & (truth <= high))

    def tables(self, rng: np.random.Generator, rows: int, count: int, means: np.ndarray | None = None) -> list[Pairs]:
        """Tables of rows of equal means, or of these."""
        weights, level, found = resamples(self.samples, generator("tables")), self.level(), []
        for _ in range(count):
            scores, _, seeded = self.draw(rng, rows)
            moved = scores if means is None else scores + means[:, None, None]
            found.append(pairs(Means(moved, self.fits(seeded, level), SHAPES[self.shape]), weights))
        return found


def shown(title: str, figures: object) -> None:
    print(f"{title}: {figures}")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seeds", [1, 3, 5])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9])
def test_intervals_cover_the_mean_for_any_share_of_the_seeds(
    shape: str, seeds: int, share: float, effort: Effort
) -> None:
    world = World(shape, seeds, share)
    found = world.covered(generator("cover", shape, str(seeds), str(share)), effort.of(4000))
    shown(f"coverage, {shape}, {seeds} seeds, share {share}", f"{found.mean():.3f}")
    least = {"binary": 0.915, "lognormal": 0.925}.get(shape, 0.93)
    assert effort.within(found, least, 0.99 if shape == "binary" else 0.97)


@pytest.mark.parametrize(("shape", "samples", "least"), [("normal", 8, 0.935), ("lognormal", 32, 0.915)])
def test_intervals_of_few_samples_cover_the_mean(shape: str, samples: int, least: float, effort: Effort) -> None:
    found = World(shape, 1, 0.0, samples).covered(generator("few", shape), effort.of(8000))
    assert effort.within(found, least, 0.965)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_noisiest_quarter_of_rows_is_covered_less_and_within_bounds(seeds: int, effort: Effort) -> None:
    world, rows, again = World("normal", seeds, 0.5), effort.of(8000), generator("noisy", str(seeds))
    scores, truth, seeded = world.draw(generator("noisy", str(seeds)), rows, 0.0, 0.0)
    low, high = Means(scores, world.fits(seeded, world.level())).intervals()
    again.random(rows)  # as drawn before the variances
    chi = again.chisquare(FREEDOM, rows)
    noisy = chi <= np.quantile(chi, 0.25)
    found = ((low <= truth) & (truth <= high))[noisy]
    shown(f"coverage of the noisiest quarter, {seeds} seeds", f"{found.mean():.3f}")
    assert effort.within(found, 0.88)


def test_leaving_the_seeds_out_would_not_cover(effort: Effort) -> None:
    scores, truth, _ = World("normal", 3, 0.9).draw(generator("without"), effort.of(2000), 0.0, 0.0)
    low, high = Means(scores.mean(1, keepdims=True), fits_of(len(scores), seeded=False)).intervals()
    assert ((low <= truth) & (truth <= high)).mean() < 0.7


@pytest.mark.parametrize(("seeds", "share"), [(1, 0.0), (1, 0.5), (1, 0.9), (3, 0.3), (3, 0.9), (5, 0.5)])
@pytest.mark.parametrize("rows", [2, 5, 20])
def test_tables_of_equal_rows_seldom_have_a_false_separation(
    rows: int, seeds: int, share: float, effort: Effort
) -> None:
    rng = generator("equal", str(rows), str(seeds), str(share))
    tables = World("normal", seeds, share).tables(rng, rows, effort.of(6000 // (rows + 4)))
    found = np.array([told.above.any() for told in tables])
    shown(f"false separation, {rows} rows, {seeds} seeds, share {share}", f"{found.mean():.3f}")
    assert effort.within(found, high=0.08)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("rows", [2, 20])
def test_without_a_prior_equal_rows_are_seldom_told_apart_either(rows: int, share: float, effort: Effort) -> None:
    rng = generator("unknown", str(rows), str(share))
    tables = World("normal", 3, share, known=False).tables(rng, rows, effort.of(6000 // (rows + 4)))
    assert effort.within([told.above.any() for told in tables], high=0.08)


@pytest.mark.parametrize(("seeds", "spread", "least"), [(1, 0.03, 0.95), (3, 0.03, 0.95), (3, 0.10, 0.75)])
def test_a_row_at_half_the_others_score_is_told_apart(seeds: int, spread: float, least: float, effort: Effort) -> None:
    means = np.array([0.5, *np.ones(21)])
    rng, world = generator("half", str(seeds), str(spread)), World("normal", seeds, 0.0, spread=spread / 0.25)
    tables = world.tables(rng, 22, effort.of(100), means / 0.25)  # a standard deviation of .25 over the samples
    found = np.array([told.above[1:, 0].mean() for told in tables])
    shown(f"power, {seeds} seeds of sd {spread}", f"{found.mean():.3f}")
    assert found.mean() >= least - (0.0 if effort.share == 1 else 0.1)


def test_more_seeds_tell_more_rows_apart(effort: Effort) -> None:
    means, apart = np.linspace(0, 6, 22), []
    for seeds in (1, 3, 5):
        tables = World("normal", seeds, 0.0, spread=0.12).tables(
            generator("more", str(seeds)), 22, effort.of(100), means
        )
        apart.append(np.mean([told.above.sum() for told in tables]) / 231)
    shown("pairs told apart by 1, 3 and 5 seeds", np.round(apart, 3))
    assert apart[0] < apart[1] < apart[2]


def test_two_opposed_rows_of_one_fit_seldom_differ_significantly(effort: Effort) -> None:
    rng, found = generator("opposed"), []
    for _ in range(effort.of(600)):
        fits = 0.3 * rng.normal(size=(1, 3, 1)) * np.array([1.0, -1.0])[:, None, None]
        scores = rng.normal(size=(1, 1, 64)) + rng.normal(size=(2, 3, 64)) / 2 + fits
        known = fits_of(2, 2 * 0.3**2, 30, source=np.zeros(2, int))  # half of what a difference varies by
        found.append(pairs_of(scores, known).above.any())
    assert effort.within(found, high=0.075)


@pytest.mark.parametrize("samples", [2, 3, 4, 8, 64])
def test_of_fifteen_equal_rows_that_hit_or_miss_few_tables_tell_any_apart(samples: int, effort: Effort) -> None:
    rng, weights = generator("hits", str(samples)), resamples(samples, generator("equal"))
    tables = (
        pairs(Means((rng.random((15, 1, samples)) < 0.5).astype(float), fits_of(15, seeded=False), (0.0, 1.0)), weights)
        for _ in range(effort.of(300))
    )
    assert effort.within([told.above.any() for told in tables], high=0.065)


@pytest.mark.parametrize(("samples", "share"), [(64, 0.5), (64, 0.98), (64, 0.99), (32, 0.95), (8, 0.9)])
def test_intervals_of_hits_and_misses_cover_their_share(samples: int, share: float, effort: Effort) -> None:
    rows = effort.of(2000)
    scores = (generator("share", str(share)).random((rows, 1, samples)) < share).astype(float)
    low, high = Means(scores, fits_of(rows, seeded=False), (0.0, 1.0)).intervals()
    assert effort.within((low <= share) & (share <= high), low=0.94)


def test_a_planted_difference_is_found_as_often_as_the_samples_promise(effort: Effort) -> None:
    rng = np.random.default_rng(8)
    pilot = pairs_of(np.stack([rng.normal(0.4, 1, (1, 4000)), rng.normal(0, 1, (1, 4000))]))
    needed = int(pilot.needed[0, 1])
    assert needed == pytest.approx((1.96 + 0.84) ** 2 * 2 / 0.4**2, rel=0.25)
    found = [
        pairs_of(np.stack([rng.normal(0.4, 1, (1, needed)), rng.normal(0, 1, (1, needed))]), draws=2).above[0, 1]
        for _ in range(effort.of(400))
    ]
    assert effort.within(found, 0.72, 0.88)


def test_rank_intervals_hold_the_true_ranks_of_all_methods_at_once(effort: Effort) -> None:
    rng, truth, held = generator("ranks"), np.arange(8), []
    for _ in range(effort.of(400)):
        scores = -0.15 * truth[:, None, None] + rng.normal(size=(1, 1, 64)) + 0.5 * rng.normal(size=(8, 1, 64))
        low, high = pairs_of(scores).rank_interval
        held.append(((low <= truth + 1) & (truth + 1 <= high)).all())
    assert effort.within(held, low=0.94)
