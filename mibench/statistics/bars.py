"""Comparison bars: one half-length u a row, so that bars that touch are tied and bars that do not are apart.

    minimise  sum over separated pairs of max(0, u_i + u_j - |d_ij|) + .001 sum u_i,
    where     u_i + u_j >= |d_ij| for tied pairs, u >= 0.                                     (a linear programme)

Two intervals of 95 % part later than their means differ significantly, and earlier than one of hundreds of pairs does:
no interval of a mean can show which rows tie. These do, and say nothing else.
"""

from __future__ import annotations

import numpy as np

from mibench.statistics.arrays import Array, Mask

GAP = 0.02  # of their distance: how far apart the bars of separated rows are at least
SOLVED = 1e-6  # of the largest distance: what the solver may miss


def bars(mean: Array, apart: Mask) -> Array:
    """(M,) half-lengths for means and the pairs that are significantly apart."""
    rows = len(mean)
    i, j = np.triu_indices(rows, 1)
    distance = np.abs(mean[i] - mean[j])
    largest = float(distance.max(initial=0.0))
    if largest == 0 or apart[i, j].all():
        return np.zeros(rows)
    from scipy.optimize import linprog  # slow to import, and an unchanged board needs none
    from scipy.sparse import coo_array

    count = len(i)
    split = apart[i, j]
    sign = np.where(split, 1.0, -1.0)
    k = np.arange(count)
    slack = k[split]
    entries = np.concatenate([sign, sign, -np.ones(len(slack))])
    places = np.concatenate([k, k, slack]), np.concatenate([i, j, rows + np.arange(len(slack))])
    most = sign * distance / largest * np.where(split, 1 - GAP, 1.0)
    cost = np.concatenate([np.full(rows, 1e-3), np.ones(len(slack))])
    above = coo_array((entries, places), shape=(count, rows + len(slack)))
    found = linprog(cost, above.tocsr(), most, method="highs")
    assert found.success, found.message  # wide enough bars always solve it
    return np.asarray(largest * (found.x[:rows] + SOLVED), float)


def touch(mean: Array, half: Array) -> Mask:
    """(M, M) whether two rows' bars touch."""
    return np.asarray(np.abs(mean[:, None] - mean) <= half[:, None] + half)
