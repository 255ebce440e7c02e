"""Pictures of maps: of a user's own images, and of one sample of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mibench.data import images
from mibench.data.folder import SUFFIXES
from mibench.errors import DataError, Interrupted, MibenchError, UsageError, interrupts_told_apart
from mibench.files import writing
from mibench.files.reading import file_name
from mibench.files.tensors import pack
from mibench.leaderboard.pictures import heat, overlay
from mibench.leaderboard.reporting import picture
from mibench.network.probe import OpenProbe
from mibench.network.untouched import Changed, left_as_found
from mibench.plugins import registry
from mibench.plugins.contract import Data, Explainer, FittedExplainer, Model, Samples, Split
from mibench.record.cells import TaskSpec
from mibench.run.explaining import copied, fault, in_batches, sample_seeds
from mibench.run.task import Task, make_task, opened
from mibench.run.worker import lost

Maps = dict[str, np.ndarray]  # of one image, by the row's name


class MapsFailed(MibenchError):
    """Some maps could not be drawn; the others were."""

    code = 3


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
    given: Sequence[Path],
    model: str,
    methods: Sequence[str],
    folder: Path,
    data: str,
    calibration: int,
    device: str,
    save_to: Path | None = None,
) -> Iterator[str]:
    """Explain image files and write NAME.METHOD.png for each map and NAME.maps.png for all; yields what was written.

    `save_to` gets the maps themselves: one tensor (H, W) a map, named IMAGE/ROW.
    """
    if not methods:
        raise UsageError("pass methods, for example --methods gradcam,ig")
    if save_to is not None and not save_to.parent.is_dir():
        raise UsageError(f"--save {save_to}: folder {save_to.parent} does not exist: create it or pass another path")
    paths = _files(given)
    _refuse_equal_names(paths)
    chosen = [registry.method(spec) for spec in methods]
    network = registry.model(model)
    raw = torch.stack([images.read(path, network.shape) for path in paths])  # (N, C, H, W)
    names = [path.name for path in paths]

    def load() -> Task:
        if data or _has_data(network):
            return make_task(TaskSpec(model, data, len(paths), calibration), device)
        return _task_of_images(network, model, raw, names, device)

    task = load()
    if isinstance(task.data, Given) and any(isinstance(method.explainer, FittedExplainer) for method in chosen):
        yield "explainers are fitted on these images alone; give --data to fit them on more"
    target = task.predictions(task.normalise(raw))
    folder.mkdir(parents=True, exist_ok=True)
    found, failed = yield from _explained(chosen, task, load, raw, target, names)
    for path, image, label, maps in zip(paths, raw, target.tolist(), found, strict=True):
        if maps:
            name = task.probe.classes[label]
            _draw(picture(image.numpy()), maps, f"{path.name}: {name}", folder / path.stem)
            yield f"{path}: {name}; {len(maps)} map{'s' * (len(maps) != 1)} in {folder / path.stem}.*.png"
    if save_to is not None and any(found):
        tensors = {
            f"{path.name}/{row}": torch.from_numpy(values)
            for path, maps in zip(paths, found, strict=True)
            for row, values in maps.items()
        }
        writing.write(save_to, pack(tensors, {"model": model}), "pass another path to --save")
        yield f"wrote {save_to}: {len(tensors)} maps"
    if not any(found):
        raise MibenchError("no map was drawn, for the reasons above")
    if failed:
        raise MapsFailed("some maps were not drawn, for the reasons above")


def _files(given: Sequence[Path]) -> list[Path]:
    """The files that are named, and the pictures in the folders that are."""
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES)
        if not inside:
            raise DataError(f"{path} contains no pictures ({', '.join(sorted(SUFFIXES))}): pass another folder")
        found += inside
    return found


def _refuse_equal_names(paths: Sequence[Path]) -> None:
    """Refuse images whose maps would be written over each other's."""
    counts = Counter(path.stem.casefold() for path in paths)
    twice = [str(path) for path in paths if counts[path.stem.casefold()] > 1]
    if twice:
        raise UsageError(f"the maps of {', '.join(twice)} would have the same names: explain them one by one")


def _explained(
    methods: Sequence[registry.Method],
    task: Task,
    load: Callable[[], Task],
    raw: torch.Tensor,
    target: torch.Tensor,
    names: Sequence[str],
) -> Generator[str, None, tuple[list[Maps], bool]]:
    """Each image's maps and whether any failed; reports what failed."""
    found: list[Maps] = [{} for _ in names]
    failed = False
    for method in methods:
        try:
            with interrupts_told_apart(), left_as_found(task.probe.model, {**task.tensors, "classes": target}):
                rows = _maps(method, task, task.normalise(raw), target, names)
        except Interrupted:
            raise  # the user's own Ctrl-C
        except BaseException as error:  # a method may fail in any way, and the others go on
            loss = lost(error)
            failed |= loss.status != "skipped"
            yield f"{loss.status}: {method.label}: {loss.reason}"
            if isinstance(error, Changed):
                task = load()  # no other method shall meet what was changed
            continue
        for row, values in rows.items():
            for name, maps, one in zip(names, found, values, strict=True):
                if one.isfinite().all():
                    maps[row] = one.numpy()
                else:
                    failed = True
                    yield f"nan: {row} of {name}: {fault(one)}"
    return found, failed


def _draw(shown: np.ndarray, maps: Maps, title: str, stem: Path) -> None:
    """Each map over its image, and the sheet of all."""
    for row, values in maps.items():
        save(overlay(shown, heat(values)), stem.with_name(f"{stem.name}.{file_name(row)}.png"))
    sheet(shown, maps, title, stem.with_name(f"{stem.name}.maps.png"))


def _has_data(network: Model) -> bool:
    """Whether the data that the network learned from are available without a path."""
    try:
        return bool(registry.data(network.data).classes)
    except MibenchError:
        return False


def _task_of_images(network: Model, spec: str, raw: torch.Tensor, names: Sequence[str], device: str) -> Task:
    """A task whose data are the images themselves."""
    probe = opened(network, (), device)
    given = Given(raw, names, probe.logits(probe.network.example()).shape[1])
    named = OpenProbe(replace(probe.network, classes=given.classes), probe.local, probe.depths)
    return Task(TaskSpec(spec, given.name, len(raw), len(raw)), network, given, named)


def _maps(
    method: registry.Method, task: Task, x: torch.Tensor, target: torch.Tensor, names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """All rows' maps (N, H, W) of a method."""
    explainer: Explainer = method.explainer
    if isinstance(explainer, FittedExplainer):
        explainer.restore(task.probe, explainer.learn(task.probe, copied(task.calibration), 0))
    explanation = in_batches(explainer, task.probe, x, target, sample_seeds(names, 0), 0)
    if method.wrapper is not None:
        explanation = method.wrapper.wrap(explanation, explainer.maps[0])
    return {row: explanation.maps[spec.name] for row, spec in method.rows.items()}
