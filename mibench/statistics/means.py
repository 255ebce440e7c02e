"""How sure a mean score is: one model of uncertainty, from which intervals, ties, ranks and bars all come.

    V      = max(0, A - E) + B~,    1 / df = (1 - B~ / V) / (n - 1) + (B~ / V) / df_B                              (3)
    limits = mean - sqrt(V) h(+-t_df),    h(x) = 3 / a (cbrt(1 + a (x - a / 6)) - 1),    a = third moment / V^1.5  (4)

with A, E, B~ and df_B of `seeds`. V is unbiased; df is the harmonic mean by share. (4) is Student's interval after
Hall's transformation (1992), which takes the skewness out. Where scores only hit or miss, limits reach at least as far
as the exact ones of `hits`. An interval follows from its own row alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from mibench.statistics.arrays import LEVEL, Array, Counts, Mask, ratio
from mibench.statistics.hits import hit_limits
from mibench.statistics.resampling import generator, resampled
from mibench.statistics.seeds import Fits, Parts, averages, moderated, parts

Bounds = tuple[float, float]
ENDLESS: Bounds = (-np.inf, np.inf)


@dataclass(frozen=True)
class Means:
    """The mean scores of M rows over their own samples."""

    scores: Array  # (M, S, N), oriented; NaN for no score, and for a seed that a row did not run
    fits: Fits
    bounds: Bounds = ENDLESS  # the least and the most that a score can be

    def __getitem__(self, rows: list[int]) -> Means:
        return Means(self.scores[rows], self.fits[np.array(rows, int)], self.bounds)

    @cached_property
    def averaged(self) -> Array:
        """(M, N) means over seeds."""
        return averages(self.scores)

    @cached_property
    def parts(self) -> Parts:
        """The means, and the parts of their variances."""
        return parts(self.scores, self.averaged)

    @property
    def mean(self) -> Array:
        """(M,) means."""
        return self.parts.mean

    @cached_property
    def between(self) -> tuple[Array, Array]:
        """B~ and its degrees of freedom."""
        changes = self.fits.seeded | self.fits.networks
        return moderated(self.parts, changes, self.fits.prior, self.fits.freedom, self.fits.ratio)

    @property
    def alone(self) -> Mask:
        """Rows of one seed of which nothing else is known: what is found holds for this fit alone."""
        changes = (self.fits.seeded | self.fits.networks) & ~np.isfinite(self.fits.prior)
        return np.asarray(changes & (self.parts.seeds < 2))

    @cached_property
    def hit(self) -> Array:
        """(M,) the share of hits where scores only hit or miss, else NaN."""
        low, high = self.bounds
        only = (np.isnan(self.scores) | (self.scores == low) | (self.scores == high)).all((1, 2))
        some = only & np.isfinite(high - low)
        return np.asarray(np.divide(self.mean - low, high - low, out=np.full(len(only), np.nan), where=some))

    def intervals(self, level: float = LEVEL) -> tuple[Array, Array]:
        """Lower and upper limits of the means (4); NaN for a single sample."""
        low, high = limits(self.parts, *self.between, level)
        least, most = (
            hit_limits(self.hit, self.parts.samples, level) * (self.bounds[1] - self.bounds[0]) + self.bounds[0]
        )
        return np.fmin(low, least), np.fmax(high, most)

    def draws(self, weights: Counts) -> Array:
        """(B, M) means of resampled samples, the same ones for all rows, and of other seeds."""
        return self.mean + resampled(self.averaged, weights) + self.noise(len(weights)) * np.sqrt(self.added)

    @cached_property
    def added(self) -> Array:
        """(M,) what the seeds add to the variance of resamples, which hold a part of the rest already."""
        return np.maximum(0, self.between[0] - self.parts.rest)

    def noise(self, count: int) -> Array:
        """(B, M) standard normal numbers, each row's own whoever else is there."""
        drawn = [generator("seeds", row.tobytes()).standard_normal(count) for row in self.averaged]
        return np.stack(drawn, 1) if drawn else np.empty((count, 0))


def width(found: Parts, between: Array, freedom: Array) -> tuple[Array, Array]:
    """V and its degrees of freedom (3)."""
    variance = np.maximum(found.sampled - found.rest, 0) + between
    share = ratio(between, variance)
    return variance, 1 / ((1 - share) / np.maximum(found.samples - 1, 1) + share / freedom)


def limits(found: Parts, between: Array, freedom: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Lower and upper limits of means or of their differences (4); NaN for a single sample."""
    variance, degrees = width(found, between, freedom)
    t = stdtrit(degrees, (1 + level) / 2)
    a = ratio(found.third, variance**1.5)
    low, high = (found.mean - np.sqrt(variance) * unskewed(x, a) for x in (t, -t))
    some = found.samples > 1
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def unskewed(x: Array, a: Array) -> Array:
    """The inverse of Hall's cubic transformation: x where a is zero (4)."""
    some = np.abs(a) > 1e-6
    safe = np.where(some, a, 1.0)
    return np.where(some, 3 / safe * (np.cbrt(1 + safe * (x - safe / 6)) - 1), x)
