"""One verdict over many tasks, each counted once: Friedman's test, then Nemenyi's and Wilcoxon's with Holm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, wilcoxon

from mibench.statistics.arrays import LEVEL, Array, Mask, square
from mibench.statistics.pairs import holm


@dataclass(frozen=True)
class Across:
    """One verdict over many tasks, each task counted once."""

    friedman: float  # p that all methods are equal
    nemenyi: Array  # (M, M) p values after Friedman's test
    wilcoxon: Array  # (M, M) p values of signed ranks, adjusted by Holm

    @property
    def apart(self) -> Mask:
        """The pairs that either test separates, each at half the level, because the smaller of two p values is used."""
        return np.asarray(np.minimum(self.nemenyi, self.wilcoxon) <= (1 - LEVEL) / 2)


def across(means: Array) -> Across | None:
    """Tests over a (tasks, M) table of mean scores; None where there are too few for any of them to find anything."""
    tasks, methods = means.shape
    if tasks < 6 or methods < 3:  # six signs: the least that reaches 0.05
        return None
    import scikit_posthocs  # slow to import, and seldom wanted

    i, j = np.triu_indices(methods, 1)
    single = np.array(
        [wilcoxon(means[:, a], means[:, b], zero_method="zsplit").pvalue for a, b in zip(i, j, strict=True)]
    )
    with np.errstate(invalid="ignore"):  # all methods equal on all tasks: no p value, which is none below 1
        friedman = float(np.nan_to_num(friedmanchisquare(*means.T).pvalue, nan=1.0))
    return Across(
        friedman,
        np.asarray(scikit_posthocs.posthoc_nemenyi_friedman(means), float),
        square(holm(single), methods, 1.0),
    )
