"""Which methods differ significantly: every pair of a table tested at once, ranks with intervals, and tie groups.

    z_ij    = -Phi^-1(q_ij),    p_ij = P(max |z*| over the pairs up to ij >= z_ij)                                 (5)
    q_ij    = E_chi T_{n - 1}(-|mean_i - mean_j| / sqrt(max(0, A - E) + B df / chi)),    chi ~ chi squared_df       (6)

with A, B, E and df of `seeds`. The tail (6) is taken over all seeds' variances that a B as large as this one may come
from: of many pairs one has a small B by luck, and (3) would trust it. The pairs' B are not as alike as their draws, so
(5) gives way to Holm's where seeds matter: with three seeds and 2, 10 and 20 equal rows 0 to 8 % of tables have a false
separation then, in scores and in mean ranks.

(5) is the step-down maximum test of Romano and Wolf (2005), which is Holm's with the bootstrap in the place of
Bonferroni: 95 % of tables have no false separation at all. Under FEW samples, too few to resample a maximum, it is
Holm's. Rank intervals follow from it (Mogstad, Romano, Shaikh and Wilhelm 2024), and so do tie groups. Scores come
oriented: higher is better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from scipy.special import ndtri, stdtr

from mibench.statistics.arrays import LEVEL, NIL, Array, Mask, Whole, ratio, square
from mibench.statistics.bootstrap import Bootstrap

POWER = 0.8
FEW = 30
CHI = np.geomspace(1e-9, 1e3, 160)


@dataclass(frozen=True)
class Pairs:
    """Every method against every other on one metric, each (M, M)."""

    difference: Array  # the row's mean less the column's
    p: Array  # that the two are equal, adjusted for all pairs
    needed: Array  # samples needed to separate the two with POWER, at the level of this table

    @cached_property
    def above(self) -> Mask:
        """Whether the row is significantly better than the column."""
        return np.asarray((self.difference > 0) & (self.p <= 1 - LEVEL))

    @cached_property
    def rank(self) -> Whole:
        """1 + the number of methods with a better mean; equal means share a rank."""
        return np.asarray(1 + (self.difference < 0).sum(1))

    @cached_property
    def rank_interval(self) -> tuple[Whole, Whole]:
        """From 1 + those significantly above to all but those significantly below; holds for all methods at once."""
        return 1 + self.above.sum(0), len(self.p) - self.above.sum(1)

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Tie groups (a compact letter display): methods share a letter if and only if they tie."""
        place = np.argsort(np.argsort(self.rank, kind="stable")).tolist()  # 0 is the best
        ties: nx.Graph[int] = nx.Graph()
        ties.add_nodes_from(place)
        ties.add_edges_from((place[i], place[j]) for i, j in np.argwhere(~(self.above | self.above.T)) if i < j)
        groups = sorted(sorted(group) for group in nx.find_cliques(ties))
        return tuple("".join(_letter(k) for k, group in enumerate(groups) if at in group) for at in place)


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"({index + 1})"


def pairs(boot: Bootstrap, level: float = LEVEL) -> Pairs:
    """Test every two methods for a difference (5)."""
    methods, n = len(boot.mean), boot.samples
    i, j = np.triu_indices(methods, 1)  # (P,)
    difference = boot.mean[i] - boot.mean[j]
    difference[np.abs(difference) <= NIL * (np.abs(boot.mean[i]) + np.abs(boot.mean[j]))] = 0.0
    alone = boot.error.diagonal()
    sampled = alone[i] + alone[j] - 2 * boot.error[i, j]
    sampled[sampled <= NIL * (alone[i] + alone[j])] = 0.0
    drawn = np.ascontiguousarray(boot.draws.T)  # (M, B)
    scale = ratio(np.ones(len(i)), np.sqrt(sampled * (n - 1) / n + boot.seeded[i] + boot.seeded[j]))
    between, rest = boot.between[i, j], boot.rest[i, j]
    single = np.ones(len(i))
    if n > 1:
        tails = 2 * _tails(np.abs(difference), sampled, rest, n, between, boot.freedom[i, j])
        single = np.where(difference == 0, 1.0, np.maximum(tails, boot.signs[i, j]))
    z = -ndtri(single / 2)
    stepped, largest = step_down(z, lambda k: np.abs(drawn[i[k]] - drawn[j[k]] - difference[k]) * scale[k])
    p = holm(single) if n < FEW or between.any() else stepped
    strict = float(np.quantile(largest, level)) if len(i) else 0.0
    needed = samples_needed(np.abs(difference), sampled * n, np.maximum(0, between - rest), strict)
    return Pairs(square(difference, methods, 0.0, -1), square(p, methods, 1.0), square(needed, methods, np.inf))


def _tails(difference: Array, sampled: Array, rest: Array, n: int, between: Array, freedom: Array) -> Array:
    """How likely a difference of zero comes out this large or larger (6)."""
    ordinary = np.maximum(sampled - rest, 0)[:, None]  # the part due to the samples
    degrees = np.where(np.isfinite(freedom), freedom, 1.0)[:, None]
    weight = CHI ** (degrees / 2) * np.exp(-CHI / 2)  # the density of chi squared, on a logarithmic grid
    errors = np.sqrt(ordinary + between[:, None] * degrees / CHI)
    found = stdtr(n - 1.0, -ratio(np.broadcast_to(difference[:, None], errors.shape), errors, np.inf))
    return np.asarray((weight * found).sum(1) / weight.sum(1))


def step_down(z: Array, drawn: Callable[[int], Array]) -> tuple[Array, Array]:
    """Adjusted p values of (P,) statistics (5), and the (B,) draws of the largest of all.

    `drawn` gives the draws of one pair where nothing differs: one at a time stays in the processor's cache.
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
