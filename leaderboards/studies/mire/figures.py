"""The figures of MIRE: image, Grad-CAM, and the total, decision-related and redundant information, alone and mixed in.

One page a task and kind of mask; of a few-shot episode the support, then a query of each way. All maps of a page share
one scale, in nats, so that colours can be compared between samples and quantities; blue is information
against the representation that is there. One pixel in a hundred may be beyond the scale's ends, or a single one would
make all others pale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from leaderboards.studies.drawing import as_picture, save, without_ticks
from leaderboards.studies.measuring import fitted
from mibench.data.episodes import Episodes
from mibench.files.reading import file_name
from mibench.leaderboard.pictures import heat, overlay
from mibench.plugins import registry
from mibench.record.cells import TaskSpec
from mibench.run.explaining import sample_seeds
from mibench.run.task import Task, make_task

TASKS = (("planted", "planted"), ("cnn-m", "mnist"), ("prototype[head=linear]", "episodes"))
METHODS = ("mire", "mire-noise")
BESIDE = "gradcam"
QUANTITIES = ("total", "decision", "redundant")
CALIBRATION = 2000
WITHIN = 0.99  # of all pixels are within the scale
COLOURS = "RdBu_r"
Picture = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Shown:
    """The samples of a page."""

    x: Tensor  # (N, C, H, W), as the network wants them
    target: Tensor  # (N,)
    captions: tuple[str, ...]
    seeds: tuple[int, ...]


def draw(folder: Path, *, model: str, data: str, count: int, say: Callable[[str], None]) -> list[Path]:
    """Draw every page of the given task, or of the shipped ones."""
    tasks = [(model, data or registry.model(model).data)] if model else TASKS
    written = []
    for each in tasks:
        task = make_task(TaskSpec(*each, samples=count, calibration=CALIBRATION))
        shown = chosen(task)
        for method in METHODS:
            maps = explained(task, method, shown)
            maps["Grad-CAM"] = explained(task, BESIDE, shown)["map"]
            written += page(task, method, shown, maps, folder)
            say(f"wrote {written[-2]} and {written[-1].name}")
    return written


def chosen(task: Task) -> Shown:
    """The scoring samples; of an episode a shot and a query of each way, as in the paper's figures 3 to 6."""
    names = task.probe.classes
    if not isinstance(task.data, Episodes):
        captions = tuple(names[label] for label in task.target.tolist())
        return Shown(task.scoring.x, task.target, captions, sample_seeds(task.scoring.ids, 0))
    shape = task.model.shape
    support, queries = task.data.support(shape), task.data.load("scoring", None, shape)
    sides = {"support": support, "query": queries}
    rows = {side: [each.label.tolist().index(way) for way in range(len(names))] for side, each in sides.items()}
    x = task.normalise(torch.cat([sides[side].x[rows[side]] for side in sides]))
    captions = tuple(f"{side}: {name}" for side in sides for name in names)
    ids = [each.ids[row] for side, each in sides.items() for row in rows[side]]
    return Shown(x, task.predictions(x), captions, sample_seeds(ids, 0))


def explained(task: Task, name: str, shown: Shown) -> dict[str, Tensor]:
    """A method's maps (N, H, W) of a page's samples."""
    explainer = fitted(name, task.probe, task.calibration)
    return dict(explainer.explain(task.probe, shown.x, shown.target, shown.seeds).maps)


def page(task: Task, method: str, shown: Shown, maps: Mapping[str, Tensor], folder: Path) -> list[Path]:
    """One row a sample: image, Grad-CAM over it, then each quantity alone and over the image."""
    pictures = [as_picture(task, x).numpy() for x in shown.x]
    largest = float(np.quantile(torch.stack([maps[name] for name in QUANTITIES]).abs().numpy(), WITHIN)) or 1.0
    headings = ["image", "Grad-CAM", *(heading for name in QUANTITIES for heading in (name, "over the image"))]
    figure = Figure(figsize=(1.5 * len(headings) + 1, 1.6 * len(pictures) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(pictures), len(headings), squeeze=False)
    for index, (row, image) in enumerate(zip(axes, pictures, strict=True)):
        camera = maps["Grad-CAM"][index].clamp(min=0)
        tiles = [image, overlay(image, heat(camera.numpy()))]
        for name in QUANTITIES:
            colours = heat(maps[name][index].numpy(), largest)
            tiles += [colours, overlay(image, colours)]
        for place, tile in zip(row, tiles, strict=True):
            place.imshow(tile, interpolation="nearest")
            without_ticks(place)
        row[0].set_ylabel(shown.captions[index], fontsize=8)
    for place, heading in zip(axes[0], headings, strict=True):
        place.set_title(heading, fontsize=9)
    bar = ScalarMappable(Normalize(-largest, largest), COLOURS)
    figure.colorbar(bar, ax=axes, label="information (nats)", extend="both", aspect=40, shrink=0.8, pad=0.01)
    figure.suptitle(f"{registry.method(method).explainer.title}: {task.name}, layer {task.probe.local}", fontsize=10)
    return save(figure, folder / file_name("mire", method, task.name))
