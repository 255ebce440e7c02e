"""The figures of NIF: the flow graph (figure 2), pruning (figure 3) and signed maps of digits (figure 4).

The graph is drawn and also written as a page to look around in, as GraphML and as JSON. In the maps red speaks against
the explained class, as in the paper, and every map has its own scale, symmetric around zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from leaderboards.studies.drawing import save, without_ticks
from leaderboards.studies.lines import half_interval
from leaderboards.studies.measuring import fitted
from leaderboards.studies.nif import graph, graph_drawing, pruning
from leaderboards.studies.nif.study import links as study_links
from leaderboards.studies.nif.study import perceptron
from mibench.data.tables import Table
from mibench.errors import UsageError
from mibench.files.reading import file_name
from mibench.information.flow import Flow, Neurons, estimator
from mibench.methods.nif.neurons import CLASSES, INPUT, choose, read
from mibench.models.mlp import Mlp
from mibench.plugins import registry
from mibench.record.cells import TaskSpec
from mibench.run.task import Task, make_task

TASKS = (("mlp", "iris"), ("cnn-m", "mnist"))
METHODS = ("nif", "nif-min")
REFERENCE = 500  # samples among which the flow is estimated
NEIGHBOURS = 3
GRID = 14
NETWORKS = 10  # of a table, two rounds of cross-validation
DRAWS = 10  # of chance, for each network
GRAINS: tuple[pruning.Grain, ...] = ("weights", "neurons")
COLOURS = "RdBu"  # red is negative
STYLES = {"nif": "-", "magnitude": "--", "random": ":", "reversed": "-."}


def draw(folder: Path, *, model: str, data: str, count: int, say: Callable[[str], None]) -> list[Path]:
    """Draw what can be drawn of the given task, or of the shipped ones."""
    tasks = [(model, data or registry.model(model).data)] if model else TASKS
    written: list[Path] = []
    for each in tasks:
        task = make_task(TaskSpec(*each, samples=max(count, 64), calibration=REFERENCE))
        stem = folder / file_name("nif", task.name)
        files = figure_2(task, stem) + figure_3(task, stem)
        if len(task.model.shape) == 3:
            files += figure_4(task, stem, count)
        written += files
        say("\n".join(f"wrote {file}" for file in files))
    return written


def figure_2(task: Task, stem: Path) -> list[Path]:
    """The flow graph, by layer."""
    layers = read(task.probe, task.calibration.x, GRID, choose(task.probe, task.calibration.x[:2]))
    if isinstance(task.data, Table):
        layers = (replace(layers[0], labels=task.data.features), *layers[1:])
    flow = graph.analyse(graph.build(layers, links(layers)))
    title = f"Information flow: {task.name}"
    return [
        *graph_drawing.draw(flow, stem.with_name(f"{stem.name}-graph"), title),
        graph_drawing.page(flow, stem.with_name(f"{stem.name}-graph.html"), title),
        graph.write_graphml(flow, stem.with_name(f"{stem.name}-graph.graphml")),
        graph.write_json(flow, stem.with_name(f"{stem.name}-graph.json")),
    ]


@dataclass(frozen=True)
class Trained:
    """A network to prune, the information of its links, and samples to measure its accuracy."""

    network: nn.Module
    edges: list[Tensor]
    x: Tensor
    label: Tensor


def figure_3(task: Task, stem: Path) -> list[Path]:
    """Accuracy against the share of zeroed weights and neurons, and its 95 % interval; none if it is no chain."""
    trained = repetitions(task)
    if not trained:
        return []
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, grain in zip(figure.subplots(1, 2, sharey=True), GRAINS, strict=True):
        for order in pruning.ORDERS:
            curves = torch.stack([pruned(each, order, grain, seed) for each in trained for seed in draws(order)])
            mean, half = curves.mean(0), half_interval(curves)  # (shares,) each
            areas = torch.tensor([pruning.area(curve) for curve in curves])
            spread = f" ± {float(half_interval(areas)):.2f}" if len(areas) > 1 else ""
            [line] = axes.plot(
                pruning.SHARES, mean, STYLES[order], label=f"{order} ({float(areas.mean()):.2f}{spread})"
            )
            axes.fill_between(pruning.SHARES, mean - half, mean + half, color=line.get_color(), alpha=0.15)
        axes.set_xlabel(f"share of {grain} set to zero")
        axes.legend(title="order (area)", fontsize=7, title_fontsize=7)
    figure.axes[0].set_ylabel("accuracy")
    many = f", mean of {len(trained)} cross-validated networks" if len(trained) > 1 else ""
    figure.suptitle(f"Pruning: {task.name}{many}", fontsize=10)
    return save(figure, stem.with_name(f"{stem.name}-pruning"))


def repetitions(task: Task) -> list[Trained]:
    """Perceptrons of a table are trained again, fold by fold; other networks are pruned as they are, if they can be."""
    if isinstance(task.model, Mlp):
        found = []
        for seed in range(NETWORKS):
            network, seen, held_out = perceptron(registry.label(task.data), seed, task.model.parameters.hidden)
            found.append(Trained(network, study_links(network, seen.x), held_out.x, held_out.label))
        return found
    try:
        shown = list(pruning.chain(task.probe.model).values())
    except UsageError:
        return []
    layers = read(task.probe, task.calibration.x, GRID, (INPUT, *shown[:-1], CLASSES))
    return [Trained(task.probe.model, links(layers), task.scoring.x, task.scoring.label)]


def draws(order: pruning.Order) -> range:
    """Chance is drawn several times."""
    return range(DRAWS if order == "random" else 1)


def pruned(trained: Trained, order: pruning.Order, grain: pruning.Grain, seed: int) -> Tensor:
    """The accuracy at each share, (shares,)."""
    random = torch.Generator().manual_seed(seed)
    scores = pruning.scores(trained.network, trained.edges, order, grain, random)
    return pruning.curve(trained.network, scores, trained.x, trained.label)


def figure_4(task: Task, stem: Path, count: int) -> list[Path]:
    """Images with their signed maps."""
    x = task.scoring.x[:count]
    shown = {method: explained(task, method, x) for method in METHODS}
    figure = Figure(figsize=(1.6 * (1 + len(METHODS)), 1.6 * len(x) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(x), 1 + len(METHODS), squeeze=False)
    for index, row in enumerate(rows):
        row[0].imshow(x[index].mean(0), cmap="gray")
        row[0].set_ylabel(task.probe.classes[int(task.target[index])], fontsize=8)
        for axes, map_ in zip(row[1:], shown.values(), strict=True):
            most = float(map_[index].abs().max())
            axes.imshow(map_[index], cmap=COLOURS, vmin=-most, vmax=most)
        for axes in row:
            without_ticks(axes)
    for axes, heading in zip(rows[0], ("image", *METHODS), strict=True):
        axes.set_title(heading, fontsize=9)
    return save(figure, stem.with_name(f"{stem.name}-maps"))


def links(layers: tuple[Neurons, ...]) -> list[Tensor]:
    """The global information of every link, in nats."""
    return Flow(layers, estimator("mixed", NEIGHBOURS)).edges()


def explained(task: Task, method: str, x: Tensor) -> Tensor:
    """The main map of a method, (N, H, W)."""
    explainer = fitted(method, task.probe, task.calibration)
    maps = explainer.explain(task.probe, x, task.target[: len(x)], range(len(x))).maps
    return maps[explainer.maps[0].name]
