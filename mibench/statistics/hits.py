"""Scores that only hit or miss: no resample knows the miss that has not happened, so exact limits hold besides.

An interval reaches at least as far as Clopper's and Pearson's, and differences of a single size are at most
as significant as their signs (the exact sign test).
"""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr, betaincinv

from mibench.statistics.arrays import NIL, Array, Whole


def sign_tests(differences: Array) -> Array:
    """The exact sign test's p of (P, N) differences, NaN for none, that have one size; 0 elsewhere."""
    d = np.nan_to_num(differences)
    size = np.abs(d).max(1, keepdims=True, initial=0)
    some = np.abs(d) > NIL * size
    alike = (~some | (np.abs(d) >= (1 - NIL) * size)).all(1)
    up, many = (some & (d > 0)).sum(1), some.sum(1)
    return np.where(alike, np.minimum(1, 2 * bdtr(np.minimum(up, many - up), many, 0.5)), 0.0)


def hit_limits(share: Array, n: Whole, level: float) -> Array:
    """Clopper's and Pearson's limits of a share of hits among n, (2, M)."""
    hits = share * n
    low = np.where(hits > 0, betaincinv(hits, n - hits + 1, (1 - level) / 2), 0.0)
    high = np.where(hits < n, betaincinv(hits + 1, n - hits, (1 + level) / 2), 1.0)
    return np.where(np.isfinite(share), [low, high], np.nan)
