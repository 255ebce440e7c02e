"""Scores that only hit or miss: no resample knows the miss that has not happened, so exact limits hold besides.

An interval reaches at least as far as Clopper's and Pearson's, and differences of a single size are at most
as significant as their signs (the exact sign test).
"""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr, betaincinv

from mibench.statistics.arrays import NIL, Array


def sign_tests(averaged: Array) -> Array:
    """The exact sign test's p of every two rows of (M, n) scores whose differences have one size; 0 elsewhere."""
    p = np.zeros((len(averaged), len(averaged)))
    for k, one in enumerate(averaged):
        differs = averaged - one
        size = np.abs(differs).max(1, keepdims=True)
        some = np.abs(differs) > NIL * size
        alike = (~some | (np.abs(differs) >= (1 - NIL) * size)).all(1)
        up, many = (some & (differs > 0)).sum(1), some.sum(1)
        p[k, alike] = np.minimum(1, 2 * bdtr(np.minimum(up, many - up), many, 0.5))[alike]
    return p


def hit_limits(share: Array, n: int, level: float) -> Array:
    """Clopper's and Pearson's limits of a share of hits, (2, M)."""
    hits = share * n
    low = np.where(hits > 0, betaincinv(hits, n - hits + 1, (1 - level) / 2), 0.0)
    high = np.where(hits < n, betaincinv(hits + 1, n - hits, (1 + level) / 2), 1.0)
    return np.where(np.isfinite(share), [low, high], np.nan)
