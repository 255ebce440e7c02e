"""What IBA's settings do: convergence, order and claimed bits against steps, beta, smoothing, layer and noise copies.

Every setting explains the same images. Where the truth is known, maps are read cell by cell; a map's convergence is its
correlation with the map after 300 steps of the same noise, and its noise that with the mean map of many other draws.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from leaderboards.studies.lines import PAGE, TABLE
from leaderboards.studies.measuring import fitted, on_grid
from mibench.plugins.contract import Explanation
from mibench.record.cells import TaskSpec
from mibench.run.task import Task, make_task

NAME = "iba"
COMMAND = f"python -m mibench study {NAME}"
CLOSE = 50  # images on which convergence is measured
LONG = "steps=300"
MANY = 20  # draws of 10 copies whose mean map approximates infinitely many


@dataclass(frozen=True)
class Part:
    """One question, the settings that answer it, and what their maps are held against: 300 steps, or many draws."""

    title: str
    settings: tuple[str, ...]
    against: str


PARTS = (
    Part("steps", ("steps=5", "steps=10", "steps=20", "steps=50", "steps=100", LONG, "stop=converged"), LONG),
    Part("beta", tuple(f"beta={beta}" for beta in ("0.1", "1", "10", "100")), LONG),
    Part("smooth", ("smooth=0", "smooth=0.5", "smooth=1"), LONG),
    Part("layer", (), LONG),  # the task's depths
    Part(
        "copies",
        (
            *(f"copies={copies}" for copies in (1, 2, 4, 10, 50)),
            *(f"antithetic=true,copies={copies}" for copies in (2, 4, 10)),
        ),
        "many",
    ),
)
TASKS = (  # model, data, images, and the questions
    ("planted", "planted", 200, ("steps", "beta", "smooth", "layer", "copies")),
    ("cnn-m", "mnist", CLOSE, ("steps", "copies")),
)
FIGURES = (
    ("claimed bits", "bits"),
    ("bits left of the class", "class_bits"),
    ("at the signal", "signal"),
    ("at the redundant cell", "redundant"),
    ("at another", "others"),
    ("calibrated at the signal", "calibrated signal"),
    ("signal above others", "above others"),
    ("signal above redundant", "above redundant"),
    ("shape kept, as it says itself", "steadiness"),
    ("converged, as it says itself", "convergence"),
)


WANTED = (  # setting, figure, bound
    ("steps=10", "above others", 0.98),
    ("steps=10", "above redundant", 0.92),
    ("stop=converged", "worst", 0.99),
    ("antithetic=true,copies=2", "median", 0.999),
    ("antithetic=true,copies=4", "median", 0.999),
    ("antithetic=true,copies=10", "median", 0.999),
    ("copies=10", "median", 0.999),
)
TITLES = {
    **{name: title for title, name in FIGURES},
    "worst": "worst correlation with 300 steps",
    "median": f"median correlation with the mean of {MANY} draws",
}
NOT_BUILT = (
    "InputIBA (Zhang et al. 2021) carries the bottleneck on to the input and is not here. For each sample it trains a "
    "generative adversarial network (the authors' settings for ImageNet: 20 epochs, batches of 32, five steps of the "
    "critic to one of the generator) to learn which noise in the input looks like the bottleneck's in the features, "
    "then takes 60 steps with 10 copies through the whole network. It would be an explainer of its own on top of `iba`."
)


@dataclass(frozen=True)
class Line:
    """The figures of one setting on one task: a mean over images and half of its 95 % interval."""

    task: str
    part: str
    setting: str
    figures: Mapping[str, tuple[float, float]]


def write(folder: Path, *, quick: bool, say: Callable[[str], None]) -> list[Path]:
    """Explain, measure, write the CSV and the page."""
    lines = []
    for model, data, samples, asked in TASKS[:1] if quick else TASKS:
        task = make_task(TaskSpec(model, data, samples=8 if quick else samples, calibration=128 if quick else 1000))
        for part in PARTS[:1] if quick else [part for part in PARTS if part.title in asked]:
            settings = part.settings or tuple(f"layer={layer}" for layer in task.probe.depths)
            for setting in settings[:2] if quick else settings:
                lines.append(Line(task.name, part.title, setting, measure(task, setting, part.against)))
                say(f"{task.name}, {setting}: {_short(lines[-1])}")
    table, page = folder / TABLE, folder / PAGE
    write_table(lines, table)
    page.write_text(describe(lines), encoding="utf-8")
    return [table, page]


def explain(task: Task, setting: str, count: int, seed: int = 0) -> Explanation:
    """Maps of the first images under a setting; `seed` chooses the noise."""
    explainer = fitted(f"iba[{setting}]", task.probe, task.calibration)
    seeds = [100_000 * seed + index for index in range(count)]
    return explainer.explain(task.probe, task.scoring.x[:count], task.target[:count], seeds)


def measure(task: Task, setting: str, against: str) -> dict[str, tuple[float, float]]:
    """All figures of one setting on one task."""
    count = len(task.scoring)
    close = min(CLOSE, count)
    shown = explain(task, setting, count)
    figures = {name: mean(shown.facts[name]) for name in ("bits", "class_bits", "steadiness", "convergence", "steps")}
    if task.scoring.truth is not None:
        figures |= at_cells(task, shown)
    if against == LONG:
        kept = [part for part in setting.split(",") if part.split("=")[0] not in ("steps", "stop")]
        against = ",".join([*kept, LONG])
    alike = correlations(shown.maps["map"][:close], reference(task, against, close))
    return figures | {"median": (float(alike.median()), 0.0), "worst": (float(alike.min()), 0.0)}


@functools.cache
def reference(task: Task, against: str, count: int) -> Tensor:
    """The maps under another setting, or the mean maps of many draws that no setting of the study sees."""
    if against != "many":
        return explain(task, against, count).maps["map"]
    return torch.stack([explain(task, "", count, seed).maps["map"] for seed in range(1, MANY + 1)]).mean(0)


def at_cells(task: Task, shown: Explanation) -> dict[str, tuple[float, float]]:
    """Claimed bits at the planted cells, and how often they are in the right order."""
    truth = task.scoring.truth
    assert truth is not None
    where = {name: truth.cells[name] for name in ("signal", "redundant")}
    where["others"] = ~(where["signal"] | where["redundant"])
    grids = {name: _cells(task, map_, truth.grid) for name, map_ in shown.maps.items()}  # (N, h, w)
    bits = grids["map"]
    signal, redundant = bits[where["signal"]], bits[where["redundant"]]  # (N,)
    others = bits[where["others"]].reshape(len(bits), -1)  # (N, K - 2)
    return {
        "signal": mean(signal),
        "redundant": mean(redundant),
        "others": mean(others.mean(1)),
        "calibrated signal": mean(grids["calibrated"][where["signal"]]),
        "above others": mean((signal[:, None] > others).double().mean(1)),
        "above redundant": mean((signal > redundant).double()),
    }


def _cells(task: Task, map_: Tensor, grid: tuple[int, int]) -> Tensor:
    """A map (N, H, W) of bits as bits at the truth's cells, (N, h, w), with the same sum."""
    total = map_.double().sum((1, 2), keepdim=True)
    cells = on_grid(task.probe, map_, grid)
    if not torch.allclose(task.probe.upsample(cells), map_.double(), atol=1e-3 * float(map_.max())):
        cells = F.adaptive_avg_pool2d(map_.double(), grid)  # another layer's map is not an upsampling of these cells
    return cells * (total / cells.sum((1, 2), keepdim=True))


def mean(values: Tensor) -> tuple[float, float]:
    """A mean over images and half of its 95 % interval."""
    values = values.double()
    return float(values.mean()), 1.96 * float(values.std()) / math.sqrt(len(values))


def correlations(maps: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation of each map with its fellow, (N,)."""
    a, b = (each.flatten(1).double() for each in (maps, others))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    product: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return product


def write_table(lines: Iterable[Line], file: Path) -> None:
    """One line a figure of a setting."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("task", "part", "setting", "figure", "value", "half_interval"))
        for line in lines:
            for figure, (value, half) in line.figures.items():
                writer.writerow((line.task, line.part, line.setting, figure, f"{value:.5g}", f"{half:.3g}"))


def describe(lines: Sequence[Line]) -> str:
    """The page."""
    text = [
        "# What IBA's settings do",
        f"Made by `{COMMAND}`; every number is in [{TABLE}]({TABLE}). Each line changes one thing of the paper's "
        "setting (10 steps, beta 10, sigma 1, 10 copies, the local layer) and explains the same images; figures are "
        "means ± half a 95 % interval over images. On planted images the signal cell holds log2 6 = 2.58 bits of the "
        "decision, the redundant cell and the others none. Correlations with the map after 300 steps of the same noise "
        f"(for copies: with the mean map of {MANY} other draws of 10 copies) are over {CLOSE} images.",
    ]
    for task in dict.fromkeys(line.task for line in lines):
        for part in PARTS:
            chosen = [line for line in lines if (line.task, line.part) == (task, part.title)]
            if chosen:
                text += [f"## {part.title}, {task}", "\n".join(table(chosen))]
    text += ["## What is wanted, and what is found", "\n".join(verdicts(lines)), NOT_BUILT]
    return "\n\n".join(text) + "\n"


def verdicts(lines: Iterable[Line]) -> Iterable[str]:
    """A list: each line that must keep a bound, and whether it does."""
    for line in lines:
        for setting, figure, bound in WANTED:
            if line.setting == setting and line.part in ("steps", "copies") and figure in line.figures:
                if (figure == "median") != (line.part == "copies"):
                    continue  # medians are for noise copies, all else for steps
                value = line.figures[figure][0]
                verdict = "met" if value >= bound else "**missed**"
                yield f"- {line.task}, `{setting}`: {TITLES[figure]} at least {bound:g}: {verdict} ({value:.4g})"


def table(lines: Sequence[Line]) -> Iterable[str]:
    """One line a setting."""
    named = [(title, name) for title, name in FIGURES if name in lines[0].figures]
    yield "| setting | steps taken | correlation: median, worst | " + " | ".join(title for title, _ in named) + " |"
    yield "| --- " * (3 + len(named)) + "|"
    for line in lines:
        cells = [f"{line.figures[name][0]:.3g} ± {line.figures[name][1]:.2g}" for _, name in named]
        alike = f"{line.figures['median'][0]:.4f}, {line.figures['worst'][0]:.4f}"
        yield f"| `{line.setting}` | {line.figures['steps'][0]:.0f} | {alike} | {' | '.join(cells)} |"


def _short(line: Line) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, (value, _) in line.figures.items())
