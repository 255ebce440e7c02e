"""One score that both sides have: its difference, the noise of that difference, and what size of it matters.

Where the network and what an explainer learned are the same, samples pair and are the only noise. Where explainers were
fitted again samples pair as well, and the variance between fits is added. Where the network was trained again, or where
a side has no samples' scores, intervals are compared, and the scatter of networks is added (`thresholds.Retrained`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from mibench.gate.question import Kind
from mibench.gate.side import Row, Side
from mibench.gate.significance import Array, Noise, Prior, fits_variance, p_of_few
from mibench.gate.thresholds import Effects, Scatter, Thresholds

FEWEST = 6  # paired samples; with fewer, intervals are used
NORMAL = 1.959964  # half a 95 % interval in standard errors
TINY = 1e-6  # of a score's scale or of the score itself, whichever is larger: rounding

Priors = Callable[[Row], Prior | None]  # the variance between fits on one network, as a share of the squared scale
How = Literal["nothing fitted again", "fitted again", "network trained again", "by intervals"]


@dataclass(frozen=True)
class Scored:
    """A score that both sides have."""

    row: Row
    before: Side
    after: Side
    limits: Thresholds
    kind: Kind
    prior: Prior | None = None

    @property
    def records(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Before and after."""
        return self.before.rows[self.row], self.after.rows[self.row]

    @property
    def family(self) -> Any:
        """The family of the metric."""
        return self.records[1]["family"]

    @property
    def sign(self) -> float:
        """What a difference is multiplied by so that positive is better."""
        return 1.0 if self.records[1]["direction"] == "higher" else -1.0

    @property
    def retrained(self) -> bool:
        """Whether the network has other weights by the same recipe."""
        return self.kind == "retrained"

    @cached_property
    def redrawn(self) -> bool:
        """Whether the method has learned, and not known to be the same; networks trained again cover that."""
        learns = self.before.learns(self.row) or self.after.learns(self.row)
        seeds = self.seeds if self.common else None
        return learns and not self.retrained and not self.before.same_fits(self.after, self.row, seeds)

    @property
    def how(self) -> How:
        """What was drawn again between the sides."""
        if self.retrained:
            return "network trained again"
        if self.common is None:
            return "by intervals"
        return "fitted again" if self.redrawn else "nothing fitted again"

    @property
    def seeds(self) -> list[int]:
        """The seeds whose samples pair."""
        return [int(seed) for seed in self.common[0].columns.to_list()] if self.common else []

    @cached_property
    def common(self) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Both sides' scores of the samples and seeds that both have, oriented; None where samples do not pair."""
        was, now = (side.samples.get(self.row) for side in (self.before, self.after))
        if self.kind != "paired" or was is None or now is None:
            return None
        there, seeds = was.index.intersection(now.index), was.columns.intersection(now.columns)
        if len(there) < FEWEST or seeds.empty:
            return None
        return self.sign * was.loc[there, seeds], self.sign * now.loc[there, seeds]

    @cached_property
    def pairs(self) -> pd.Series:
        """How much better each sample's score is, averaged over seeds; rounding is no difference."""
        if self.common is None:
            return pd.Series(dtype=float)
        was, now = self.common
        found = (now - was).mean(axis=1).dropna()
        return found.where(found.abs() > self.rounding, 0.0)

    @property
    def earlier(self) -> pd.Series:
        """The earlier score of each sample that is compared."""
        return self.common[0].mean(axis=1) if self.common else pd.Series(dtype=float)

    @cached_property
    def means(self) -> tuple[float, float]:
        """The score before and after, over what is compared."""
        if self.common is None:
            first, second = (float(each["value"]) for each in self.records)
        else:
            first, second = (self.sign * float(each.mean(axis=1).mean()) for each in self.common)
        return first, second

    @cached_property
    def difference(self) -> float:
        """How much better the later side is."""
        if self.common:
            return float(self.pairs.mean())
        was, now = self.means
        gap = self.sign * (now - was)
        return gap if abs(gap) > self.rounding else 0.0

    @property
    def differs(self) -> bool:
        """Whether anything differs at all."""
        return bool(self.pairs.any()) if self.common else self.difference != 0

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the earlier scores over the samples."""
        if self.common:
            return float(self.earlier.std())
        was = self.before.samples.get(self.row)
        if was is not None and len(was) > 1:
            return float(was.mean(axis=1).std())
        return float(_error(self.records[0]) * self.records[0]["samples"] ** 0.5)

    @cached_property
    def scale(self) -> float:
        """The metric's range, or its spread over samples where it has no range."""
        metric = (self.before.identity.metrics | self.after.identity.metrics).get(self.row.metric)
        low, high = metric.range if metric else (-np.inf, np.inf)
        return float(high - low) if np.isfinite(high - low) else self.spread

    @cached_property
    def rounding(self) -> float:
        """What another processor may change."""
        return TINY * max(self.scale, abs(self.means[0]))

    @property
    def is_bounded(self) -> bool:
        """Whether the scale is a range."""
        metric = (self.before.identity.metrics | self.after.identity.metrics).get(self.row.metric)
        return metric is not None and bool(np.isfinite(metric.range).all())

    def amount(self, effects: Effects) -> float:
        """A family's share of the scale."""
        unbounded = isinstance(effects, Scatter) and not self.is_bounded
        return self.scale * (effects.unbounded if unbounded else effects.effect(self.family))  # type: ignore[attr-defined]

    @property
    def threshold(self) -> float:
        """The smallest change that matters."""
        return self.amount(self.limits.retrained if self.retrained else self.limits)

    @cached_property
    def fits(self) -> tuple[Array, Array]:
        """The standard deviations that fits drawn again may add to the difference, and how likely each is."""
        if not self.redrawn:
            return np.zeros(1), np.ones(1)
        counts = [len(self.seeds) or side.seeds(self.row) for side in (self.before, self.after)]
        squares, freedom = self._between_seeds()
        prior = Prior(self.prior.level * self.scale**2, self.prior.freedom) if self.prior else None
        variance, weight = fits_variance(squares, freedom, prior, self.amount(self.limits.redrawn) ** 2)
        return np.sqrt(variance * sum(1 / count for count in counts)), weight

    def _between_seeds(self) -> tuple[float, float]:
        """The squared deviations of fits' mean scores, and their degrees of freedom.

        Where seeds take several networks in turn, their differences between the sides show fits alone, two in each.
        """
        if self.common and self.several_networks:
            was, now = self.common
            return _squares((now - was).mean(axis=0), 2), len(self.seeds) - 1.0
        sides = [one for side in (self.before, self.after) if (one := side.samples.get(self.row)) is not None]
        return sum(_squares(one.mean(axis=0)) for one in sides), float(sum(len(one.columns) - 1 for one in sides))

    @property
    def several_networks(self) -> bool:
        """Whether the seeds of a side are of different networks."""
        tasks = [side.identity.tasks.get(self.row.task) for side in (self.before, self.after)]
        return any(len(set(task.networks)) > 1 for task in tasks if task)

    def noise(self, spread: float = 0.0) -> Noise:
        """How far the difference scatters where nothing changed; with samples at least as far apart as `spread`."""
        fits, weight = self.fits
        if self.common:
            n = len(self.pairs)
            return Noise(max(float(self.pairs.std()), spread) / n**0.5, n - 1, fits, weight)
        was, now = self.records
        variances = np.square([_error(was), _error(now)])
        more = self.amount(self.limits.retrained) if self.retrained else 0.0
        told = float((variances**2 / (np.maximum(2, [was["samples"], now["samples"]]) - 1.0)).sum())
        whole = float(variances.sum() + more**2)
        return Noise(whole**0.5, whole**2 / told if told > 0 else np.inf, fits, weight)

    @property
    def p(self) -> float:
        """The p value of no change in the observed direction: of the mean, and of few samples where they may differ."""
        p = self.noise().p(self.difference)
        if self.how != "nothing fitted again":
            return p
        pairs = self.pairs.to_numpy(float)
        return min(1.0, 2 * min(p, p_of_few(pairs, self.rounding, self.threshold, self.limits.flips)))

    def visible(self, reach: float) -> float:
        """The smallest loss of the mean that would have been seen, were it spread over samples as the scores are."""
        return max(self.noise(self.spread).visible(reach, self.threshold), self.rounding)


def _squares(means: pd.Series, fits: int = 1) -> float:
    """The squared deviations from their mean, of one fit where each is a difference of two."""
    return float(np.square(means - means.mean()).sum()) / fits


def _error(row: dict[str, Any]) -> float:
    return float(row["high"] - row["low"]) / (2 * NORMAL)
