"""The lines of a study's table: one figure each, a mean with half its 95 % interval (Student's) over repetitions."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import t as student
from torch import Tensor

TABLE, PAGE = "table.csv", "README.md"


@dataclass(frozen=True)
class Line:
    """One figure: which question, of what, measured how, mean and half the interval over `count` repetitions."""

    question: str
    subject: str
    figure: str
    mean: float
    half: float
    count: int

    @staticmethod
    def of(question: str, subject: str, figure: str, values: Sequence[float] | Tensor) -> Line:
        """Mean and interval of repetitions; NaN is not counted."""
        every = torch.as_tensor(values, dtype=torch.float64)
        known = every[~every.isnan()]
        count = len(known)
        return Line(question, subject, figure, float(known.mean()), float(half_interval(known)), count)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if math.isnan(self.half) else f" ± {self.half:.3f}")


def half_interval(values: Tensor) -> Tensor:
    """Half the 95 % interval (Student's) of the mean of repetitions (R, ...); NaN where there is but one."""
    count = len(values)
    if count < 2:
        return torch.full(values.shape[1:], math.nan)
    return float(student.ppf(0.975, count - 1)) * values.std(0) / math.sqrt(count)


def publish(
    folder: Path, lines: Iterable[Line], describe: Callable[[Sequence[Line]], str], say: Callable[[str], None]
) -> list[Path]:
    """Report each line when it is measured; then write the table, and the page from the table as it is written."""
    measured = []
    for line in lines:
        measured.append(line)
        say(f"{line.question}: {line.subject}, {line.figure}: {line}")
    table, page = folder / TABLE, folder / PAGE
    write_table(measured, table)
    page.write_text(describe(read_table(table)), encoding="utf-8")
    return [table, page]


def write_table(lines: Sequence[Line], file: Path) -> None:
    """A line a figure."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("question", "subject", "figure", "mean", "half_interval", "repetitions"))
        for line in lines:
            writer.writerow(
                (line.question, line.subject, line.figure, f"{line.mean:.6g}", f"{line.half:.6g}", line.count)
            )


def read_table(file: Path) -> list[Line]:
    """The lines of a table."""
    with file.open(newline="", encoding="utf-8") as stream:
        _, *rows = csv.reader(stream)
    return [Line(asked, of, how, float(mean), float(half), int(count)) for asked, of, how, mean, half, count in rows]


def pivoted(lines: Sequence[Line]) -> Iterable[str]:
    """A table in Markdown: one row a subject, one column a figure."""
    figures = list(dict.fromkeys(line.figure for line in lines))
    found = {(line.subject, line.figure): str(line) for line in lines}
    yield f"| | {' | '.join(figures)} |"
    yield f"| --- |{' ---: |' * len(figures)}"
    for subject in dict.fromkeys(line.subject for line in lines):
        yield f"| {subject} | {' | '.join(found.get((subject, figure), '') for figure in figures)} |"
