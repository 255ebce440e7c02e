"""What MIRE does where there are many cells: the readings of its equation (7), and a critic in a narrower space.

CNN-M on handwritten digits has 11 x 11 cells where the planted images have 16. Nothing is planted there, so that no map
is right or wrong; what can be seen is whether the decision passes the mask, how far the mask is open, and how far maps
of different fits are from each other. The board's settings: 512 calibration digits, the maps of 64 others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from leaderboards.studies.lines import TABLE, Line, pivoted, publish
from leaderboards.studies.measuring import fitted
from mibench.plugins import registry
from mibench.plugins.contract import Explanation
from mibench.record.cells import TaskSpec
from mibench.run.task import Task, make_task

NAME = "mire-digits"
COMMAND = f"python -m mibench study {NAME}"
READINGS = {
    "(mean, sum), as published": "mire",
    "(sum, sum)": "mire[information=sum]",
    "(mean, mean)": "mire[mask_cost=mean]",
}
JOINTS = (0, 64)  # dimensions of the critic's space: 0 is z's own, as in the paper
SEEDS = 5
READING_SEEDS = 1
FARTHER = 1.1  # the most that maps of a narrower critic may be farther from the paper's than these from each other
QUESTIONS = {
    "readings": "The readings of equation (7), as (information, cost), at the paper's beta of 0.5",
    "narrow": "Mean absolute difference between the maps of two fits of different seeds",
}


def write(folder: Path, *, quick: bool, say: Callable[[str], None]) -> list[Path]:
    """Measure both, write the CSV and the page."""
    task = make_task(TaskSpec("cnn-m", "mnist", samples=16 if quick else 64, calibration=128 if quick else 512))
    return publish(folder, itertools.chain(readings(task, quick), narrow(fits(task, quick))), describe, say)


def explained(task: Task, spec: str, seed: int) -> Explanation:
    """The maps of a fit."""
    explainer = fitted(spec, task.probe, task.calibration, seed)
    return explainer.explain(task.probe, task.scoring.x, task.target, range(len(task.scoring)))


def readings(task: Task, quick: bool) -> Iterator[Line]:
    """What passes the mask under each reading, the seeds as repetitions."""
    for title, spec in READINGS.items():
        shown = [explained(task, spec, seed) for seed in range(1 if quick else READING_SEEDS)]
        figures = {
            "decisions kept": [each.facts["kept"] for each in shown],
            "mean of the mask": [each.maps["mask"] for each in shown],
            "decision map, nats": [each.maps["decision"] for each in shown],
            "total map, nats": [each.maps["total"] for each in shown],
        }
        for figure, values in figures.items():
            yield Line.of("readings", title, figure, [float(value.double().mean()) for value in values])


def fits(task: Task, quick: bool) -> dict[tuple[int, int], Mapping[str, Tensor]]:
    """The maps of critics of each width, by width and seed."""
    seeds = range(2 if quick else SEEDS)
    return {(j, seed): explained(task, f"mire[joint={j}]", seed).maps for j in JOINTS for seed in seeds}


def narrow(maps: Mapping[tuple[int, int], Mapping[str, Tensor]]) -> Iterator[Line]:
    """How far the maps of a narrower critic are from the paper's, and these from each other, between unequal seeds."""
    seeds = sorted({seed for _, seed in maps})
    wide, slim = JOINTS
    for name in ("decision", "total", "redundant", "mask"):

        def between(first: int, second: int, pairs: Iterable[tuple[int, int]], name: str = name) -> list[float]:
            found = [(maps[first, a][name].double() - maps[second, b][name].double()).abs().mean() for a, b in pairs]
            return [float(each) for each in found]

        own = between(wide, wide, itertools.combinations(seeds, 2))
        cross = between(wide, slim, itertools.permutations(seeds, 2))
        yield Line.of("narrow", name, "joint=0 from joint=0", [sum(own) / len(own)])
        yield Line.of("narrow", name, "joint=64 from joint=0", [sum(cross) / len(cross)])
        yield Line.of("narrow", name, "ratio", [(sum(cross) / len(cross)) / (sum(own) / len(own))])


def describe(lines: Sequence[Line]) -> str:
    """The page: a table for each question, with its conclusion."""
    parts = ["# MIRE on digits", f"Made by `{COMMAND}`; every number is in [{TABLE}]({TABLE})."]
    parts.append(" ".join((__doc__ or "").split("\n\n")[1].split()))
    for question, title in QUESTIONS.items():
        asked = [line for line in lines if line.question == question]
        parts += [f"## {title}", "\n".join(pivoted(asked)), *reading(question, asked)]
    return "\n\n".join(parts) + "\n"


def reading(question: str, lines: Sequence[Line]) -> Iterator[str]:
    """The conclusion of a question, derived from its numbers."""
    if question == "readings":
        kept = {line.subject: line.mean for line in lines if line.figure == "decisions kept"}
        shut = [title for title, share in kept.items() if share < 0.5]
        yield (
            f"Less than half of the decisions pass the mask under: {', '.join(shut) or 'none'}. "
            "Ten classes make a decision worth at most log 10 = 2.30 nats of the likelihood; with beta 0.5 and a sum, "
            "cells that open up to 4.61 in all cost as much. Where a decision needs more, a mask that closes "
            "everywhere is the better bargain under equation (7), and its decision map is zero."
        )
    if question == "narrow":
        far = [line for line in lines if line.figure == "ratio" and line.mean > FARTHER]
        shown = ", ".join(f"{line.subject} ({line.mean:.2f})" for line in far)
        verdict = f"joint=64 is farther than that for {shown}" if far else "joint=64 keeps to it"
        default = registry.explainer("mire").parameters.model_dump()["joint"]
        yield (
            "A narrower critic may be a default for speed only if its maps are at most "
            f"{FARTHER:g} times as far from the paper's as these are from each other, over {SEEDS} seeds: {verdict}; "
            f"the default is joint={default}."
        )
