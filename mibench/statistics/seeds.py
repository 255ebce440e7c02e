"""The contribution of a few seeds to the variance of a mean, and its degrees of freedom.

A score of method m, seed s and sample i is read as mean_m + sample_mi + seed_ms + rest_msi.

    A, B, E = variances of n samples' means / n, of S seeds' means / S, and mean square of the rest / (n S)        (2)
    V       = max(0, A - E) + B,     1 / df = (1 - B / V) / (n - 1) + (B / V) / (S - 1)                            (3)

(3) is how wide an interval is. A mean's variance is sample / n + seed / S + rest / (n S), where A expects the first and
the last, B the last two, E the last. So V is unbiased, and B is what knows only S - 1 degrees of freedom: B, not B - E.
Cutting off B - E at zero would take a small B, which is luck, for no seeds' share and many degrees of freedom. With
Satterthwaite's squared shares, df is right for shares that are known; these come from the same few seeds, and a share
that came out small makes V small and df large at once. Unsquared, df is the harmonic mean by share: no more than his,
the same where one part is all.

A difference is a score of its own, sample by sample and seed by seed: two rows may share their fits, and ranks add up
to the same with every seed. Only where two methods ran several seeds each and not the same number do B and E add, with
Welch's df.
"""

from __future__ import annotations

import numpy as np

from mibench.statistics.arrays import Array, Mask, ratio


def seed_variances(scores: Array) -> tuple[Array, Array, Array]:
    """B, E and the degrees of freedom of (M, S, n) scores (2), for each method and for the difference of every two."""
    ran: Mask = np.asarray(np.isfinite(scores).all(2))  # (M, S)
    each = [_variances(one[None, seeds]) for one, seeds in zip(scores, ran, strict=True)]
    between, rest = np.array(each).reshape(-1, 2).T  # (M,) each
    count = ran.sum(1)
    freedom = np.where(count > 1, count - 1.0, np.inf)
    welch = joint_freedom((between, freedom), (between[:, None], freedom[:, None]))
    found = between + between[:, None], rest + rest[:, None], welch
    for both, alone in zip(found, (between, rest, freedom), strict=True):
        np.fill_diagonal(both, alone)
    whole = np.flatnonzero(count == scores.shape[1])
    if scores.shape[1] > 1:
        together = *(_of_differences(part) for part in _variances(scores[whole])), scores.shape[1] - 1.0
        for both, of_whole in zip(found, together, strict=True):
            both[np.ix_(whole, whole)] = of_whole
    return found


def _variances(scores: Array) -> tuple[Array, Array]:
    """B and E of (M, S, n) scores that lack none (2), as covariances of the methods."""
    _, seeds, n = scores.shape
    means = scores.mean(2, keepdims=True)  # (M, S, 1)
    moved = (means - means.mean(1, keepdims=True))[..., 0]
    rest = scores - means - scores.mean(1, keepdims=True) + means.mean(1, keepdims=True)
    products, free = np.tensordot(rest, rest, ([1, 2], [1, 2])), max(seeds - 1, 1)
    return moved @ moved.T / free / seeds, products / (free * max(n - 1, 1)) / (n * seeds)


def _of_differences(covariance: Array) -> Array:
    """Variances of the differences of every two, and each one's own on the diagonal."""
    alone = covariance.diagonal()
    found = np.maximum(0, alone[:, None] + alone - 2 * covariance)
    np.fill_diagonal(found, alone)
    return found


def joint_freedom(*parts: tuple[Array, Array]) -> Array:
    """Degrees of freedom of a sum of variances, each with its own; both sums of squares without bias (Welch 1947)."""
    whole = sum((variance for variance, _ in parts), np.zeros(1)) ** 2
    return ratio(whole, sum((variance**2 / (freedom + 2) for variance, freedom in parts), np.zeros(1)), np.inf) - 2


def width(sampled: Array, rest: Array, n: int, between: Array, freedom: Array) -> tuple[Array, Array]:
    """V and its degrees of freedom (3), given B and its own degrees of freedom."""
    variance = np.maximum(sampled - rest, 0) + between
    share = ratio(between, variance)
    return variance, 1 / ((1 - share) / (n - 1) + share / freedom)
