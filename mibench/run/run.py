"""The whole run, read top to bottom: suite, tasks, fits, explanations, scores, costs, leaderboard.

    >>> from mibench.run.run import run
    >>> from mibench.suites import suite
    >>> summary = run(suite.narrow(suite.load("default"), methods=["gradcam"], samples=8))

Workers compute, this process alone writes. Whatever was computed before under the same key is not computed again.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from mibench.engines.base import Engine, answers, each
from mibench.errors import Damaged, MibenchError, UsageError, interrupts_later
from mibench.files import sources
from mibench.leaderboard import board_files, declared, overview
from mibench.leaderboard.overview import Overview
from mibench.plugins import catalogue
from mibench.plugins.cards import DataCard, ModelCard
from mibench.plugins.spec import unknown
from mibench.record import devices, environment, fingerprint, maps
from mibench.record.about import About, LostTask, NetworkAbout, Node, RowAbout, SettingFacts, TaskAbout, TaskFacts
from mibench.record.cells import FAILURES, UNPREPARED, Cell, Job, Loss, Outcome, Prepared, Setting, TaskSpec
from mibench.record.store import Store
from mibench.run import planning, reopening
from mibench.suites import suite as suites
from mibench.suites.suite import Suite

if TYPE_CHECKING:  # an unchanged run works out no statistics
    from mibench.leaderboard.tables import Board

Rerun = Literal["missing", "failed", "all"]
PICTURES = 6  # samples of each task whose maps are shown on the page
TRAINS = "mibench.models.training"  # the module that trains networks
AT_WORK = ("started", "engine", "nodes", "workers", "timeout", "rescored")  # of run.json: how a run was carried out …
ASKED_IN = ("command", "commit")  # … and in whose name; all else is what it was


class Watch(Protocol):
    """Somebody who wants to see how the run goes on."""

    def preparing(self, tasks: int) -> None: ...
    def prepared(self, task: Prepared) -> None: ...
    def damaged(self, faults: Mapping[str, str]) -> None: ...
    def planned(self, engine: Engine | None, jobs: Iterable[Job], known: Mapping[str, Outcome]) -> None: ...
    def answered(self, job: Job, outcomes: Iterable[Outcome]) -> None: ...


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    folder: Path
    cells: int
    computed: int  # by this call
    failures: tuple[tuple[Cell, Outcome], ...]
    overview: Overview

    @cached_property
    def board(self) -> Board:
        """The board with its statistics, worked out from the record."""
        from mibench.leaderboard import reporting, tables

        with Store(self.folder) as store:
            return tables.board(reporting.results_of(store))

    @property
    def code(self) -> int:
        """The exit code: 3 if cells failed."""
        return 3 if self.failures else 0


@dataclass(frozen=True)
class Options:
    """How a run is carried out; nothing here changes a score, but for device and precision."""

    out: Path | None = None
    device: str = "auto"
    precision: str = "fp32"
    engine: str = "local"
    address: str = ""  # of a Ray cluster; empty: one for this run
    jobs: int = 0  # workers; 0: as many as there are cores
    timeout: float = 600.0  # seconds that one cell may take
    batch: int = 0  # samples explained at once; 0: fewer where they are larger
    rerun: Rerun = "missing"
    retrain: bool = False  # networks here, although the package has trained weights of them
    title: str = ""  # of the board's page; empty: the suite's name


def run(suite: Suite, options: Options = Options(), watch: Watch | None = None) -> Summary:
    """Run a suite in its folder, going on from whatever is there."""
    suite = suites.check(suite)
    folder = options.out or default_folder(suite)
    workers = options.jobs or environment.cores()
    setting = Setting(
        str(folder.resolve()), devices.device_of(options.device), options.precision, options.batch, options.timeout
    )

    with Store(folder, write=True) as store, contextlib.ExitStack() as ending:
        began = time.time_ns()
        damaged = store.repair()
        ending.callback(sources.keep)
        unchanged = _unchanged(store, suite, setting, options, watch) if not damaged else None
        if unchanged:
            return unchanged
        engine = ending.enter_context(engine_of(options, workers, setting.device))
        tasks, lost = prepare(engine, planning.specs(suite, retrain=options.retrain), setting, watch)
        plan = planning.plan(suite, tasks, setting, workers)
        unprepared = _unprepared(suite, lost)
        store.plan([*plan.cells, *unprepared])
        for spec, prepared in tasks.items():
            if not spec.network:  # of the others the classes that are explained may differ
                store.record_samples(prepared.name, _samples(prepared))
            pictures = str(maps.path(Path(), prepared.facts["pictures"]))
            store.adopt([pictures], {pictures: prepared.digest})
        store.tidy()
        store.write_text("suite.toml", suites.write(suite))
        store.write_text("run.json", _about(suite, tasks, lost, setting, options, engine).written())
        reopening.keep(store, tasks, setting, began)
        store.record([loss.outcome(cell.key) for cell, loss in unprepared.items()], log="")

        jobs = [*plan.jobs, *plan.lane]
        known, faults = sound(store, jobs, options.rerun)
        store.strike(faults)
        if watch:
            watch.damaged(damaged | faults)
            watch.planned(engine, jobs, known)
        computed = perform(engine, store, plan, known, watch)
        again: set[str] = set()
        while (found := _board(store, watch, again)) is None:  # what it shows was damaged, and is made again
            known, faults = sound(store, jobs, "missing")
            store.strike(faults)
            computed += perform(engine, store, plan, known, watch)
        failures = failures_of([*plan.cells, *unprepared], store.known())
    return Summary(folder, len(plan.cells) + len(unprepared), computed, failures, found)


def _unchanged(store: Store, suite: Suite, setting: Setting, options: Options, watch: Watch | None) -> Summary | None:
    """How a run ends for which nothing is to be opened, computed or written; None where anything is."""
    tasks = reopening.recalled(store, planning.specs(suite, retrain=options.retrain), setting)
    if not tasks or options.rerun == "all":
        return None
    plan = planning.plan(suite, tasks, setting, options.jobs or environment.cores())
    jobs = [*plan.jobs, *plan.lane]
    known, faults = sound(store, jobs, options.rerun)
    if faults or missing(jobs, known) or [cell.key for cell in store.cells()] != [cell.key for cell in plan.cells]:
        return None
    about, recorded = _about(suite, tasks, {}, setting, options, None), store.about()
    if _lasting(about) != _lasting(recorded):
        return None
    found = overview.current(store)
    if found is None:
        return None
    if watch:
        for prepared in tasks.values():
            watch.prepared(prepared)
        watch.planned(None, jobs, known)
    return Summary(store.folder, len(plan.cells), 0, failures_of(plan.cells, store.known()), found)


def _lasting(about: About) -> dict[str, object]:
    """What a run was, without how and when it was carried out."""
    return about.model_dump(exclude={*AT_WORK, "environment"}) | about.environment.model_dump(exclude={*ASKED_IN})


def perform(
    engine: Engine, store: Store, plan: planning.Plan, known: dict[str, Outcome], watch: Watch | None = None
) -> int:
    """Compute what is not known and record it; how many cells that were. Those that need a damaged file fail."""
    computed = 0
    for jobs, alone in ((plan.jobs, False), (plan.lane, True)):
        for job, outcomes in answers(engine, missing(jobs, known), known, alone=alone):
            store.record(outcomes, job.log)
            known |= {outcome.key: outcome for outcome in outcomes}
            computed += len(outcomes)
            if watch:
                watch.answered(job, outcomes)
            if any(outcome.status in FAILURES for outcome in outcomes):
                store.strike(store.unreadable(job.digests))  # the next run makes it again
    return computed


def sound(store: Store, jobs: Sequence[Job], rerun: Rerun) -> tuple[dict[str, Outcome], dict[str, str]]:
    """What need not be computed again; and what must be although it was, for it is damaged, with the reasons.

    Files are read to their end only where a job that is to be performed reads them. What failed is tried again where
    something that it needs is made again.
    """
    faults = store.faults()
    known = still_known(store.known(), rerun)
    looked: set[str] = set()
    while reads := {key for job in missing(jobs, known) for key in job.reads} & known.keys() - looked:
        looked |= reads
        damaged = store.unreadable(reads)
        faults |= damaged
        known = {key: outcome for key, outcome in known.items() if key not in damaged}
    for cell in (cell for job in jobs for cell in job.cells):
        outcome = known.get(cell.key)
        if outcome and outcome.status in FAILURES and not known.keys() >= set(cell.needs):
            del known[cell.key]
    return known, faults


def _board(store: Store, watch: Watch | None, again: set[str]) -> Overview | None:
    """What the run's board comes to, now made; nothing where something that goes into it turns out damaged.

    What was made `again` before has failed: a plug-in may change its file each time.
    """
    try:
        return write_board(store)
    except Damaged as error:
        if error.key in again:
            store.record([Outcome(error.key, "failed", "its file was damaged again after it was recreated")], "")
        elif not error.key or not (store.strike([error.key]) or store.repair()):
            raise
        again.add(error.key)
        if watch:
            watch.damaged({error.key: str(error)})
        return None


def write_board(store: Store) -> Overview:
    """Make a run's board in its folder, unless it is there as it would be made now."""
    if found := overview.current(store):
        return found
    from mibench.leaderboard import make, reporting

    board = make.write(reporting.results_of(store), store.folder)
    store.adopt(f"leaderboard{ending}" for ending in board_files.ENDINGS)
    found = overview.overview(board, overview.inputs(store))
    store.write_text(overview.FILE, found.written())
    return found


def default_folder(suite: Suite) -> Path:
    """Where a suite's record is: the same suite finds its record again, and a narrowed one has its own."""
    declared = suite.name in suites.names() and suites.load(suite.name) == suite
    more = "" if declared else f"-{fingerprint.digest(suite.model_dump())[:8]}"
    return Path("runs") / f"{suite.name}{more}"


def engine_of(options: Options, workers: int, device: str) -> Engine:
    """The engine of a name."""
    if options.address and options.engine != "ray":
        raise UsageError(f"--address is for --engine ray, not for {options.engine}")
    if options.engine not in ("local", "inline", "ray"):
        raise unknown("engine", options.engine, ("local", "inline", "ray"))
    if options.engine == "local":
        from mibench.engines.forkserver import processes

        processes()  # it imports while this process does
    with interrupts_later():
        from mibench.run import worker  # slow to import, like all that computes

    if options.engine == "inline":
        from mibench.engines.inline import InlineEngine

        return InlineEngine(worker.attempt)
    if options.engine == "local":
        from mibench.engines.local import LocalEngine

        return LocalEngine(worker.perform, workers, catalogue.places(), worker.loader)
    from mibench.engines.ray import RayEngine  # an extra

    wanted = options.jobs if options.address else workers
    gpu = device != "cpu"
    return RayEngine(worker.perform, wanted, options.address, gpu=gpu, places=catalogue.places())


def prepare(
    engine: Engine, specs: Iterable[TaskSpec], setting: Setting, watch: Watch | None
) -> tuple[dict[TaskSpec, Prepared], dict[TaskSpec, Loss]]:
    """Train or find the networks and the samples; a task that fails has a Loss with the reason."""
    specs = list(specs)
    if watch:
        watch.preparing(len(specs))
    found: dict[TaskSpec, Prepared] = {}
    lost: dict[TaskSpec, Loss] = {}
    for job, answer in each(engine, [Job("prepare", setting, spec, samples=PICTURES) for spec in specs]):
        if isinstance(answer, Loss):
            lost[job.task] = answer
            continue
        found[job.task] = answer
        if watch:
            watch.prepared(answer)
    if not {spec.first for spec in found} - {spec.first for spec in lost}:
        raise MibenchError("; ".join(f"{spec.name}: {loss.reason}" for spec, loss in lost.items()))
    gone = {spec.first for spec in lost}  # a task with some of its networks would be another
    return {spec: found[spec] for spec in specs if spec in found and spec.first not in gone}, lost


def still_known(known: Mapping[str, Outcome], rerun: Rerun) -> dict[str, Outcome]:
    """What need not be computed again."""
    if rerun == "all":
        return {}
    return {key: outcome for key, outcome in known.items() if rerun == "missing" or outcome.status not in FAILURES}


def missing(jobs: Iterable[Job], known: Mapping[str, Outcome]) -> list[Job]:
    """The jobs with the cells that are still to be computed."""
    rest = (job.keep(cell.key for cell in job.cells if cell.key not in known) for job in jobs)
    return [job for job in rest if job.cells]


def _unprepared(suite: Suite, lost: Mapping[TaskSpec, Loss]) -> dict[Cell, Loss]:
    """One cell for each row of a task that could not be prepared: a failure is a row, never a hole."""
    rows = [row for method in suite.chosen_methods() for row in method.rows]
    return {
        Cell(fingerprint.digest("unprepared", spec.name, row), "explain", spec.name, row, variant=UNPREPARED): loss
        for spec, loss in lost.items()
        for row in rows
    }


def failures_of(cells: Iterable[Cell], known: Mapping[str, Outcome]) -> tuple[tuple[Cell, Outcome], ...]:
    """The cells that failed, with what became of them."""
    return tuple((cell, known[cell.key]) for cell in cells if cell.key in known and known[cell.key].status in FAILURES)


def _samples(task: Prepared) -> list[tuple[str, str, str]]:
    """Id, label and explained class of each sample, in words."""
    return [
        (name, task.classes[label], task.classes[target])
        for name, label, target in zip(task.ids, task.labels, task.targets, strict=True)
    ]


def _about(
    suite: Suite,
    tasks: Mapping[TaskSpec, Prepared],
    lost: Mapping[TaskSpec, Loss],
    setting: Setting,
    options: Options,
    engine: Engine | None,
) -> About:
    """What the run was, for run.json."""
    rows = {
        row: RowAbout(method=method.label, explainer=method.explainer.label, map=spec.name)
        for method in suite.chosen_methods()
        for row, spec in method.rows.items()
    }
    return About(
        schema_number=2,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        suite=suite,
        setting=SettingFacts(
            device=setting.device, precision=setting.precision, batch=setting.batch, retrain=options.retrain
        ),
        title=options.title,
        engine=options.engine,
        nodes=tuple(Node(**node) for node in engine.nodes) if engine else (),
        workers=engine.workers if engine else 0,
        timeout=options.timeout,
        environment=environment.facts(setting.device),
        seeds=tuple(range(suite.seeds)),
        pictures=PICTURES,
        tasks={spec.name: _task_about(suite, spec, tasks) for spec in tasks if not spec.network},
        lost={
            spec.name: LostTask(data=spec.data, model=spec.shown_model, reason=loss.reason)
            for spec, loss in lost.items()
        },
        rows=rows,
        cards=declared.cards(suite),
    )


def _task_about(suite: Suite, spec: TaskSpec, tasks: Mapping[TaskSpec, Prepared]) -> TaskAbout:
    task, networks = tasks[spec], [each for other, each in tasks.items() if other.first == spec]
    return TaskAbout(
        data=spec.data,
        model=spec.shown_model,
        network=spec.model,
        accuracy=task.accuracy,
        classes=task.classes,
        weights_hash=task.weights_hash,
        recipe=_recipe(catalogue.model(spec.model)),
        data_hash=task.data_hash,
        drawing=_drawing(spec, task),
        facts=TaskFacts(**task.facts),
        notices=task.notices,
        metrics=tuple(metric.label for metric in planning.asked(suite, spec)),
        architecture=catalogue.model(spec.model).architecture,
        networks=tuple(
            NetworkAbout(weights_hash=each.weights_hash, data_hash=each.data_hash, accuracy=each.accuracy)
            for each in networks
        ),
    )


def _recipe(model: ModelCard) -> str:
    """A hash of how a network of ours is trained: the same on every machine, as its weights are not; else empty."""
    if not model.floor:
        return ""
    return fingerprint.digest(model.label, _written(model, catalogue.data(model.data), more=[TRAINS]))


def _drawing(spec: TaskSpec, prepared: Prepared) -> str:
    """A hash of how samples that no file holds are drawn: their last digits may depend on the machine; else empty."""
    data = catalogue.data(spec.data)
    if data.argument:
        return ""
    return fingerprint.digest(spec.data, spec.calibration, prepared.ids, prepared.labels, _written(data))


def _written(*plugins: ModelCard | DataCard, more: Iterable[str] = ()) -> str:
    """A hash of the modules that plug-ins and their bases are written in, and of more modules."""
    return fingerprint.modules({name for plugin in plugins for name in plugin.modules} | {*more})
