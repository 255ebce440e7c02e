"""What a run would compute and how long that may take, told without computing anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mibench import environment, planning
from mibench.explaining import Prepared
from mibench.jobs import Cell, Setting, Stage
from mibench.run import Options, default_folder, device_of, still_known
from mibench.store import Store
from mibench.suite import Suite, check
from mibench.task import TaskSpec

GUESS: dict[Stage, float] = {"fit": 10.0, "explain": 1.0, "score": 0.3, "cost": 2.0}  # seconds of a cell never timed


@dataclass(frozen=True)
class Line:
    """Cells of one stage, task and method (for scores: metric)."""

    stage: Stage
    task: str
    subject: str
    cells: int
    known: int  # computed before
    seconds: float  # that the others may take


@dataclass(frozen=True)
class Outlook:
    """All that a run would do."""

    folder: Path
    lines: tuple[Line, ...]
    workers: int
    guessed: bool  # whether some of the times are guesses

    @property
    def seconds(self) -> float:
        """How long the run may take: workers share everything but the costs."""
        shared = sum(line.seconds for line in self.lines if line.stage != "cost")
        return shared / self.workers + sum(line.seconds for line in self.lines if line.stage == "cost")


def outlook(suite: Suite, options: Options) -> Outlook:
    """What `run` would do with the same words."""
    suite = check(suite)
    folder = options.out or default_folder(suite)
    setting = Setting(
        str(folder.resolve()), device_of(options.device), options.precision, options.batch, options.timeout
    )
    workers = options.jobs or environment.cores()
    about, known, timed = _recorded(folder, options)
    tasks = {spec: _prepared(spec, about) for spec in planning.specs(suite)}
    plan = planning.plan(suite, tasks, setting, workers)
    groups: dict[tuple[Stage, str, str], list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.stage, cell.task, cell.metric or cell.method), []).append(cell)
    lines = tuple(_line(*group, cells, known, timed) for group, cells in groups.items())
    guessed = any((cell.stage, cell.method, cell.metric) not in timed for cell in plan.cells if cell.key not in known)
    return Outlook(folder, lines, workers, guessed)


def _line(
    stage: Stage, task: str, subject: str, cells: list[Cell], known: Iterable[str], timed: dict[Any, float]
) -> Line:
    left = [cell for cell in cells if cell.key not in set(known)]
    seconds = sum(timed.get((cell.stage, cell.method, cell.metric), GUESS[stage]) for cell in left)
    return Line(stage, task, subject, len(cells), len(cells) - len(left), seconds)


def _recorded(folder: Path, options: Options) -> tuple[dict[str, Any], set[str], dict[Any, float]]:
    """What the folder says of its last run, the cells that it knows, and how long cells took there."""
    if not all((folder / name).exists() for name in ("results.sqlite", "run.json")):
        return {}, set(), {}
    with Store(folder) as store:
        return store.about(), set(still_known(store.known(), options.rerun)), store.seconds()


def _prepared(spec: TaskSpec, about: dict[str, Any]) -> Prepared:
    """A task as it was when it was last prepared, or what can be said without preparing it."""
    for name, task in about.get("tasks", {}).items():
        if (task["data"], task["model"]) == (spec.data, spec.model) and task["facts"]["samples"] <= spec.samples:
            ids = tuple(map(str, range(task["facts"]["samples"])))
            return Prepared(name, task["weights_hash"], task["data_hash"], 0.0, ids, (), (), (), {})
    ids = tuple(map(str, range(spec.samples)))
    return Prepared(f"{spec.data}/{spec.model}", "", "", 0.0, ids, (), (), (), {})
