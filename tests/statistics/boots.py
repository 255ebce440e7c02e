"""Means of scores, and their pairs by resamples whose random numbers depend on a name alone."""

from __future__ import annotations

import numpy as np

from mibench.statistics.means import ENDLESS, Bounds, Means
from mibench.statistics.pairs import Pairs, pairs
from mibench.statistics.resampling import DRAWS, generator, resamples
from mibench.statistics.seeds import Fits


def fits_of(
    rows: int,
    level: float = np.nan,
    freedom: float = 8.0,
    *,
    seeded: bool | np.ndarray = True,
    source: np.ndarray | None = None,
    networks: bool = False,
) -> Fits:
    """Rows of which a panel expects this variance of one seed's mean."""
    sources = np.arange(rows) if source is None else source
    return Fits(np.full(rows, seeded), np.full(rows, level), freedom, sources, networks)


def means_of(scores: np.ndarray, fits: Fits | None = None, bounds: Bounds = ENDLESS) -> Means:
    """Means of (M, S, N) scores; a single seed of rows that no seed changes, if nothing else is stated."""
    return Means(scores, Fits.unknown(len(scores), scores.shape[1] > 1) if fits is None else fits, bounds)


def pairs_of(
    scores: np.ndarray, fits: Fits | None = None, bounds: Bounds = ENDLESS, name: str = "test", draws: int = DRAWS
) -> Pairs:
    """Every two rows of (M, S, N) scores."""
    return pairs(means_of(scores, fits, bounds), resamples(scores.shape[2], generator(name), draws))
