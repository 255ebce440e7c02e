"""From a run's record to what its leaderboard is made from.

Everything comes from the run's folder; nothing is explained or scored again.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mibench.errors import one_line
from mibench.leaderboard.placing import placed_scores
from mibench.leaderboard.results import CELLS, COSTS, Results, Sample, TaskCard
from mibench.leaderboard.sanity import gates
from mibench.plugins import catalogue, registry, trial
from mibench.plugins.contract import Explanation
from mibench.record import maps, verified
from mibench.record.about import About, RowAbout, TaskAbout
from mibench.record.cells import TRAINED, UNPREPARED, USABLE
from mibench.record.store import Recorded, Store

WORST = ("ok", "skipped", "nan", "failed", "timeout", "oom", "crash", "missing")  # from best to worst


def results_of(store: Store) -> Results:
    """All that the leaderboard of a run shows."""
    about = store.about()
    suite, metrics = about.suite, about.cards.metrics
    places = {name: (place.data, place.model) for name, place in about.places.items()}
    scores = placed_scores(store)
    tasks = tuple(_task(name, task) for name, task in about.tasks.items())
    cells = pd.concat([_cells(store, places), _unasked(about, places)], ignore_index=True)
    return Results(
        suite=suite.name,
        title=about.title,
        scores=scores,
        cells=cells,
        metrics=metrics,
        methods=about.cards.methods,
        tasks=tasks,
        costs=_costs(store.cells(), places, about.rows),
        gates=gates(scores, cells, metrics, suite.chance, suite.known_good, tasks),
        samples=tuple(each for name in about.tasks for each in samples_of(store, name, range(about.pictures))),
        facts=_facts(about) | _verified(store),
        chance=suite.chance,
        encoding=suite.encoding,
        known_good=suite.known_good,
        published=suite.published,
        published_in=suite.published_in,
        origins={row: (source.method, source.explainer) for row, source in about.rows.items()},
        seeds=Counter((*places[cell.task], cell.method, cell.metric) for cell in store.cells("score")),
    )


def samples_of(store: Store, task: str, numbers: Iterable[int]) -> list[Sample]:
    """Some samples of a task, each with its picture and every row's map."""
    about = store.about().tasks[task]
    pictures_key = about.facts.pictures
    digest = store.digest(str(maps.path(Path(), pictures_key)))
    if not digest:
        return []
    seen = maps.read_arrays([maps.Source(maps.path(store.folder, pictures_key), digest)], "signal")
    x, masks = seen["x"], seen.get("mask")
    named = store.samples(task)
    pictures = {number: picture(x[number]) for number in numbers if number < min(len(x), len(named))}
    rows = {row: found for row, found in row_maps(store, task).items() if found is not None}
    return [
        Sample(
            about.data,
            about.model,
            named[number][0],
            image,
            {row: each[number].astype(np.float32) for row, each in rows.items() if number < len(each)},
            *named[number][1:],
            mask=None if masks is None else masks[number] > 0,
        )
        for number, image in pictures.items()
    ]


def row_maps(store: Store, task: str, seed: int = 0) -> dict[str, np.ndarray]:
    """The plain maps (N, H, W) of every row of a task that has them all."""
    explained: dict[str, list[Recorded]] = {}
    for cell in store.cells("explain"):
        if (cell.task, cell.seed, cell.variant) == (task, seed, TRAINED):
            explained.setdefault(cell.method, []).append(cell)
    found: dict[str, np.ndarray] = {}
    for row, source in store.about().rows.items():
        parts = explained.get(source.explainer, [])
        if not parts or not all(cell.status in USABLE for cell in parts):
            continue
        files = [maps.source(store.folder, cell.key, {cell.key: cell.digest}) for cell in parts]
        if source.method == source.explainer:
            found[row] = maps.read_arrays(files, "map")[source.map]
        elif (wrapped := _wrapped(source, files)) is not None:
            found[row] = wrapped
    return found


def _wrapped(source: RowAbout, files: Sequence[maps.Source]) -> np.ndarray | None:
    """The maps that a wrapper makes: in a child process, for its code may be anybody's; None if it cannot."""
    inner = maps.read_arrays(files, "map")[source.map]
    import torch  # noqa: F401  # here, once, and not in each child

    content, fault = trial.ask(lambda: _wrap(source, files))
    try:
        made = np.load(io.BytesIO(content), allow_pickle=False) if not fault else None
    except ValueError:
        return None
    return made if isinstance(made, np.ndarray) and made.shape == inner.shape else None


def _wrap(source: RowAbout, files: Sequence[maps.Source]) -> bytes:
    """The child's part."""
    import torch

    torch.set_num_threads(1)  # a fork has none of its parent's
    name = registry.parse(source.method).name
    spec = next(each for each in catalogue.method(source.method).explainer.maps if each.name == source.map)
    explained = Explanation({spec.name: maps.read(files).explanation.maps[spec.name]})
    made = io.BytesIO()
    np.save(made, registry.wrapper(name).wrap(explained, spec).maps[spec.name].float().numpy())
    return made.getvalue()


def picture(x: np.ndarray) -> np.ndarray:
    """A sample of the network's input space as an image, (H, W) or (H, W, 3) in [0, 1]; a table as one line."""
    image = x.astype(np.float32)
    if image.ndim == 1:
        image = image[None, None]
    image = image.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    image = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def _cells(store: Store, places: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """What became of each row and metric: the worst over the seeds. A row without a task has one line for all."""
    worst: dict[tuple[str, ...], tuple[str, str]] = {}
    for cell in store.cells():
        if cell.stage == "score" or (cell.stage == "explain" and cell.variant == UNPREPARED):
            key = (*places[cell.task], cell.method, cell.metric)
            status = cell.status or "missing"
            if key not in worst or WORST.index(status) > WORST.index(worst[key][0]):
                worst[key] = status, one_line(cell.reason) if cell.status else "not computed yet"
    return pd.DataFrame([(*key, *value) for key, value in worst.items()], columns=list(CELLS))


def _unasked(about: About, places: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """The metrics that a suite does not request for a task: one row each, so that none is missing."""
    cells = [
        (*places[name], row, card.name, "skipped", "the suite does not request it for these data")
        for name, task in about.tasks.items()
        for row in about.rows
        for card in about.cards.metrics
        if card.name not in task.metrics
    ]
    return pd.DataFrame(cells, columns=list(CELLS))


def _costs(
    cells: Iterable[Recorded], places: Mapping[str, tuple[str, str]], rows: Mapping[str, RowAbout]
) -> dict[tuple[str, str, str], Any]:
    """Costs by row, under the names that the leaderboard knows; an explainer's rows cost what it costs."""
    names = [cost.name for cost in COSTS]
    costs: dict[tuple[str, str], dict[str, float]] = {}
    for cell in cells:
        if cell.stage == "cost" and cell.status == "ok":
            found = {name: cell.facts[name] for name in names if name in cell.facts}
            costs.setdefault((cell.task, cell.method), {}).update(found)
        if cell.stage == "fit" and cell.status == "ok" and cell.variant == TRAINED and cell.seed == 0:
            costs.setdefault((cell.task, cell.method), {})["fit_seconds"] = cell.facts["seconds"]
    return {
        (*places[task], row): found
        for (task, explainer), found in costs.items()
        for row, source in rows.items()
        if source.explainer == explainer
    }


def _task(name: str, about: TaskAbout) -> TaskCard:
    facts = {
        "accuracy": ", ".join(f"{each.accuracy:.1%}" for each in about.networks or (about,)),
        "classes": str(len(about.classes)),
        "samples": str(about.facts.samples),
        "layer": about.facts.layer,
        **({"network": about.network} if about.network != about.model else {}),
        "weights": about.weights_hash[:12],
        "data hash": about.data_hash[:12],
        **{f"truth, {name}": f"{nats:.3f} nats" for name, nats in about.facts.truth.items()},
    }
    count = max(1, len(about.networks))
    facts |= {
        "networks": f"{count}, which the seeds take in turn" if count > 1 else "1: what is found is of this network"
    }
    truth, kind = about.truth, about.architecture
    return TaskCard(about.data, about.model, name, facts, about.notices, truth, kind, count)


def _verified(store: Store) -> dict[str, str]:
    """What Quantus made of the scores, if they were verified as they are now."""
    found = verified.current(store)
    return {"verified": str(found)} if found else {}


def _facts(about: About) -> dict[str, str]:
    """The facts about the run on the page: machine, versions, seeds."""
    machine = about.environment
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items() if version)
    return {
        "suite": about.suite.description,
        "date": about.started[:10],
        "seeds": str(about.suite.seeds),
        "device": f"{machine.device}, {about.setting.precision}",
        "processor": f"{machine.processor}, {machine.cores} cores",
        "python": machine.python,
        "libraries": libraries,
        "commit": machine.commit,
    }
