"""One test a method: whether its scores became worse together, though perhaps none of them surely alone.

For each sample the differences of a method's paired scores, each divided by the spread of that score over samples, are
averaged: over the scores of a family, then over families, so that a family with many metrics has one vote.

    T = mean over tasks of mean_i mean_f mean_{k in f} d_ki / spread_k                                              (1)

This is O'Brien's test for several endpoints (1984, the least-squares form): because one number is made of each sample,
the samples' variance of T holds the scores' covariance, whatever it is. Fits drawn again move all scores of a method,
at worst together: their standard deviations add. Complexity describes a map, and runtime its cost: neither is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pandas as pd

from mibench.gate.scored import Scored
from mibench.gate.significance import CHI, Array, Noise

UNCOUNTED = ("complexity", "runtime")


@dataclass(frozen=True)
class Combined:
    """A method's scores as one, in units of their spread over samples."""

    method: str
    difference: float
    threshold: float
    noise: Noise
    spread: float  # the error, did the differences scatter as the scores do
    scores: int

    @property
    def p(self) -> float:
        """The p value of no change in the observed direction."""
        return self.noise.p(self.difference)

    @property
    def differs(self) -> bool:
        """Whether anything differs at all."""
        return self.difference != 0

    def visible(self, reach: float) -> float:
        """The smallest loss that would have been seen, were it spread over samples as the scores are."""
        return replace(self.noise, error=max(self.noise.error, self.spread)).visible(reach, self.threshold)


def combined(method: str, scores: Sequence[Scored]) -> Combined | None:
    """The test (1) over all paired scores of a method; None where there are fewer than two."""
    counted = [each for each in scores if each.common and each.family not in UNCOUNTED and _unit(each) > 0]
    if len(counted) < 2:
        return None
    ordered = sorted(counted, key=lambda each: each.row.task)
    tasks = [_one_task(method, list(some)) for _, some in groupby(ordered, key=lambda each: each.row.task)]
    noises, count = [task.noise for task in tasks], len(tasks)
    variances = np.array([noise.error**2 for noise in noises])
    told = float((variances**2 / [noise.freedom for noise in noises]).sum())
    freedom = float(variances.sum() ** 2 / told) if told > 0 else np.inf
    fits, weight = _summed([noise.fits**2 for noise in noises]) ** 0.5, _widest([noise.weight for noise in noises])
    return Combined(
        method,
        float(np.mean([task.difference for task in tasks])),
        float(np.mean([task.threshold for task in tasks])),
        Noise(float(variances.sum() ** 0.5 / count), freedom, np.broadcast_to(fits / count, weight.shape), weight),
        float(np.sum([task.spread**2 for task in tasks]) ** 0.5 / count),
        len(counted),
    )


def _one_task(method: str, scores: Sequence[Scored]) -> Combined:
    """The test on one task."""
    families = [each.family for each in scores]
    units = [_unit(each) for each in scores]
    differences = _each_sample([each.pairs / unit for each, unit in zip(scores, units, strict=True)], families)
    earlier = _each_sample([each.earlier / unit for each, unit in zip(scores, units, strict=True)], families)
    fits = [each.fits for each in scores]
    weight = _widest([weight for _, weight in fits])
    scatter = [np.broadcast_to(drawn / unit, weight.shape) for (drawn, _), unit in zip(fits, units, strict=True)]
    thresholds = [np.array([each.threshold / unit]) for each, unit in zip(scores, units, strict=True)]
    n = len(differences)
    return Combined(
        method,
        float(differences.mean()),
        float(_by_family(thresholds, families)[0]),
        Noise(float(differences.std()) / n**0.5, n - 1, _by_family(scatter, families), weight),
        float(earlier.std()) / n**0.5,
        len(scores),
    )


def _each_sample(scores: Sequence[pd.Series], families: Sequence[str]) -> pd.Series:
    """For each sample the mean over families of the mean over their scores."""
    return pd.concat(scores, axis=1).T.groupby(list(families)).mean().mean(axis=0)


def _unit(score: Scored) -> float:
    """What a score's differences are divided by: its spread, or what matters where all samples score the same."""
    return max(score.spread, score.threshold)


def _by_family(values: Sequence[Array], families: Sequence[str]) -> Array:
    """The mean over families of the mean over their scores."""
    means = [
        np.mean([value for value, other in zip(values, families, strict=True) if other == family], axis=0)
        for family in sorted(set(families))
    ]
    return np.asarray(np.mean(means, axis=0))


def _summed(values: Sequence[Array]) -> Array:
    """The sum of arrays of which some hold one value for all."""
    return np.asarray(sum(values[1:], values[0]))


def _widest(weights: Sequence[Array]) -> Array:
    """The weights of the fewest degrees of freedom."""
    return min(weights, key=lambda weight: float(weight @ CHI) if len(weight) > 1 else np.inf)
