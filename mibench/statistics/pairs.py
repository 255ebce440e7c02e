"""Which rows differ significantly: every pair of a table tested at once, ranks with intervals, and who is best.

    V_ij = max(0, A_ij - E_i - E_j) + B~_i + B~_j,    p_ij = 2 T_df(-|mean_i - mean_j| / sqrt(V_ij))               (5)
    z_ij = -Phi^-1(p_ij / 2),    adjusted p_ij = P(max |z*| over the pairs up to ij >= z_ij)                       (6)

A pair is judged on the samples that both rows have, and by their two rows alone; what other rows change is (6), the
number of comparisons. df is as in (3) of `means`, with Welch's and Satterthwaite's degrees of freedom of B~_i + B~_j.
Where seeds act on both rows (maps of one fit, or a network of its own for each seed), the variance of differences
within a seed takes the place of that sum, moderated by the sum of both priors. (6) is the step-down maximum test of
Romano and Wolf (2005), z* from resamples of the samples and normal seeds: 95 % of tables have no false separation at
all. Under FEW samples, too few to resample a maximum, and where a variance of few seeds has no prior, it is Holm's. A
difference within ROUNDING is none. Rank intervals follow (Mogstad, Romano, Shaikh and Wilhelm 2024). Higher is better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import ndtri, stdtr

from mibench.statistics.arrays import LEVEL, NIL, ROUNDING, Array, Counts, Mask, Whole, ratio, square
from mibench.statistics.bars import bars
from mibench.statistics.hits import sign_tests
from mibench.statistics.means import Means, limits, width
from mibench.statistics.resampling import resampled
from mibench.statistics.seeds import Parts, joint_freedom, moderated, parts

POWER = 0.8
FEW = 30
CHI = np.geomspace(1e-9, 1e3, 160)


@dataclass(frozen=True)
class Pairs:
    """Every row against every other on one metric."""

    mean: Array  # (M,)
    difference: Array  # (M, M) the row's mean less the column's, on the samples that both have
    low: Array  # (M, M) its own interval of 95 %, not adjusted …
    high: Array
    p: Array  # (M, M) that the two are equal, adjusted for all pairs
    needed: Array  # (M, M) samples needed to separate the two with POWER, at the level of this table
    compared: int  # pairs

    def __getitem__(self, rows: list[int]) -> Pairs:
        """Some of the rows, adjusted for all pairs as before."""
        both = np.ix_(rows, rows)
        some = {name: getattr(self, name)[both] for name in ("difference", "low", "high", "p", "needed")}
        return replace(self, mean=self.mean[rows], **some)

    @cached_property
    def above(self) -> Mask:
        """Whether the row is significantly better than the column."""
        return np.asarray((self.difference > 0) & (self.p <= 1 - LEVEL))

    @cached_property
    def rank(self) -> Whole:
        """1 + the number of rows with a better mean; equal means share a rank."""
        return np.asarray(1 + (self.difference < 0).sum(1))

    @cached_property
    def rank_interval(self) -> tuple[Whole, Whole]:
        """From 1 + those significantly above to all but those significantly below; holds for all rows at once."""
        return 1 + self.above.sum(0), len(self.p) - self.above.sum(1)

    @cached_property
    def leading(self) -> tuple[str, ...]:
        """`best`; `with the best` for who is significantly below nobody; and nothing for the rest."""
        first = 1 + (self.mean > self.mean[:, None] + 0.0).sum(1)
        unbeaten = ~self.above.any(0)
        words = np.where(unbeaten, np.where(first == 1, "best", "with the best"), "")
        return tuple(map(str, words))

    @cached_property
    def bars(self) -> Array:
        """(M,) half the length of each row's comparison bar."""
        return bars(self.mean, np.asarray(self.above | self.above.T))


def pairs(table: Means, weights: Counts) -> Pairs:
    """Test every two rows for a difference (5), (6); `weights` resample the table's samples."""
    rows = len(table.scores)
    i, j = np.triu_indices(rows, 1)  # (P,)
    differences = table.averaged[i] - table.averaged[j]  # (P, N)
    found, between, freedom = _parts(table, differences, i, j)
    difference = np.where(np.abs(found.mean) <= _rounding(table, i, j), 0.0, found.mean)
    variance, degrees = width(found, between, freedom)
    variance[variance <= NIL * (table.parts.sampled[i] + table.parts.sampled[j])] = 0.0
    tails = 2 * stdtr(degrees, -ratio(np.abs(difference), np.sqrt(variance), np.inf))
    unknown = (between > 0) & ~np.isfinite(table.fits.prior[i] + table.fits.prior[j])
    wide = _wide_tails(np.abs(difference), np.maximum(variance - between, 0), found.samples, between, freedom)
    tails = np.where(unknown, 2 * wide, tails)
    some = (found.samples > 1) & (difference != 0)
    single = np.where(some, np.maximum(tails, sign_tests(differences)), 1.0)
    added = np.maximum(0, between - found.rest)
    p, strict = _adjusted(single, table, weights, (i, j), differences, found, added)
    needed = samples_needed(np.abs(difference), found.sampled * found.samples, added, strict)
    low, high = limits(found, between, freedom)
    return Pairs(
        table.mean,
        square(difference, rows, 0.0, -1),
        square(low, rows, 0.0) + np.tril(square(-high - low, rows, 0.0)),
        square(high, rows, 0.0) + np.tril(square(-low - high, rows, 0.0)),
        square(p, rows, 1.0),
        square(needed, rows, np.inf),
        len(i),
    )


def _parts(table: Means, differences: Array, i: Whole, j: Whole) -> tuple[Parts, Array, Array]:
    """The differences' means and parts of variance, B~ of each, and its degrees of freedom."""
    one = parts(differences[:, None])
    (between, freedom), rest = table.between, table.parts.rest
    joint = between[i] + between[j], joint_freedom((between[i], freedom[i]), (between[j], freedom[j]))
    shared = table.fits.shared(i, j)
    if not shared.any():
        return _with(one, rest=rest[i] + rest[j]), *joint
    within = parts(table.scores[i] - table.scores[j])
    prior = table.fits.prior[i] + table.fits.prior[j]
    moved = moderated(within, shared, prior, 2 * table.fits.freedom, table.fits.ratio)
    whole = shared & (within.samples > 0)  # else they have no seed in common
    mixed = {name: np.where(whole, getattr(within, name), getattr(one, name)) for name in ("mean", "sampled", "third")}
    mixed["rest"] = np.where(whole, within.rest, rest[i] + rest[j])
    return _with(one, **mixed), np.where(whole, moved[0], joint[0]), np.where(whole, moved[1], joint[1])


def _wide_tails(difference: Array, ordinary: Array, n: Whole, between: Array, freedom: Array) -> Array:
    """The tail of (5) over all variances that B may come from: of many pairs one has a small B by luck."""
    degrees = np.where(np.isfinite(freedom), freedom, 1.0)[:, None]
    weight = CHI ** (degrees / 2) * np.exp(-CHI / 2)  # the density of chi squared, on a logarithmic grid
    errors = np.sqrt(ordinary[:, None] + between[:, None] * degrees / CHI)
    found = stdtr(n[:, None] - 1.0, -ratio(difference[:, None], errors, np.inf))
    return np.asarray((weight * found).sum(1) / weight.sum(1))


def _with(found: Parts, **changes: Array) -> Parts:
    return Parts(**{**vars(found), **changes})


def _rounding(table: Means, i: Whole, j: Whole) -> Array:
    """How large a difference float32's rounding alone may leave."""
    wide = table.bounds[1] - table.bounds[0]
    size = np.abs(table.mean)
    return np.asarray(ROUNDING * (np.full(len(i), wide) if np.isfinite(wide) else size[i] + size[j]))


def _adjusted(
    single: Array,
    table: Means,
    weights: Counts,
    ij: tuple[Whole, Whole],
    differences: Array,
    found: Parts,
    added: Array,
) -> tuple[Array, float]:
    """p values adjusted for all pairs (6), and the z that the strictest of them must reach."""
    i, j = ij
    strict = float(-ndtri((1 - LEVEL) / 2 / max(1, len(i))))
    guessed = bool((added[~np.isfinite(table.fits.prior[i] + table.fits.prior[j])] > 0).any())
    if len(i) < 2 or found.samples.min() < FEW or guessed:
        return holm(single), strict
    drawn = resampled(differences, weights)  # (B, P)
    if added.any():
        noise, spread = table.noise(len(weights)), np.sqrt(table.between[0])
        both = ratio(np.ones(len(i)), np.sqrt(table.between[0][i] + table.between[0][j]))
        drawn += (noise[:, i] * spread[i] - noise[:, j] * spread[j]) * both * np.sqrt(added)
    n = found.samples
    drawn *= ratio(np.ones(len(i)), np.sqrt(found.sampled * (n - 1) / np.maximum(n, 1) + added))
    columns = np.ascontiguousarray(np.abs(drawn.T))
    stepped, largest = step_down(-ndtri(single / 2), columns.__getitem__)
    return stepped, float(np.quantile(largest, LEVEL))


def step_down(z: Array, drawn: Callable[[int], Array]) -> tuple[Array, Array]:
    """Adjusted p values of (P,) statistics (6), and the (B,) draws of the largest of all.

    `drawn` gives the draws of one pair where nothing differs.
    """
    adjusted, largest = np.empty_like(z), np.zeros(1)
    order = np.argsort(z, kind="stable")
    for k in order.tolist():
        largest = np.maximum(largest, drawn(k))  # over the pairs up to this one
        adjusted[k] = (1 + np.count_nonzero(largest >= z[k])) / (len(largest) + 1)
    adjusted[order] = np.maximum.accumulate(adjusted[order][::-1])[::-1]
    return adjusted, largest


def samples_needed(difference: Array, spread: Array, seeded: Array, strict: float, power: float = POWER) -> Array:
    """Samples at which a difference reaches z = strict with this power; infinite where more samples do not help."""
    room = (difference / (strict + float(ndtri(power)))) ** 2 - seeded
    return np.ceil(ratio(spread, room, np.inf))


def holm(p: Array) -> Array:
    """p values adjusted for their number, step by step (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted
