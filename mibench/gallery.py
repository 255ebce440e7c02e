"""Pictures of maps: of a user's own images, and of one sample of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mibench import registry
from mibench.contract import Data, Explainer, FittedExplainer, Model, Samples, Split, Unsupported
from mibench.data import images
from mibench.errors import MibenchError, UsageError
from mibench.explaining import in_batches, sample_seeds
from mibench.probe import open_probe
from mibench.reporting import picture
from mibench.task import Task, TaskSpec, make_task

MIX = 0.6  # the map's share where it lies over the image


def heat(values: np.ndarray) -> np.ndarray:
    """A map (H, W) as colours (H, W, 3) in [0, 1]: blue speaks against, red for; unsigned maps from dark to bright."""
    largest = float(np.abs(values).max()) or 1.0
    if values.min() < 0:
        return np.asarray(colormaps["RdBu_r"](0.5 + values / largest / 2)[..., :3])
    return np.asarray(colormaps["magma"](values / largest)[..., :3])


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map over a grey copy of its image (H, W) or (H, W, 3)."""
    grey = image if image.ndim == 2 else image.mean(-1)
    return (1 - MIX) * grey[..., None] + MIX * heat(values)


def save(picture: np.ndarray, file: Path) -> None:
    """Write colours in [0, 1] as PNG."""
    Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8)).save(file)


def sheet(image: np.ndarray, maps: Mapping[str, np.ndarray], title: str, file: Path, across: int = 5) -> None:
    """One picture of an image and the maps of all methods."""
    tiles = {"the sample": np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image}
    tiles |= {name: heat(values) for name, values in maps.items()}
    rows = -(-len(tiles) // across)
    figure = Figure(figsize=(2.2 * across, 2.5 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False).flatten()
    for place in axes:
        place.set_axis_off()
    for place, (name, tile) in zip(axes, tiles.items(), strict=False):
        place.imshow(tile, interpolation="nearest")
        place.set_title(name, fontsize=8)
    figure.suptitle(title, fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png")


class Given(Data):
    """The user's own images in the place of a data set: explainers are fitted on them, and classes are numbers."""

    name = "given"
    title = "The images to be explained"

    def __init__(self, raw: torch.Tensor, names: Sequence[str], classes: int) -> None:
        super().__init__()
        self.raw, self.names, self.count = raw, tuple(names), classes

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes by number."""
        return tuple(f"class {number}" for number in range(self.count))

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """All images, whatever the split."""
        return Samples(self.raw, torch.zeros(len(self.raw), dtype=torch.long), self.names)


def explain(
    paths: Sequence[Path], model: str, methods: Sequence[str], folder: Path, data: str, calibration: int, device: str
) -> Iterator[str]:
    """Explain image files and write NAME.METHOD.png for each map and NAME.maps.png for all; tells what was written."""
    if not methods:
        raise UsageError("say which methods, for example --methods gradcam,ig")
    chosen = [registry.method(spec) for spec in methods]
    network = registry.model(model)
    raw = torch.stack([images.read(path, network.shape) for path in paths])  # (N, C, H, W)
    if data or _has_data(network):
        task = make_task(TaskSpec(model, data, len(paths), calibration), device)
    else:
        task = _task_of_images(network, model, raw, [path.name for path in paths], device)
        if any(isinstance(method.explainer, FittedExplainer) for method in chosen):
            yield "explainers are fitted on these images alone; give --data to fit them on more"
    x = task.normalise(raw)
    target = task.predictions(x)
    folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, np.ndarray]] = [{} for _ in paths]
    for method in chosen:
        try:
            maps = _maps(method, task, x, target, [path.name for path in paths])
        except Unsupported as refusal:
            yield f"{method.label} is skipped: {refusal}"
            continue
        for row, values in maps.items():
            for each, one in zip(found, values, strict=True):
                each[row] = one
    for path, image, label, each in zip(paths, raw, target.tolist(), found, strict=True):
        shown, said = picture(image.numpy()), task.probe.classes[label]
        for row, values in each.items():
            save(overlay(shown, values), folder / f"{path.stem}.{row.replace(':', '-')}.png")
        sheet(shown, each, f"{path.name}: {said}", folder / f"{path.stem}.maps.png")
        yield f"{path}: {said}; {len(each)} maps in {folder / path.stem}.*.png"


def _has_data(network: Model) -> bool:
    """Whether the data that the network learned from are at hand, without being told where."""
    try:
        return bool(registry.data(network.data).classes)
    except MibenchError:
        return False


def _task_of_images(network: Model, spec: str, raw: torch.Tensor, names: Sequence[str], device: str) -> Task:
    """A task whose data are the images themselves."""
    loaded = network.load()
    with torch.no_grad():
        classes = loaded(torch.zeros(1, *network.shape)).shape[1]
    given = Given(raw, names, classes)
    probe = open_probe(
        loaded,
        kind=network.kind,
        local=network.local,
        representation=network.representation,
        depths=network.depths,
        shape=network.shape,
        classes=given.classes,
        device=device,
    )
    return Task(TaskSpec(spec, given.name, len(raw), len(raw)), network, given, probe)


def _maps(
    method: registry.Method, task: Task, x: torch.Tensor, target: torch.Tensor, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """All rows' maps of a method."""
    explainer: Explainer = method.explainer
    if isinstance(explainer, FittedExplainer):
        explainer.restore(task.probe, explainer.fit(task.probe, task.calibration, 0))
    explanation = in_batches(explainer, task.probe, x, target, sample_seeds(names, 0), 0)
    if method.wrapper is not None:
        explanation = method.wrapper.wrap(explanation, explainer.maps[0])
    return {row: explanation.maps[spec.name].numpy() for row, spec in method.rows.items()}
