"""The figures of MIP-IN: source signals with their logits, and attributions with the other methods' maps.

signals    image, S_0 and A with and without the forward ReLU; over images and signals their logits    (figures 3, 4)
maps       image, then one map a method, each divided by its own largest magnitude                      (figures 5, 6)
classes    the same for the network's first and second choice of class                                     (figure 8)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from leaderboards.studies.drawing import as_picture, save, without_ticks
from leaderboards.studies.measuring import fitted
from mibench.files.reading import file_name
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, Explanation, Unsupported
from mibench.record.cells import TaskSpec
from mibench.run.task import Task, make_task

TASKS = (("mlp-m", "mnist"), ("cnn-m", "mnist"))
METHODS = (
    "mipin",
    "saliency",
    "smoothgrad",
    "lrp",
    "deep-taylor",
    "deconvnet",
    "guided-backprop",
    "patternattribution",
)
WAYS = {"local": "mipin", "global": "mipin[forward_relu=false]"}
CALIBRATION = 2000
COLOURS = "RdBu_r"
Tile = tuple[str, Tensor, bool]  # a heading, (H, W) or (H, W, 3), and whether it is a map


def draw(folder: Path, *, model: str, data: str, count: int, say: Callable[[str], None]) -> list[Path]:
    """Draw every page of the given task, or of the shipped ones."""
    tasks = [(model, data or registry.model(model).data)] if model else TASKS
    written: list[Path] = []
    for each in tasks:
        task = make_task(TaskSpec(*each, samples=count, calibration=CALIBRATION))
        for name, rows in pages(task, say).items():
            written += save(page(rows), folder / file_name("mipin", name, task.name))
            say(f"wrote {written[-2]} and {written[-1].name}")
    return written


def pages(task: Task, say: Callable[[str], None]) -> dict[str, list[list[Tile]]]:
    """The rows of every page, by name; a method that cannot treat the network is omitted with a message."""
    best = task.probe.logits(task.scoring.x).topk(2).indices  # (N, 2)
    first: dict[str, Explanation] = {}
    second: dict[str, Explanation] = {}
    for name in METHODS:
        try:
            explainer = fitted(name, task.probe, task.calibration)
            first[name], second[name] = (explained(task, explainer, best[:, choice]) for choice in (0, 1))
        except Unsupported as refusal:
            say(f"{name} is left out: {refusal}")
    made: dict[str, list[list[Tile]]] = {"maps": [], "classes": []}
    for index in range(len(task.scoring)):
        for choice, explanations in ((0, first), (1, second)):
            shown = task.probe.classes[int(best[index, choice])]
            row: list[Tile] = [(f"class {shown}", picture(task, index), False)]
            row += [(name, explanation.maps["map"][index], True) for name, explanation in explanations.items()]
            made["classes"].append(row)
            if choice == 0:
                made["maps"].append(row)
    try:
        made["signals"] = signals(task, best[:, 0])
    except Unsupported as refusal:
        say(f"the page of signals is left out: {refusal}")
    return made


def signals(task: Task, classes: Tensor) -> list[list[Tile]]:
    """Rows of image, source signals and attributions, the logits of image and signals in their headings."""
    ways = {name: explained(task, fitted(spec, task.probe, task.calibration), classes) for name, spec in WAYS.items()}
    if any("source" not in explanation.signals for explanation in ways.values()):
        raise Unsupported("this network is not inverted down to its input")
    before = _logits(task, task.scoring.x, classes)
    rows: list[list[Tile]] = []
    for index in range(len(task.scoring)):
        row: list[Tile] = [(f"image: {before[index]:.1f}", picture(task, index), False)]
        for name, explanation in ways.items():
            source = explanation.signals["source"]
            after = _logits(task, source, classes)[index]
            row.append((f"{name} S: {after:.1f}", as_picture(task, source[index]), False))
            row.append((f"{name} A", explanation.maps["map"][index], True))
        rows.append(row)
    return rows


def explained(task: Task, explainer: Explainer, classes: Tensor) -> Explanation:
    """A method's explanation of the task's scoring samples for these classes."""
    return explainer.explain(task.probe, task.scoring.x, classes, range(len(classes)))


def _logits(task: Task, x: Tensor, classes: Tensor) -> list[float]:
    with torch.no_grad():
        return [float(value) for value in task.probe.logits(x).gather(1, classes[:, None])[:, 0]]


def picture(task: Task, index: int) -> Tensor:
    """A scoring sample as a picture."""
    return as_picture(task, task.scoring.x[index])


def page(rows: Sequence[Sequence[Tile]]) -> Figure:
    """One row a sample; red speaks for the class, blue against it."""
    figure = Figure(figsize=(1.4 * len(rows[0]), 1.55 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for places, row in zip(axes, rows, strict=True):
        for place, (heading, tile, is_map) in zip(places, row, strict=True):
            _show(place, tile, is_map)
            place.set_title(heading, fontsize=7)
    return figure


def _show(place: Any, tile: Tensor, is_map: bool) -> None:
    shown = np.asarray(tile)
    scale: Mapping[str, Any] = {}
    if is_map:
        largest = float(np.abs(shown).max()) or 1.0
        scale = {"cmap": COLOURS, "vmin": -largest, "vmax": largest}
    place.imshow(shown, interpolation="nearest", **scale)
    without_ticks(place)
