"""What a run would compute and how long that may take, without computing anything.

From names, cards, paths and the run's own record alone, in a time and a memory that do not grow with the number of
samples; or, with --open, after weights and data were opened as a run opens them, with one measured forward a network.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mibench.errors import UsageError
from mibench.plugins import catalogue
from mibench.record import devices, environment
from mibench.record.about import About
from mibench.record.cells import TRAINED, Cell, Prepared, Setting, Stage, TaskSpec
from mibench.record.store import Store
from mibench.run import planning
from mibench.run.run import Options, Watch, default_folder, engine_of, prepare, still_known
from mibench.suites.suite import Suite, check

FORWARDS: Mapping[Stage, int] = {  # what a sample costs in forwards of the network, where no record knows better:
    "fit": 25,  # from .5 to 60 on average over the explainers of our boards …
    "explain": 100,  # … from 35 to 280 …
    "score": 20,  # … a row and a metric, for rows share what they can
    "cost": 300,  # explained three times
}
FORWARD = 3e-4  # seconds of a sample's forward, where none was measured: between those of the default board's networks
BYTES = 4  # of one pixel of a map


@dataclass(frozen=True)
class Line:
    """Cells of one stage, task and method (for scores: metric)."""

    stage: Stage
    task: str
    subject: str
    cells: int
    known: int  # computed before
    forwards: int  # that the others may take, guessed
    seconds: float  # that the others may take


@dataclass(frozen=True)
class Outlook:
    """All that a run would do."""

    folder: Path
    lines: tuple[Line, ...]
    workers: int
    guessed: bool  # whether some of the times are guesses …
    measured: bool  # … from a measured forward
    storage: int | None  # bytes of the maps that are still to be made; None: not known before the networks are opened
    lost: tuple[str, ...] = ()  # tasks that could not be opened, with the reasons

    @property
    def seconds(self) -> float:
        """How long the run may take: workers share everything but the costs."""
        shared = sum(line.seconds for line in self.lines if line.stage != "cost")
        return shared / self.workers + sum(line.seconds for line in self.lines if line.stage == "cost")


def outlook(suite: Suite, options: Options, watch: Watch | None = None, *, open_tasks: bool = False) -> Outlook:
    """What `run` would do with the same words."""
    suite = check(suite)
    _refuse_missing(suite)
    folder = options.out or default_folder(suite)
    setting = Setting(
        str(folder.resolve()), devices.device_of(options.device), options.precision, options.batch, options.timeout
    )
    workers = options.jobs or environment.cores()
    about, known, timed = _recorded(folder, options)
    specs = planning.specs(suite, retrain=options.retrain)
    opened, lost = _opened(specs, options, setting, workers, watch) if open_tasks else ({}, ())
    tally = _Tally(known, timed)
    for first in dict.fromkeys(spec.first for spec in specs):
        mine = [spec for spec in specs if spec.first == first]
        if not open_tasks:
            tally.add(suite, {spec: _prepared(spec, about) for spec in mine}, setting)
        elif set(mine) <= set(opened):
            tally.add(suite, {spec: opened[spec] for spec in mine}, setting)
    storage = None if tally.unsized else tally.storage
    return Outlook(folder, tally.lines(), workers, tally.guessed, bool(opened), storage, lost)


@dataclass
class _Tally:
    """Cells counted by stage, task and subject. Of a task that was never opened one sample is planned for all."""

    known: set[str]
    timed: Mapping[tuple[str, str, str], float]
    cells: Counter[tuple[Stage, str, str]] = field(default_factory=Counter)
    done: Counter[tuple[Stage, str, str]] = field(default_factory=Counter)
    forwards: Counter[tuple[Stage, str, str]] = field(default_factory=Counter)
    seconds: dict[tuple[Stage, str, str], float] = field(default_factory=dict)
    storage: int = 0
    guessed: bool = False
    unsized: bool = False

    def add(self, suite: Suite, found: Mapping[TaskSpec, Prepared | None], setting: Setting) -> None:
        """Count the cells of a task, with its networks."""
        spec, prepared = next(iter(found.items()))
        unseen = prepared is None
        samples = spec.samples if prepared is None else len(prepared.ids)
        planned = suite.model_copy(update={"shard": 1}) if unseen else suite
        task = prepared or Prepared(spec.name, "", "", 0.0, ("",), (), (), (), {})
        tasks = {each: known or task for each, known in found.items()}
        maps = {each.explainer.label: len(each.explainer.maps) for each in suite.chosen_methods()}
        self.unsized |= unseen
        for cell in planning.plan(planned, tasks, setting, 1).cells:
            stands_for_all = unseen and cell.stage == "explain" and cell.variant == TRAINED
            shards = math.ceil(samples / suite.shard) if stands_for_all else 1
            seen = {
                "fit": spec.calibration,
                "explain": samples if stands_for_all else min(samples, cell.stop - cell.start),
                "score": samples,
                "cost": min(samples, suite.timed_samples),
            }[cell.stage]
            self._count(cell, shards, seen, task.forward)
            if cell.stage == "explain" and cell.key not in self.known:
                self.storage += seen * math.prod(task.facts.get("pixels", ())) * BYTES * maps[cell.method]

    def _count(self, cell: Cell, times: int, samples: int, forward: float) -> None:
        """One planned cell, or one that represents several cells with so many samples in total."""
        group = cell.stage, cell.task, cell.metric or cell.method
        self.cells[group] += times
        if cell.key in self.known:
            self.done[group] += times
            return
        each = self.timed.get((cell.stage, cell.method, cell.metric))
        forwards = FORWARDS[cell.stage] * samples
        self.guessed |= each is None
        self.forwards[group] += forwards
        seconds = forwards * (forward or FORWARD) if each is None else each * times
        self.seconds[group] = self.seconds.get(group, 0.0) + seconds

    def lines(self) -> tuple[Line, ...]:
        """One line a group, in the order in which they were met."""
        return tuple(
            Line(*group, count, self.done[group], self.forwards[group], self.seconds.get(group, 0.0))
            for group, count in self.cells.items()
        )


def _refuse_missing(suite: Suite) -> None:
    """Refuse files and folders of the suite's networks and data that are not there."""
    for task in suite.tasks:
        model = catalogue.model(task.model)
        learned = [model.data] if model.floor else []  # a network of ours learns from its data when it is opened
        data = catalogue.datas(list(dict.fromkeys([task.data or model.data, *learned])))
        for plugin in (model, *data):
            if plugin.fault:
                raise UsageError(plugin.fault)
            for path in plugin.paths:
                if not Path(path).exists():
                    raise UsageError(
                        f"{plugin.label}: the path {path!r} does not exist: correct the path, or run the "
                        "command where it exists"
                    )


def _opened(
    specs: list[TaskSpec], options: Options, setting: Setting, workers: int, watch: Watch | None
) -> tuple[Mapping[TaskSpec, Prepared], tuple[str, ...]]:
    """The tasks, opened and checked as a run does it, on this machine; nothing of it is kept."""
    here = replace(options, engine="local" if options.engine == "ray" else options.engine, address="")
    with tempfile.TemporaryDirectory(prefix="mibench-") as folder:
        for part in ("maps", "logs"):
            Path(folder, part).mkdir()
        with engine_of(here, min(workers, len(specs)), setting.device) as engine:
            found, lost = prepare(engine, specs, replace(setting, folder=folder), watch)
    return found, tuple(f"{spec.data}/{spec.model}: {loss.reason}" for spec, loss in lost.items())


def _recorded(folder: Path, options: Options) -> tuple[About | None, set[str], dict[tuple[str, str, str], float]]:
    """What the folder holds of its last run, the cells that it knows, and how long cells took there."""
    if not all((folder / name).exists() for name in ("results.sqlite", "run.json")):
        return None, set(), {}
    with Store(folder) as store:
        return store.about(), set(still_known(store.known(), options.rerun)), store.seconds()


def _prepared(spec: TaskSpec, about: About | None) -> Prepared | None:
    """A task as it was when it was last prepared."""
    for name, task in about.tasks.items() if about else ():
        if (task.data, task.model) == (spec.data, spec.shown_model) and task.facts.samples <= spec.samples:
            ids = tuple(map(str, range(task.facts.samples)))
            networks = task.networks or (task,)
            if spec.network >= len(networks):
                return None
            was = networks[spec.network]
            return Prepared(name, was.weights_hash, was.data_hash, 0.0, ids, (), (), (), task.facts.model_dump())
    return None
