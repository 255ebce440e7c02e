"""Whether metrics agree: the correlation of orders, and intervals around bent statistics."""

from __future__ import annotations

import numpy as np

from mibench.statistics.arrays import LEVEL, Array, ratio


def taus(means: Array) -> Array:
    """Kendall's tau-b of every two of K orders, (…, K, M) -> (…, K, K), over the methods that both have a mean for.

    NaN where one of the two is all ties. All numbers up to the root are whole, and exact in single precision.
    """
    i, j = np.triu_indices(means.shape[-1], 1)
    difference = means[..., i] - means[..., j]  # (…, K, P), NaN where a method is missing
    both = np.isfinite(difference).astype(np.float32)
    ahead = (difference > 0).astype(np.float32) - (difference < 0)
    agree = ahead @ ahead.swapaxes(-1, -2)  # (…, K, K)
    untied = np.abs(ahead) @ both.swapaxes(-1, -2)
    return ratio(agree.astype(float), np.sqrt(untied.astype(float) * untied.swapaxes(-1, -2)), np.nan)


def around(observed: float, draws: Array, level: float = LEVEL) -> tuple[float, float]:
    """An interval for a bent statistic: percentiles of the draws or their mirror image, whichever reaches further."""
    if not np.isfinite(draws).any():
        return np.nan, np.nan
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(min(low, 2 * observed - high)), float(max(high, 2 * observed - low))
