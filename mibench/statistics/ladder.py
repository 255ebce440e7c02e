"""A ladder's readout: at which rung does a score fall to a level?

Along the rungs x (here what an ideal observer knows, in nats) an area under the ROC curve goes from chance to nearly 1.
Psychophysics fits such curves with a logistic that has lapses (Wichmann and Hill, 2001), because a single miss where
all is clear must not flatten the whole curve:

    score(x) = chance + (1 - chance - lapse) / (1 + exp(-(x - midpoint) / spread)),        0 <= lapse <= .2

The *threshold* is the x at which the fitted curve is .75. It is stated only between the rungs that were measured. Where
the curve is above the level on all of them, or below it, the threshold is censored, and known from one side alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

Array = NDArray[np.float64]
Censored = Literal["", "below", "above"]
LEVEL = 0.75
CHANCE = 0.5
MAX_LAPSE = 0.2  # less than 1 - LEVEL, so that every curve reaches the level somewhere
STARTS = (25, 8)  # midpoints and spreads, the best of which least squares begin at
DRAWS = 100


@dataclass(frozen=True)
class Curve:
    """A logistic with lapses."""

    midpoint: float
    spread: float
    lapse: float

    def __call__(self, x: Array) -> Array:
        """Its scores at x."""
        return _logistic(x, self.midpoint, self.spread, self.lapse)

    def reaches(self, level: float = LEVEL) -> float:
        """The x at which it has this score."""
        share = (level - CHANCE) / (1 - CHANCE - self.lapse)
        return self.midpoint + self.spread * float(np.log(share / (1 - share)))


@dataclass(frozen=True)
class Threshold:
    """Where a score falls to a level: `x`, or the last rung on its side if `censored` (below or above all rungs)."""

    x: float
    censored: Censored = ""

    def __str__(self) -> str:
        return {"": "", "below": "< ", "above": "> "}[self.censored] + f"{self.x:.2f}"


def fit(x: Sequence[float] | Array, scores: Sequence[float] | Array) -> Curve:
    """The curve of least squared error through scores on at least three rungs."""
    rungs, values = np.asarray(x, np.float64), np.asarray(scores, np.float64)
    if len(rungs) < 3 or len(rungs) != len(values) or not np.isfinite([*rungs, *values]).all():
        raise ValueError(f"a curve needs a finite score on each of three rungs or more, not {len(values)} scores")
    low, high = rungs.min(), rungs.max()
    wide = high - low
    if wide == 0:
        raise ValueError(f"all rungs are at {low:g}: a curve needs rungs that differ")
    bounds = ((low - 2 * wide, wide / 100, 0.0), (high + 2 * wide, 2 * wide, MAX_LAPSE))
    start = _start(rungs, values)
    try:
        best, _ = curve_fit(_logistic, rungs, values, start, bounds=bounds, max_nfev=200)
    except RuntimeError:  # it crept along a flat valley, where one curve is as good as another
        best = np.array(start)
    return Curve(*map(float, best))


def _start(rungs: Array, values: Array) -> tuple[float, float, float]:
    """The best curve of a grid of midpoints and spreads, each with the lapse that suits it best."""
    low, wide = rungs.min(), rungs.max() - rungs.min()
    midpoints = np.linspace(low - wide, low + 2 * wide, STARTS[0])
    spreads = wide * np.geomspace(0.02, 1.5, STARTS[1])
    shapes = 2 * _logistic(rungs, midpoints[:, None, None], spreads[:, None], 0.0) - 1  # (M, S, R) from 0 to 1
    heights = (shapes * (values - CHANCE)).sum(2) / np.maximum(np.square(shapes).sum(2), 1e-12)  # (M, S)
    heights = heights.clip(1 - CHANCE - MAX_LAPSE, 1 - CHANCE)
    errors = np.square(heights[..., None] * shapes - (values - CHANCE)).sum(2)
    first, second = np.unravel_index(int(errors.argmin()), errors.shape)
    return float(midpoints[first]), float(spreads[second]), float(1 - CHANCE - heights[first, second])


def threshold(x: Sequence[float] | Array, scores: Sequence[float] | Array, level: float = LEVEL) -> Threshold:
    """Where the fitted curve has this score."""
    rungs = np.asarray(x, np.float64)
    reached = fit(rungs, scores).reaches(level)
    if reached < rungs.min():
        return Threshold(float(rungs.min()), "below")
    return Threshold(float(rungs.max()), "above") if reached > rungs.max() else Threshold(reached)


def interval(x: Sequence[float] | Array, samples: Array, seed: int = 0, share: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a threshold over resampled samples (rungs, N); a censored draw is at its last rung.

    The same samples are drawn on every rung, because they are one and the same plan under louder and louder pixels.
    """
    random = np.random.default_rng(seed)
    picks = random.integers(samples.shape[1], size=(DRAWS, samples.shape[1]))
    draws = [threshold(x, np.nanmean(samples[:, pick], 1)).x for pick in picks]
    low, high = np.quantile(draws, ((1 - share) / 2, (1 + share) / 2))
    return float(low), float(high)


def _logistic(x: Array, midpoint: float | Array, spread: float | Array, lapse: float) -> Array:
    """The curve's equation."""
    slope = np.clip(-(x - midpoint) / spread, -500, 500)
    return np.asarray(CHANCE + (1 - CHANCE - lapse) / (1 + np.exp(slope)))
