"""What each departure from its paper does to a method's scores: the default against the paper's own way.

The board's two small tasks with one seed: planted images, where the truth is known, and handwritten digits. Samples are
the repetitions, so that intervals do not cover how fits differ. docs/methods.md lists each departure and its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from leaderboards.studies.lines import TABLE, Line, pivoted, publish
from leaderboards.studies.measuring import scored
from mibench.record.cells import TaskSpec

NAME = "departures"
COMMAND = f"python -m mibench study {NAME}"
SAMPLES = 32
PLANTED = ("decision-hard", "decision-auc", "information-error")
DIGITS = ("pixel-flipping",)
ROWS = (
    *("mire", "mire[keep=prediction]", "mire[mask_cost=mean]", "mire[information=sum]", "mire[joint=64]", "mire-noise"),
    *("milr", "milr[keep=label]", "milr[joint=0]"),
    *("mipin", "mipin[penalty=0.001]", "mipin[fit_on=all]", "mipin[solver=sgd]"),
    *("nif", "nif[estimator=mixed]", "nif[beta=0.0005,order=index]"),
    "nif[estimator=mixed,correction=none,counting=log,beta=0.0005,order=index]",
    *("iba", "iba-readout", "iba-readout[clamp=stop]"),
)


def write(folder: Path, *, quick: bool, say: Callable[[str], None]) -> list[Path]:
    """Score every row, write the CSV and the page."""
    lines = measure(ROWS[:2] if quick else ROWS, 8 if quick else SAMPLES, 128 if quick else 512)
    return publish(folder, lines, describe, say)


def measure(rows: Sequence[str], samples: int, calibration: int) -> Iterator[Line]:
    """Each row on its own, so that no row waits for another."""
    for model, data, metrics in (("planted", "planted", PLANTED), ("cnn-m", "mnist", DIGITS)):
        spec = TaskSpec(model, data, samples=samples, calibration=calibration)
        for row in rows:
            for line in scored(f"{data}/{model}", spec, (row,), metrics):
                yield Line(line.question, row, line.figure, line.mean, line.half, line.count)


def describe(lines: Sequence[Line]) -> str:
    """The page: a table for each task."""
    parts = [
        "# What departures from the papers change",
        f"Made by `{COMMAND}`; every number is in [{TABLE}]({TABLE}).",
    ]
    parts.append(" ".join((__doc__ or "").split("\n\n")[1].split()))
    for task in dict.fromkeys(line.question for line in lines):
        parts += [f"## {task}", "\n".join(pivoted([line for line in lines if line.question == task]))]
    return "\n\n".join(parts) + "\n"
