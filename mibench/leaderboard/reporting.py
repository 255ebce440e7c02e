"""From a run's record to what its leaderboard is made from.

Everything comes from the run's folder; nothing is explained or scored anew.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mibench.errors import UsageError, one_line
from mibench.files import writing
from mibench.files.reading import file_name, read_text
from mibench.leaderboard.results import CELLS, COSTS, SCORES, Results, Sample, TaskCard
from mibench.leaderboard.sanity import gates
from mibench.plugins import registry
from mibench.plugins.contract import MapSpec, Metric
from mibench.record import maps
from mibench.record.about import About, Cards, RowAbout, TaskAbout
from mibench.record.cards import MethodCard, MetricCard
from mibench.record.cells import TRAINED, UNPREPARED, USABLE
from mibench.record.identity import Identity, MetricIdentity, TaskIdentity
from mibench.record.store import Recorded, Store
from mibench.suites.suite import Suite

WORST = ("ok", "skipped", "nan", "failed", "timeout", "oom", "crash", "missing")  # from best to worst


def cards(suite: Suite) -> Cards:
    """What run.json holds of a suite's rows and metrics, so that a report needs no plug-in."""
    methods = [
        _method_card(row, method, spec) for method in suite.chosen_methods() for row, spec in method.rows.items()
    ]
    return Cards(methods=tuple(methods), metrics=tuple(metric_card(metric) for metric in suite.chosen_metrics()))


def _method_card(row: str, method: registry.Method, spec: MapSpec) -> MethodCard:
    """What an explainer says of one of its rows."""
    said = method.explainer
    facts = (method.control, spec.unit, spec.signed, one_line(said.paper), said.of_class, said.seeded)
    return MethodCard(row, one_line(_title(method, spec.name)), *facts)


def metric_card(metric: Metric) -> MetricCard:
    """What a metric says of itself."""
    about = one_line((type(metric).__doc__ or "").strip().partition("\n")[0])
    name = registry.label(metric)
    facts = (metric.family, metric.direction, metric.range, metric.unit, metric.gate, one_line(metric.paper))
    return MetricCard(name, one_line(metric.title), *facts, about, metric.version, metric.limit, metric.chance)


def _title(method: registry.Method, map_name: str) -> str:
    title = method.explainer.title if method.wrapper is None else f"{method.wrapper.title}: {method.explainer.title}"
    return title if map_name == method.explainer.maps[0].name else f"{title}, {map_name} map"


def results_of(store: Store) -> Results:
    """All that the leaderboard of a run shows."""
    about = store.about()
    suite, metrics = about.suite, about.cards.metrics
    places = {name: (place.data, place.model) for name, place in about.places.items()}
    _refuse_other_tasks(store, places)
    scores = _placed(store.scores(), places)[list(SCORES)]
    cells = pd.concat([_cells(store, places), _unasked(about, places)], ignore_index=True)
    return Results(
        suite=suite.name,
        title=about.title,
        scores=scores,
        cells=cells,
        metrics=metrics,
        methods=about.cards.methods,
        tasks=tuple(_task(name, task) for name, task in about.tasks.items()),
        costs=_costs(store.cells(), places, about.rows),
        gates=gates(scores, cells, metrics, suite.chance),
        samples=tuple(each for name in about.tasks for each in samples_of(store, name, range(about.pictures))),
        facts=_facts(about),
        chance=suite.chance,
        encoding=suite.encoding,
        known_good=suite.known_good,
        published=suite.published,
        published_in=suite.published_in,
        seeds=Counter((*places[cell.task], cell.method, cell.metric) for cell in store.cells("score")),
    )


def samples_of(store: Store, task: str, numbers: Iterable[int]) -> list[Sample]:
    """Some samples of a task, each with its picture and every row's map."""
    about = store.about().tasks[task]
    pictures_key = about.facts.pictures
    digest = store.digest(str(maps.path(Path(), pictures_key)))
    if not digest:
        return []
    seen = maps.read([maps.Source(maps.path(store.folder, pictures_key), digest)]).explanation.signals
    x, masks = seen["x"], seen.get("mask")
    named = store.samples(task)
    pictures = {number: picture(x[number].numpy()) for number in numbers if number < min(len(x), len(named))}
    rows = {row: found for row, found in row_maps(store, task).items() if found is not None}
    return [
        Sample(
            about.data,
            about.model,
            named[number][0],
            image,
            {row: each[number].astype(np.float32) for row, each in rows.items() if number < len(each)},
            *named[number][1:],
            mask=None if masks is None else masks[number].numpy() > 0,
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
        saved = maps.read([maps.source(store.folder, cell.key, {cell.key: cell.digest}) for cell in parts]).explanation
        if source.method != source.explainer:
            method = registry.method(source.method)
            assert method.wrapper is not None
            saved = method.wrapper.wrap(saved, method.explainer.maps[0])
        found[row] = saved.maps[source.map].numpy()
    return found


def picture(x: np.ndarray) -> np.ndarray:
    """A sample of the network's input space as an image, (H, W) or (H, W, 3) in [0, 1]; a table as one line."""
    image = x.astype(np.float32)
    if image.ndim == 1:
        image = image[None, None]
    image = image.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    image = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def _placed(scores: pd.DataFrame, places: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Scores with the task's data and model in the place of its name."""
    data = [places[task][0] for task in scores["task"]]
    model = [places[task][1] for task in scores["task"]]
    lines = {reason: one_line(reason) for reason in scores["reason"].unique() if isinstance(reason, str)}
    return scores.assign(data=data, model=model, reason=scores["reason"].map(lines))


def _cells(store: Store, places: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """What became of each row and metric: the worst over the seeds. A row without a task has one line for all."""
    worst: dict[tuple[str, ...], tuple[str, str]] = {}
    for cell in store.cells():
        if cell.stage == "score" or (cell.stage == "explain" and cell.variant == UNPREPARED):
            key = (*places[cell.task], cell.method, cell.metric)
            status = cell.status or "missing"
            if key not in worst or WORST.index(status) > WORST.index(worst[key][0]):
                worst[key] = status, one_line(cell.reason) if cell.status else "the run has not come to it"
    return pd.DataFrame([(*key, *value) for key, value in worst.items()], columns=list(CELLS))


def _unasked(about: About, places: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """The metrics that a suite does not ask of a task: a row each, never a hole."""
    cells = [
        (*places[name], row, card.name, "skipped", "the suite does not ask it of these data")
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
        "accuracy": f"{about.accuracy:.1%}",
        "classes": str(len(about.classes)),
        "samples": str(about.facts.samples),
        "layer": about.facts.layer,
        **({"network": about.network} if about.network != about.model else {}),
        "weights": about.weights_hash[:12],
        "data hash": about.data_hash[:12],
        **{f"truth, {name}": f"{nats:.3f} nats" for name, nats in about.facts.truth.items()},
    }
    return TaskCard(about.data, about.model, name, facts, about.notices)


def _facts(about: About) -> dict[str, str]:
    """What the page says of the run: machine, versions, seeds."""
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


def identity_of(store: Store) -> Identity:
    """What a later run must share with this one to be compared, and what excuses a difference.

    What was asked for in full cannot be left out later without a word.
    """
    about = store.about()
    seeds, fits = _seeds(store), _fits(store)
    words: dict[Literal["methods", "metrics"], tuple[str, ...]] = {"methods": ("all",), "metrics": ("all", "default")}
    return Identity(
        schema_number=2,
        processor=about.environment.processor,
        torch=about.environment.libraries.get("torch", ""),
        complete=tuple(what for what, whole in words.items() if getattr(about.suite, what) in whole),
        metrics={card.name: _metric_identity(card, seeds.get(card.name, 0)) for card in about.cards.metrics},
        tasks={
            name: TaskIdentity(
                data_hash=task.data_hash,
                weights_hash=task.weights_hash,
                drawing=task.drawing,
                recipe=task.recipe,
                accuracy=float(f"{task.accuracy:.6g}") if task.recipe else None,
                fits=fits.get(name, {}),
            )
            for name, task in about.tasks.items()
        },
    )


def _metric_identity(card: MetricCard, seeds: int) -> MetricIdentity:
    low, high = (bound if np.isfinite(bound) else None for bound in card.range)
    return MetricIdentity(version=card.version, low=low, high=high, seeds=seeds)


def _refuse_other_tasks(store: Store, places: Mapping[str, tuple[str, str]]) -> None:
    """Refuse a record whose cells are of tasks that run.json does not know."""
    others = sorted({cell.task for cell in store.cells()} - places.keys())
    if others:
        raise UsageError(f"{store.folder / 'run.json'} lacks the task {others[0]!r} of the record: run the suite again")


def _seeds(store: Store) -> dict[str, int]:
    """With how many seeds each metric was asked."""
    asked: dict[str, set[int]] = {}
    for cell in store.cells("score"):
        asked.setdefault(cell.metric, set()).add(cell.seed)
    return {metric: len(seeds) for metric, seeds in asked.items()}


def _fits(store: Store) -> dict[str, dict[str, str]]:
    """A digest of what each row's explainer learned, of all seeds together, by task and row."""
    learned: dict[tuple[str, str], Any] = {}
    rows = store.about().rows
    for cell in store.cells("fit"):
        if cell.variant == TRAINED and cell.status in USABLE:
            content = writing.read(maps.path(store.folder, cell.key), cell.digest, cell.key)
            learned.setdefault((cell.task, cell.method), hashlib.sha256()).update(content)
    found: dict[str, dict[str, str]] = {}
    for (task, explainer), fits in learned.items():
        same = {row: fits.hexdigest()[:24] for row, source in rows.items() if source.explainer == explainer}
        found.setdefault(task, {}).update(same)
    return found


def publish(runs: Sequence[Path], folder: Path, *, replace: bool = False) -> list[Path]:
    """Write the boards of runs, made anew, into a folder under their suites' names, and its index.

    A board that says more than the run does is only replaced where that is asked for.
    """
    from mibench.leaderboard import publish as boards
    from mibench.leaderboard.tables import board, to_csv

    written: list[Path] = []
    for run in runs:
        with Store(run) as store:
            results, identity = results_of(store), identity_of(store)
        if not replace and (more := _more(folder, results.suite, to_csv(board(results)), identity)):
            raise UsageError(f"{folder / results.suite}.csv has {more}; give --output, or --replace")
        boards.write(results, folder, results.suite)
        written += _beside(folder, results.suite, identity)
    boards.index(folder)
    return [*written, folder / "index.html"]


def shelve(run: Path, folder: Path) -> list[Path]:
    """Put the board that a run has just written into a folder of leaderboards, and renew its index."""
    from mibench.leaderboard import publish as boards

    with Store(run) as store:
        name, identity = store.about().suite.name, identity_of(store)
        for ending in boards.ENDINGS:
            boards.put(folder / f"{file_name(name)}{ending}", store.read_text(f"leaderboard{ending}"))
    boards.index(folder)
    return [*_beside(folder, name, identity), folder / "index.html"]


def outdone(run: Path, folder: Path) -> str:
    """What a folder's board of the same suite has and the board that a run has just written has not, in words."""
    with Store(run) as store:
        name, identity = store.about().suite.name, identity_of(store)
        table = store.read_text("leaderboard.csv")
    return _more(folder, name, table, identity)


def _more(folder: Path, name: str, table: str, identity: Identity) -> str:
    """What a board has that another table of the suite has not: values, samples or seeds."""
    try:
        kept = _counted(read_text(folder / f"{name}.csv"))
        before = Identity.read_file(folder / f"{name}.json", "")
    except (UsageError, ValueError, KeyError):
        return ""  # no board, or none of ours
    made = _counted(table)
    lost, fewer = kept.index.difference(made.index), kept.index.intersection(made.index)
    if len(lost):
        return f"{len(lost)} values that {name} has not here, such as {' '.join(lost[0])}"
    if (kept[fewer] > made[fewer]).any():
        return "more samples"
    fewer_seeds = any(
        metric in before.metrics and before.metrics[metric].seeds > each.seeds > 0
        for metric, each in identity.metrics.items()
    )
    return "more seeds" if fewer_seeds else ""


def _counted(table: str) -> pd.Series[int]:
    """Over how many samples each value of a board is."""
    rows = pd.read_csv(io.StringIO(table)).dropna(subset="value")
    rows = rows[(rows["family"] != "runtime") & (rows["status"] != "published")]
    return rows.set_index(["data", "model", "method", "metric"])["samples"]


def _beside(folder: Path, name: str, identity: Identity) -> list[Path]:
    """Write what a later run must share with a board to be compared with it; the board's files."""
    from mibench.leaderboard.publish import ENDINGS, put

    put(folder / f"{file_name(name)}.json", identity.written())
    return [folder / f"{name}{ending}" for ending in (*ENDINGS, ".json")]
