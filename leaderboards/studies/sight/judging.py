"""Whether a score sees: dose and response on one task, from a board's own numbers.

    1  the truth is significantly above a random map, and so is each milder dose of it above the random map in the mean
    2  of truth, truth with noise in steps, half random and random, no later one is significantly above an earlier one,
       and Kendall's tau of the means with the dose is at least TAU
    3  no explainer is significantly above the truth

"Significantly" is the board's own test, adjusted for all pairs that are compared. The truth is that of its maps (its
three claims, and what decides) which the score likes best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from mibench.leaderboard.panels import Panel
from mibench.statistics.pairs import pairs

TRUTHS = ("truth", "truth.marginal", "truth.conditional", "truth.additive")
DOSES = ("dose[noise=0.25]", "dose", "dose[noise=0.75]")  # `dose` alone has half
HALF, RANDOM = "dose[kind=swapped]", "random"
TAU = 0.8


@dataclass(frozen=True)
class Judged:
    """One score on one task."""

    metric: str
    task: str
    sees: bool | None  # None: the truth or its doses have no such score
    why: str
    truth: float  # means, in the score's own direction
    random: float
    above: tuple[str, ...] = ()  # explainers significantly above the truth


def judged(panel: Panel, task: str, explainers: Sequence[str]) -> Judged:
    """Dose and response of one metric, and who is above the truth."""
    name, sign = panel.card.name, panel.card.sign
    scored = {row for row in panel.methods if panel.samples(row) > 1}
    truths = [row for row in TRUTHS if row in scored]
    ladder = [*DOSES, RANDOM]
    if not truths or not {*ladder, HALF} <= scored:
        return Judged(name, task, None, "the truth with noise has no such score", np.nan, np.nan)
    truth = max(truths, key=panel.mean)
    steps = [truth, *ladder]
    found = pairs(panel.scores([*steps, HALF]), panel.weights)
    means, above = found.mean, found.above
    last = len(steps) - 1
    tau = float(kendalltau(-np.arange(len(steps)), means[: len(steps)]).statistic)
    turned = [(steps[j], steps[i]) for i in range(len(steps)) for j in range(i + 1, len(steps)) if above[j, i]]
    others = [row for row in explainers if row in scored]
    rivals = pairs(panel.scores([truth, *others]), panel.weights)
    ahead = tuple(row for k, row in enumerate(others, start=1) if rivals.above[k, 0])
    figures = f"truth {sign * means[0]:.3g}, random {sign * means[last]:.3g}, tau of the doses {tau:.2f}"
    faults = []
    if not above[0, last]:
        faults.append("the truth is not separated from random maps")
    if turned:
        faults.append(f"{turned[0][0]} is significantly above {turned[0][1]}")
    if not tau >= TAU:
        faults.append("the doses are out of order")
    if not means[0] > means[last + 1] > means[last]:
        faults.append("half random is not between the truth and random")
    if ahead:
        faults.append(f"{', '.join(ahead[:4])}{' and more' if len(ahead) > 4 else ''} significantly above the truth")
    why = f"{figures}; {'; '.join(faults)}" if faults else figures
    return Judged(name, task, not faults, why, sign * float(means[0]), sign * float(means[last]), ahead)
