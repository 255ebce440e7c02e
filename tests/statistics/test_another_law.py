"""The model of uncertainty under another law than its own: lognormal seeds, outliers, near-duplicates, shared seeds.

Nothing here is shared with `test_simulations`. A row's seeds have a lognormal variance, every tenth row one that is
twenty times as large; what seeds do to single samples follows the same law with luck of its own. The priors are fitted
to a panel of other rows of the same world, as the package's are. A row has a twin that differs by a thousandth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from mibench.statistics.means import Means
from mibench.statistics.pairs import pairs
from mibench.statistics.priors import fitted
from mibench.statistics.resampling import generator, resamples
from mibench.statistics.seeds import Fits, Ratio
from tests.effort import Effort

PANEL_ROWS, PANEL_SEEDS, PANEL_SAMPLES, METRICS = 40, 6, 32, 5
SAMPLES = 64
OUTLIER = 20.0


@dataclass(frozen=True)
class World:
    """How scores come about: standard deviations over samples are one."""

    share: float  # of the seeds in the variance of a mean over SAMPLES of one seed
    shared: float = 0.0  # of the seeds' effect that is common to all rows
    shape: str = "normal"

    def scores(self, rng: np.random.Generator, rows: int, seeds: int, samples: int, means: np.ndarray) -> np.ndarray:
        """(M, S, N), with rows that share their samples."""
        level = self.share / max(1e-9, 1 - self.share) / SAMPLES  # of the variance of a seed's mean
        lucky = rng.lognormal(-0.32, 0.8, rows) * np.where(rng.random(rows) < 0.1, OUTLIER, 1.0)
        moved = np.sqrt(level * lucky)[:, None] * rng.normal(size=(rows, seeds))
        common = np.sqrt(level) * rng.normal(size=seeds)
        effect = np.sqrt(1 - self.shared) * moved + np.sqrt(self.shared) * common
        rest = np.sqrt(level * lucky * SAMPLES / 3 * rng.lognormal(-0.125, 0.5, rows))[:, None, None]
        difficulty = self._samples(rng, (1, 1, samples))
        own = self._samples(rng, (rows, 1, samples))
        inside = rest * rng.normal(size=(rows, seeds, samples))
        return means[:, None, None] + np.sqrt(0.5) * (difficulty + own) + effect[..., None] + inside

    def _samples(self, rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        """Standardised noise: normal, or with a long tail to one side."""
        if self.shape == "skewed":
            return np.asarray(rng.gamma(1.0, 1.0, size) - 1)
        return rng.normal(size=size)

    def prior(self, rng: np.random.Generator, networks: bool) -> tuple[float, float, Ratio]:
        """What a panel of other rows shows: the level of one seed's variance with its weight, and the ratio."""
        levels, ratios = {}, {}
        for metric in range(METRICS):
            y = self.scores(rng, PANEL_ROWS, PANEL_SEEDS, PANEL_SAMPLES, np.zeros(PANEL_ROWS))
            of_seed = y.mean(2)
            left = y - of_seed[..., None] - y.mean(1, keepdims=True) + y.mean((1, 2), keepdims=True)
            free = (PANEL_SEEDS - 1) * (PANEL_SAMPLES - 1)
            levels[f"m{metric}"] = of_seed.var(1, ddof=1)
            ratios[f"m{metric}"] = of_seed.var(1, ddof=1) / ((left**2).sum((1, 2)) / free / PANEL_SAMPLES)
        families = {f"m{metric}": f"f{metric % 3}" for metric in range(METRICS)}
        level, freedom = fitted(levels, families, PANEL_SEEDS - 1)["m0"]
        value, worth = fitted(ratios, families, PANEL_SEEDS - 1)["m0"]
        return level, freedom, Ratio(value, worth, PANEL_SAMPLES)

    def board(self, rng: np.random.Generator, rows: int, seeds: int, means: np.ndarray, *, networks: bool) -> Means:
        """A table of rows with what the panel knows."""
        level, freedom, ratio = self.prior(rng, networks)
        y = self.scores(rng, rows, seeds, SAMPLES, means)
        fits = Fits(np.ones(rows, bool), np.full(rows, level), freedom, np.arange(rows), networks, ratio)
        return Means(y, fits)


WORLDS = [World(0.3), World(0.5), World(0.9), World(0.5, shape="skewed")]
SLOW = [pytest.param(world, marks=pytest.mark.slow) for world in WORLDS[1:]]


@pytest.mark.parametrize("world", [WORLDS[0], *SLOW], ids=str)
@pytest.mark.parametrize("seeds", [3, pytest.param(5, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)])
def test_means_are_covered_under_another_law(world: World, seeds: int, effort: Effort) -> None:
    rng, inside = np.random.default_rng(seeds), []
    for _ in range(effort.of(400)):
        low, high = world.board(rng, 10, seeds, np.zeros(10), networks=False).intervals()
        inside += ((low <= 0) & (high >= 0)).tolist()
    print(f"coverage, {world}, {seeds} seeds: {np.mean(inside):.3f}")
    assert effort.within(inside, low=0.92)


@pytest.mark.parametrize("rows", [5, pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("world", [WORLDS[0], *SLOW], ids=str)
@pytest.mark.parametrize("networks", [False, True])
def test_equal_rows_are_seldom_told_apart_under_another_law(
    networks: bool, world: World, rows: int, effort: Effort
) -> None:
    rng, wrong = np.random.default_rng(rows), []
    weights = resamples(SAMPLES, generator("another law"))
    common = World(world.share, 0.5 if networks else 0.0, world.shape)
    for _ in range(effort.of(300)):
        table = common.board(rng, rows, 3, np.zeros(rows), networks=networks)
        wrong.append(bool(pairs(table, weights).above.any()))
    print(f"false separation, {common}, {rows} rows, networks {networks}: {np.mean(wrong):.3f}")
    assert effort.within(wrong, high=0.08)


def test_a_row_and_its_near_duplicate_are_no_worse_than_any_two() -> None:
    rng, wrong = np.random.default_rng(5), []
    weights = resamples(SAMPLES, generator("another law"))
    for _ in range(60):
        table = WORLDS[0].board(rng, 4, 3, np.zeros(4), networks=False)
        y = table.scores.copy()
        y[1] = y[0] + 1e-3 * rng.normal(size=y[0].shape)
        wrong.append(bool(pairs(Means(y, table.fits), weights).above[:2, :2].any()))
    assert np.mean(wrong) <= 0.1


@pytest.mark.parametrize(("seeds", "spread", "least"), [(3, 0.03, 0.95), (3, 0.1, 0.75)])
def test_a_row_at_half_the_others_score_is_found_under_another_law(
    seeds: int, spread: float, least: float, effort: Effort
) -> None:
    rng, found = np.random.default_rng(7), []
    weights = resamples(SAMPLES, generator("another law"))
    means = np.array([0.5, *[1.0] * 21])
    for _ in range(effort.of(60)):
        sample_noise = 0.25  # standard deviation over samples, of a score from 0 to 1
        share = spread**2 / (spread**2 + sample_noise**2 / SAMPLES)
        table = World(share).board(rng, 22, seeds, (means - 1) / sample_noise, networks=False)
        above = pairs(table, weights).above[1:, 0]
        found.append(bool(above.mean() > 0.5))
    print(f"power, sd {spread}: {np.mean(found):.3f}")
    assert effort.within(found, low=least)
