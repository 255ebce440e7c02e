"""How much seeds scatter, from a panel of rows that ran several: what moderates the few seeds of a board (`seeds`).

Of each metric a figure x > 0 is known for some rows, each with g degrees of freedom: the variance of one seed's mean,
or its ratio B / E. It is read as x ~ l F(g, d0), with one d0 for all metrics (Smyth 2004):

    e   = ln x - digamma(g/2) + ln(g/2),       level = grand mean + w (metric's mean - grand mean)                (1)
    w   = tau2 / (tau2 + v / rows),            v = trigamma(g/2) + excess                                         (2)
    u   = excess + v / rows,        u += (u + trigamma(g/2)) (sqrt(2 / N) / 2 + 1 / N),    N = rows x families    (3)
    d0  = 2 trigamma^-1(u),         l = exp(level + digamma(d0/2) - ln(d0/2))                                     (4)

The excess is what the variance of e within metrics is above trigamma(g/2), pooled over metrics. (3) widens it by its
own error; metrics of one family count once in N, because they scatter together. Written by hand: limma, which has this
estimator, is R's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import digamma, polygamma

from mibench.statistics.arrays import Array

LEAST = 4  # rows of a metric below which it has no prior
MOST = 200.0  # degrees of freedom: beyond that a prior is as good as known


def fitted(figures: Mapping[str, Array], families: Mapping[str, str], degrees: float) -> dict[str, tuple[float, float]]:
    """l and d0 of each metric from the figures of its rows (1) to (4)."""
    half = degrees / 2
    e = {name: np.log(rows) - digamma(half) + np.log(half) for name, rows in figures.items() if len(rows) >= LEAST}
    if not e:
        return {}
    noise = float(polygamma(1, half))
    free = sum(len(rows) - 1 for rows in e.values())
    within = sum(float(((rows - rows.mean()) ** 2).sum()) for rows in e.values()) / free
    excess = max(0.0, within - noise)
    means = np.array([rows.mean() for rows in e.values()])
    error = np.array([(noise + excess) / len(rows) for rows in e.values()])
    between = max(0.0, float(means.var(ddof=1)) - float(error.mean())) if len(means) > 1 else 0.0
    levels = means.mean() + between / (between + error) * (means - means.mean())
    many = len({families[name] for name in e})
    found = {}
    for (name, rows), level, unsure in zip(e.items(), levels.tolist(), error.tolist(), strict=True):
        count, u = len(rows) * many, excess + unsure
        u += (u + noise) * (float(np.sqrt(2 / count)) / 2 + 1 / count)
        freedom = min(MOST, 2 * _inverse_trigamma(u))
        found[name] = float(np.exp(level + digamma(freedom / 2) - np.log(freedom / 2))), freedom
    return found


def _inverse_trigamma(x: float) -> float:
    """y with trigamma(y) = x, by Newton's steps on 1 / trigamma, which is convex (Smyth 2004)."""
    y = 0.5 + 1 / x
    for _ in range(50):
        now = float(polygamma(1, y))
        step = now * (1 - now / x) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-8:
            break
    return y
