"""What a few seeds add to the variance of a mean.

A score of row m, seed s and sample i is read as mean_m + sample_mi + seed_ms + rest_msi.

    A, B, E = variances of n samples' means / n, of S seeds' means / S, and mean square of the rest / (n S)        (1)
    B~      = (d0 B0 + (S - 1) B) / (d0 + S - 1),    on d0 + S - 1 degrees of freedom                              (2)
    B0      = s0^2 / S    for one seed,    r_n E    for more,    r_n = 1 + (r - 1) n / n_panel

A expects the shares of the samples and the rest in the variance of a mean, B those of the seeds and the rest. B alone
knows S - 1 degrees of freedom, which is next to nothing: so it is moderated (2) by what a fixed, committed panel of the
same score leads to expect, worth d0 degrees of freedom (Smyth 2004). How far means move from seed to seed varies a
thousandfold between rows, and s0^2, their typical variance, is worth little; but what moves a mean moves single samples
too, and the ratio of B to E hardly varies: r on the panel's n_panel samples. Neither comes from the rows at hand, so
that no row changes another's verdict. Without it B stands for itself, and one seed for
nothing: such a row is `alone`, and speaks of its own fit. A row that no seed changes has B~ = 0, unless each seed has a
network of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mibench.statistics.arrays import Array, Mask, Whole, ratio


@dataclass(frozen=True)
class Ratio:
    """How B compares with E: r, what it is worth, and on how many samples it was measured."""

    value: float
    freedom: float
    samples: int

    def of(self, samples: Whole) -> Array:
        """r_n; in expectation it is never below one."""
        return np.asarray(1 + max(0.0, self.value - 1) * samples / self.samples)


@dataclass(frozen=True)
class Fits:
    """What another seed would change in each of M rows."""

    seeded: Mask  # False: every seed gives the same map
    prior: Array  # s0^2, in squared units of the score; NaN where it is not known
    freedom: float  # d0
    source: Whole  # rows of one number share their fits
    networks: bool = False  # whether each seed has a network of its own, which moves all rows
    ratio: Ratio | None = None

    @classmethod
    def unknown(cls, rows: int, seeded: bool = True) -> Fits:
        """Rows of fits of their own and without a prior."""
        return cls(np.full(rows, seeded), np.full(rows, np.nan), np.nan, np.arange(rows))

    def __getitem__(self, rows: Whole) -> Fits:
        return Fits(self.seeded[rows], self.prior[rows], self.freedom, self.source[rows], self.networks, self.ratio)

    def shared(self, first: Whole, second: Whole) -> Mask:
        """Which pairs' seeds act on both rows, so that only the variance of their difference counts."""
        same = self.source[first] == self.source[second]
        return np.asarray(same & self.seeded[first] & self.seeded[second] | self.networks)


@dataclass(frozen=True)
class Parts:
    """K means and the parts of their variance (1), (K,) each."""

    mean: Array  # NaN without samples
    sampled: Array  # A
    between: Array  # B
    rest: Array  # E
    third: Array  # third central moment of the mean that comes from the samples
    samples: Whole
    seeds: Whole


def averages(scores: Array) -> Array:
    """Means over the seeds that a row of (K, S, N) ran, (K, N); NaN where one of them has no score."""
    ran: Mask = np.asarray(np.isfinite(scores).any(2))  # (K, S)
    there = (np.isfinite(scores) | ~ran[..., None]).all(1) & ran.any(1, keepdims=True)
    total = np.where(np.isfinite(scores), scores, 0).sum(1) / np.maximum(ran.sum(1, keepdims=True), 1)
    return np.where(there, total, np.nan)


def parts(scores: Array, averaged: Array | None = None) -> Parts:
    """Of (K, S, N) scores, NaN where there is none; given the averages alone, of one seed."""
    y = averages(scores) if averaged is None else averaged  # (K, N)
    there: Mask = np.isfinite(y)
    ran: Mask = np.asarray(np.isfinite(scores).any(2))
    n, seeds = there.sum(1), ran.sum(1)
    some, mean = np.maximum(n, 1), np.where(there, y, 0).sum(1) / np.maximum(n, 1)
    centred = np.where(there, y - mean[:, None], 0)
    inside = there[:, None] & ran[..., None]  # (K, S, N)
    kept = np.where(inside, scores, 0)
    moved = np.where(ran, kept.sum(2) / some[:, None] - mean[:, None], 0)  # (K, S)
    left = np.where(inside, kept - moved[..., None] - mean[:, None, None] - centred[:, None], 0)
    free, count = np.maximum(seeds - 1, 1), np.maximum(seeds, 1)
    return Parts(
        np.where(n > 0, mean, np.nan),
        (centred**2).sum(1) / np.maximum(n - 1, 1) / some,
        (moved**2).sum(1) / free / count,
        (left**2).sum((1, 2)) / (free * np.maximum(n - 1, 1)) / (some * count),
        (centred**3).sum(1) / some**3,
        n,
        seeds,
    )


def moderated(
    found: Parts, seeded: Mask, prior: Array, freedom: float, compared: Ratio | None = None
) -> tuple[Array, Array]:
    """B~ and its degrees of freedom (2), which are endless where seeds change nothing, or nothing is known of them."""
    own, known = np.maximum(found.seeds - 1.0, 0), np.where(np.isfinite(prior), freedom, 0.0)
    expected = np.nan_to_num(prior) / np.maximum(found.seeds, 1)
    if compared is not None:
        several = (own > 0) & (found.rest > 0)
        known = np.where(several, compared.freedom, known)
        expected = np.where(several, compared.of(found.samples) * found.rest, expected)
    weight = np.where(seeded, own + known, 0.0)
    return ratio(known * expected + own * found.between, weight), np.where(weight > 0, weight, np.inf)


def joint_freedom(first: tuple[Array, Array], second: tuple[Array, Array]) -> Array:
    """Degrees of freedom of a sum of two variances, each with its own; without bias (Welch 1947)."""
    squares = sum((variance**2 / (freedom + 2) for variance, freedom in (first, second)), np.zeros(1))
    return ratio((first[0] + second[0]) ** 2, squares, np.inf) - 2
