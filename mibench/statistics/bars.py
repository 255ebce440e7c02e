"""Comparison bars: one half-length u a row, so that bars that do not touch are apart, and bars that touch are tied.

    minimise  sum over separated pairs of w_ij max(0, u_i + u_j - |d_ij|) + .001 sum u_i,
    where     u_i + u_j >= |d_ij| for tied pairs, u >= 0                                       (a linear programme)

Two intervals of 95 % part later than their means differ significantly, and earlier than one of hundreds of pairs does:
no interval of a mean can show which rows tie. Tied rows' bars always touch. Rows that move together over the samples
may be apart although each ties with a third between them: then no bars show both, and the weights w, larger where less
is missing, seek the fewest such pairs (Candes, Wakin and Boyd 2008).
"""

from __future__ import annotations

import numpy as np

from mibench.statistics.arrays import Array, Mask

GAP = 1e-3  # of their distance: how far apart the bars of separated rows are at least
SOLVED = 1e-6  # of the largest distance: what the solver may miss
ROUNDS = 6
SMALL = 1e-3  # of the largest distance: an overlap of this size halves its weight


def bars(mean: Array, apart: Mask) -> Array:
    """(M,) half-lengths for means and the pairs that are significantly apart."""
    rows = len(mean)
    i, j = np.triu_indices(rows, 1)
    distance, split = np.abs(mean[i] - mean[j]), apart[i, j]
    largest = float(distance.max(initial=0.0))
    if largest == 0 or split.all():
        return np.zeros(rows)
    from scipy.optimize import linprog  # slow to import, and an unchanged board needs none
    from scipy.sparse import coo_array

    sign, pair, over = np.where(split, 1.0, -1.0), np.arange(len(i)), np.arange(split.sum())
    entries = np.concatenate([sign, sign, np.full(len(over), -1.0)])
    places = np.concatenate([pair, pair, pair[split]]), np.concatenate([i, j, rows + over])
    table = coo_array((entries, places), shape=(len(pair), rows + len(over))).tocsr()
    most = sign * distance / largest * np.where(split, 1 - GAP, 1.0)
    weights, best, fewest = np.ones(len(over)), np.zeros(rows), len(over) + 1
    for _ in range(ROUNDS):
        solved = linprog(np.concatenate([np.full(rows, SMALL), weights]), table, most, method="highs")
        missed = int((solved.x[rows:] > SOLVED).sum())  # wide enough bars always solve it
        if missed < fewest:
            best, fewest = solved.x[:rows], missed
        if not missed:
            break
        weights = SMALL / (solved.x[rows:] + SMALL)
    return np.asarray(largest * (best + SOLVED), float)


def touch(mean: Array, half: Array) -> Mask:
    """(M, M) whether two rows' bars touch."""
    return np.asarray(np.abs(mean[:, None] - mean) <= half[:, None] + half)
