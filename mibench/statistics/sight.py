"""Sight: whether a score puts maps in the order of how right they are, judged by maps of which that order is known.

A dose is the truth with a share of noise in it; `half` is the truth with half of its cells replaced. Of the differences
of two rows' scores on the same samples, each averaged over seeds, and higher where a map is better:

    response   the truth is significantly above random; no dose is significantly above one with less noise; Kendall's
               tau-b of the doses' means with their order is at least TAU                                         (1)
    half       in the mean it is between the truth and random                                                     (2)
    rivals     no explainer is significantly above the truth                                                     (3)

Differences are tested by Student's t over samples, two-sided, at 5 %; where any one of several would cost the score its
sight, with Holm's correction. Not every pair of all rows is tested, and seeds are no sample here: the networks and fits
are the panel's own, and whether others agree is for other tasks to show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import stdtr

from mibench.statistics.arrays import LEVEL, ROUNDING, Array
from mibench.statistics.pairs import holm

TAU = 0.8
FEWEST = 8  # samples on which two rows have a score; with fewer nothing is judged


@dataclass(frozen=True)
class Ladder:
    """A score's values on the same samples, (N,) each, NaN where there is none, higher is better."""

    truth: Array  # the map that the score should put first
    doses: Sequence[tuple[str, Array]]  # from no noise to nothing else; the first is the truth that is diluted
    half: Array
    rivals: Mapping[str, Array]


@dataclass(frozen=True)
class Verdict:
    """Whether a score has sight, and a sentence with figures."""

    sight: bool
    reason: str
    above: tuple[str, ...] = ()  # rivals that are significantly above the truth

    @property
    def judged(self) -> bool:
        """Whether there were scores to judge by."""
        return not self.reason.startswith("not judged")


def sight(ladder: Ladder, sign: int = 1, span: float = np.nan) -> Verdict:
    """Judge a score; means are shown times `sign`, and a millionth of `span`, its range's length, is rounding."""
    names = [name for name, _ in ladder.doses]
    rows = [values for _, values in ladder.doses]
    if any(_shared(values, rows[0]) < FEWEST for values in (ladder.truth, ladder.half, *rows)):
        return Verdict(False, f"not judged: fewer than {FEWEST} samples on which every dose has this score")
    means = ", ".join(
        f"{name} {sign * np.nanmean(values):.3g}" for name, values in (*ladder.doses, ("half", ladder.half))
    )
    faults = [*_response(names, rows, span), *_half(rows, ladder.half, span)]
    above = beaten(ladder.truth, ladder.rivals, span)
    if above:
        faults.append("above the truth: " + ", ".join(f"{name} (by {gain:.3g})" for name, gain in above.items()))
    return Verdict(not faults, "; ".join([*faults, means]), tuple(above))


def beaten(truth: Array, rivals: Mapping[str, Array], span: float = np.nan) -> dict[str, float]:
    """The rivals that are significantly above the truth (3), and by how much, the largest first."""
    tested = {name: values for name, values in rivals.items() if _shared(values, truth) >= FEWEST}
    found = {name: paired(values, truth, span) for name, values in tested.items()}
    adjusted = holm(np.array([p for _, p in found.values()], float))
    sure = {
        name: gain for (name, (gain, _)), p in zip(found.items(), adjusted, strict=True) if gain > 0 and p <= 1 - LEVEL
    }
    return dict(sorted(sure.items(), key=lambda each: -each[1]))


def paired(first: Array, second: Array, span: float = np.nan) -> tuple[float, float]:
    """The mean difference of two rows on the samples that both have, and its two-sided p value."""
    difference = first - second
    difference = difference[np.isfinite(difference)]
    count, mean = len(difference), float(difference.mean())
    size = span if np.isfinite(span) else float(np.nanmax(np.abs([first, second])))
    if abs(mean) <= ROUNDING * size:
        return 0.0, 1.0
    error = float(difference.std(ddof=1)) / np.sqrt(count)
    return mean, 2 * float(stdtr(count - 1, -abs(mean) / error)) if error > 0 else 0.0


def _response(names: Sequence[str], rows: Sequence[Array], span: float) -> Iterator[str]:
    """What is wrong with the order of the doses (1)."""
    mean, p = paired(rows[0], rows[-1], span)
    if mean <= 0 or p > 1 - LEVEL:
        yield f"the truth is not significantly above random maps (by {mean:.3g}, p = {p:.2g})"
    every = [(less, more) for less, more in combinations(range(len(rows)), 2)]
    falls = [paired(rows[less], rows[more], span) for less, more in every]
    adjusted = holm(np.array([p for _, p in falls]))
    for (less, more), (fall, _), p in zip(every, falls, adjusted, strict=True):
        if fall < 0 and p <= 1 - LEVEL:
            yield f"{names[more]} is above {names[less]} by {-fall:.3g}"
    signs = np.array([np.sign(fall) for fall, _ in falls])  # 0: the means tie
    tau = float(signs.sum() / np.sqrt(len(signs) * max(1, np.abs(signs).sum())))
    if tau < TAU:
        yield f"the doses are out of order (tau {tau:.2f})"


def _half(rows: Sequence[Array], half: Array, span: float) -> Iterator[str]:
    """What is wrong with the place of the truth that lost half of its cells (2)."""
    if not (paired(rows[0], half, span)[0] > 0 < paired(half, rows[-1], span)[0]):
        yield "half random is not between the truth and random"


def _shared(first: Array, second: Array) -> int:
    return int((np.isfinite(first) & np.isfinite(second)).sum())
