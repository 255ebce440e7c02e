"""Scores of a finished run by more metrics, from the maps that it saved: nothing is fitted, explained or timed.

The plan is that of a run which had the metrics from the start, so the scores are the same to the byte, and so are their
keys: what was scored before is not scored again. Where that plan needs maps that the run did not save, it is refused.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from mibench.errors import Damaged, UsageError
from mibench.leaderboard import declared
from mibench.plugins import catalogue
from mibench.plugins.cards import MetricCard
from mibench.plugins.contract import PERTURBED, VARIANTS
from mibench.record import devices, environment
from mibench.record.about import About, Rescored
from mibench.record.cells import Cell, Prepared, Setting, TaskSpec
from mibench.record.store import Store
from mibench.run import planning
from mibench.run.run import Options, Summary, Watch, engine_of, failures_of, perform, prepare, sound, write_board
from mibench.suites import suite as suites
from mibench.suites.suite import Suite

SHOWN = 3  # maps that are named in an error; the others are counted


def rescore(folder: Path, metrics: Sequence[str], options: Options, watch: Watch | None = None) -> Summary:
    """Score a run's saved maps by more metrics, add the scores to its record, and rebuild its board."""
    with Store(folder) as store:
        about = store.about()
        suite = _with(_declared(store, about), metrics)
    workers = options.jobs or environment.cores()
    setting = Setting(
        str(folder.resolve()),
        devices.device_of(about.setting.device),
        about.setting.precision,
        options.batch or about.setting.batch,
        options.timeout,
    )
    with Store(folder, write=True) as store, engine_of(options, workers, setting.device) as engine:
        specs = planning.specs(suite, retrain=about.setting.retrain)
        specs = [spec for spec in specs if spec.name in about.tasks]
        tasks, lost = prepare(engine, specs, setting, watch)
        if lost:
            raise UsageError("; ".join(f"{spec.name}: {loss.reason}" for spec, loss in lost.items()))
        _refuse_other_tasks(folder, about, tasks)
        plan = planning.plan(suite, tasks, setting, workers)
        jobs = [job for job in plan.jobs if job.stage == "score"]
        known, faults = sound(store, jobs, "missing")
        asked_of = {cell.key for job in jobs for cell in job.cells}
        store.strike(key for job in jobs for key in job.reads if key in faults)
        cells = {cell.key: cell for cell in plan.cells}
        needed = {need for cell in plan.cells if cell.stage == "score" for need in cell.needs}
        _refuse_without_maps(folder, [cells[need] for need in sorted(needed - known.keys())], store)
        for key in faults.keys() - asked_of:
            raise Damaged(f"{folder}: {faults[key]}; run the suite again, which recreates it", key)
        if watch:
            watch.damaged(faults)
        kept = [*_others(store), *(cell for job in jobs for cell in job.cells)]
        store.plan(kept)
        store.write_text("suite.toml", suites.write(suite))
        asked = {spec.name: planning.asked(suite, spec) for spec in tasks}
        store.write_text("run.json", _rescored(about, suite, metrics, asked).written())
        if watch:
            watch.planned(engine, jobs, known)
        computed = perform(engine, store, planning.Plan(tuple(jobs), ()), known, watch)
        found = write_board(store)
        failures = failures_of(kept, store.known())
    return Summary(folder, len(kept), computed, failures, found)


def _declared(store: Store, about: About) -> Suite:
    """The suite of a run with the metrics that it had, whatever "default" has come to mean since."""
    suite = suites.read(store.read_text("suite.toml"), str(store.folder / "suite.toml"))
    return suite.model_copy(update={"metrics": tuple(card.name for card in about.cards.metrics)})


def _with(suite: Suite, specs: Sequence[str]) -> Suite:
    """The suite with more metrics, after every name was looked up and what they need of gates' maps is there."""
    metrics = catalogue.metrics(specs)
    if not metrics:
        raise UsageError("pass the metrics to score by, separated by commas: --metrics irof,pixel-flipping")
    for metric in metrics:
        if metric.needs & {*VARIANTS, PERTURBED} and not suite.gate_samples:
            raise UsageError(
                f"{metric.label} needs maps of other weights, classes or inputs, and this run made none "
                "(gate_samples = 0): run the suite again with some"
            )
    labels = tuple(metric.label for metric in metrics)

    def more(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*names, *labels)))

    tasks = tuple(
        task.model_copy(update={"metrics": more(task.metrics)}) if task.metrics else task for task in suite.tasks
    )
    return suites.check(suite.model_copy(update={"metrics": more(suite.metrics), "tasks": tasks}))


def _refuse_other_tasks(folder: Path, about: About, tasks: Mapping[TaskSpec, Prepared]) -> None:
    """Refuse to score maps of one network by another, or on other samples."""
    for spec, task in tasks.items():
        name = spec.name
        was = (about.tasks[name].networks or (about.tasks[name],))[spec.network]
        for what, before, now in (
            ("network", was.weights_hash, task.weights_hash),
            ("samples", was.data_hash, task.data_hash),
        ):
            if before != now:
                raise UsageError(
                    f"the {what} of {name} here are not those that {folder} explained "
                    f"({now[:12]}, then {before[:12]}): run the suite again"
                )


def _refuse_without_maps(folder: Path, lacking: Sequence[Cell], store: Store) -> None:
    """Refuse, with their names, maps that are needed and not there."""
    if not lacking:
        return
    recorded = {cell.key: (cell.task, cell.variant) for cell in store.cells("explain")}
    told = [f"{cell} ({_why(cell, recorded)})" for cell in lacking[:SHOWN]]
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    raise UsageError(
        f"{folder} lacks maps to score: {'; '.join(told)}{more}; run the suite again with these metrics, "
        "which explains what is missing"
    )


def _why(cell: Cell, recorded: Mapping[str, tuple[str, str]]) -> str:
    """Why a map that is needed is not there."""
    if cell.key in recorded:
        return "its file is missing or damaged, or it is not computed yet"
    if (cell.task, cell.variant) not in recorded.values():
        return f"the run did not request {cell.variant.partition(':')[0]} maps"
    return "not in the record: its method has changed since"


def _others(store: Store) -> Iterator[Cell]:
    """What the run planned besides scores, from its record."""
    names = [each.name for each in fields(Cell) if each.name != "needs"]
    for recorded in store.cells():
        if recorded.stage != "score":
            yield replace(Cell("", "fit", "", ""), **{name: getattr(recorded, name) for name in names})


def _rescored(about: About, suite: Suite, metrics: Sequence[str], asked: Mapping[str, Sequence[MetricCard]]) -> About:
    """What the run is afterwards: the suite and its cards as they are now, and when what was added."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    added = Rescored(at=now, metrics=tuple(metrics), commit=environment.commit())
    tasks = {
        name: task.model_copy(update={"metrics": tuple(metric.label for metric in asked[name])})
        for name, task in about.tasks.items()
    }
    whole = {"suite": suite, "cards": declared.cards(suite), "tasks": tasks}
    return about.model_copy(update={**whole, "rescored": (*about.rescored, added)})
