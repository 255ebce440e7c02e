"""Whether a score sees on one task: its values of the truth, of doses of it and of explainers, put before the judge.

`mibench.statistics.sight` has the rule. A row's value on a sample is its mean over seeds, networks among them: the
panel's networks and fits are its own, and whether other networks agree is what the tasks of side B are for. The board's
tests are of no use here: they ask what other fits and networks would do, know six seeds and no prior, and find a map
that is .3 of the range above the truth in one case of ten. The truth is that of its maps (its three claims, and what
decides) which the score likes best; what is diluted is the additive one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from mibench.leaderboard.panels import Panel
from mibench.statistics.sight import Ladder, sight

ADDITIVE = "truth.additive"
TRUTHS = ("truth", "truth.marginal", "truth.conditional", ADDITIVE)
DOSES = ("dose[noise=0.25]", "dose", "dose[noise=0.75]")  # `dose` alone has half
VERDICTS = "verdicts.csv"
HALF, RANDOM = "dose[kind=swapped]", "random"


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
    values = dict(zip(panel.methods, panel.means.averaged, strict=True))
    truths = [row for row in TRUTHS if row in values and np.isfinite(values[row]).any()]
    ladder = (ADDITIVE, *DOSES, RANDOM)
    if not truths or not {*ladder, HALF} <= set(values):
        return Judged(panel.card.name, task, None, "the truth with noise has no such score", np.nan, np.nan)
    truth = max(truths, key=panel.mean)
    low, high = panel.means.bounds
    rivals = {row: values[row] for row in explainers if row in values}
    steps = tuple((row, values[row]) for row in ladder)
    found = sight(Ladder(values[truth], steps, values[HALF], rivals), panel.card.sign, high - low)
    if not found.judged:
        return Judged(panel.card.name, task, None, found.reason, np.nan, np.nan)
    top, random = (panel.card.sign * panel.mean(row) for row in (truth, RANDOM))
    return Judged(panel.card.name, task, found.sight, found.reason, top, random, found.above)


def write_verdicts(found: Iterable[Judged], file: Path) -> None:
    """A line a score and task."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(each.name for each in fields(Judged))
        for *whole, truth, random, above in map(astuple, found):
            writer.writerow((*whole, f"{truth:.6g}", f"{random:.6g}", " ".join(above)))


def read_verdicts(file: Path) -> list[Judged]:
    """What was written."""
    with file.open(newline="", encoding="utf-8") as stream:
        _, *rows = csv.reader(stream)
    known = {"True": True, "False": False, "": None}
    return [
        Judged(metric, task, known[sees], why, float(truth), float(random), tuple(above.split()))
        for metric, task, sees, why, truth, random, above in rows
    ]
