"""How a run is watched: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mibench.engines.base import Engine
from mibench.record.cells import FAILURES, STAGES, Job, Outcome, Prepared

SHOWN = 6  # jobs in progress that the live table names


class Lines:
    """One line for each job that came back."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.timed: dict[str, list[float]] = {}  # seconds of the cells of each stage that were computed
        self.began = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def preparing(self, tasks: int) -> None:
        """Networks are trained or found."""
        self.say(f"preparing {tasks} task{'s' * (tasks != 1)}: training or loading the networks")

    def prepared(self, task: Prepared) -> None:
        """A network is ready."""
        self.say(f"{task.name}: accuracy {task.accuracy:.1%}, {len(task.ids)} samples, layer {task.facts['layer']}")
        for notice in task.notices:
            self.console.print(
                f"warning: {task.name}: {notice}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )

    def damaged(self, faults: Mapping[str, str]) -> None:
        """What was recorded is damaged or missing."""
        if faults:
            more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
            self.say(f"damaged or missing, made again: {next(iter(faults.values()))}{more}")

    def planned(self, engine: Engine | None, jobs: Iterable[Job], known: Mapping[str, Outcome]) -> None:
        """All cells are known, and how many of them are there already."""
        for job in jobs:
            for cell in job.cells:
                self.total[job.stage] += 1
                self._count(job.stage, known.get(cell.key))
        self.say(f"{self.total.total()} cells, {self.done.total()} of them computed before")

    def answered(self, job: Job, outcomes: Iterable[Outcome]) -> None:
        """A job came back."""
        outcomes = list(outcomes)
        self._add(job.stage, outcomes)
        bad = [outcome for outcome in outcomes if outcome.status != "ok"]
        seconds = sum(outcome.seconds for outcome in outcomes)
        result = f"{len(outcomes) - len(bad)} of {len(outcomes)} ok" if len(outcomes) > 1 else str(outcomes[0].status)
        place = f"[{self.done.total()}/{self.total.total()}]"
        self.say(f"{place} {job.name}: {result}, {seconds:.1f} s{_why(bad)}")

    def _add(self, stage: str, outcomes: Iterable[Outcome]) -> None:
        """Count the cells that were computed now, with their seconds."""
        for outcome in outcomes:
            self._count(stage, outcome)
            self.timed.setdefault(stage, []).append(outcome.seconds)

    def _count(self, stage: str, outcome: Outcome | None) -> None:
        if outcome is not None:
            self.done[stage] += 1
            self.failed[stage] += outcome.status in FAILURES

    def remaining(self, workers: int) -> str:
        """The time left if every other cell takes the mean of its stage; a stage that has not begun comes on top."""
        left = {stage: self.total[stage] - self.done[stage] for stage in self.total}
        known = {stage: count for stage, count in left.items() if count and stage in self.timed}
        if not known:
            return ""
        seconds = sum(count * fmean(self.timed[stage]) for stage, count in known.items()) / workers
        return f"{'about' if sum(known.values()) == sum(left.values()) else 'more than'} {duration(seconds)} left"


class LiveTable(Lines):
    """A table that is drawn again while the run goes on; failures are printed above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.engine: Engine | None = None
        self.live = Live(console=console, get_renderable=self.draw, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveTable:
        self.live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.live.stop()

    def planned(self, engine: Engine | None, jobs: Iterable[Job], known: Mapping[str, Outcome]) -> None:
        """All cells are known."""
        self.engine = engine
        super().planned(engine, jobs, known)

    def answered(self, job: Job, outcomes: Iterable[Outcome]) -> None:
        """A job came back; only what went wrong is worth a line."""
        outcomes = list(outcomes)
        self._add(job.stage, outcomes)
        for outcome in outcomes:
            if outcome.status in FAILURES:
                cell = next(cell for cell in job.cells if cell.key == outcome.key)
                self.say(f"{outcome.status}: {cell}: {outcome.reason}")

    def draw(self) -> RenderableType:
        """The current table."""
        table = Table(box=None, pad_edge=False)
        for column in ("", "done", "failed", "left"):
            table.add_column(column, justify="left" if not column else "right")
        for stage in STAGES:
            if self.total[stage]:
                failed = Text(str(self.failed[stage] or ""), style="red")
                table.add_row(stage, str(self.done[stage]), failed, str(self.total[stage] - self.done[stage]))
        running = self.engine.running[:SHOWN] if self.engine else []
        now = [Text(f"  now  {job.name}", style="dim", no_wrap=True, overflow="ellipsis") for job in running]
        left = self.remaining(max(1, len(self.engine.running))) if self.engine else ""
        spent = duration(time.monotonic() - self.began)
        return Group(table, *now, Text(f"  {spent}, {left}" if left else f"  {spent}", style="dim"))


def watching(console: Console) -> Lines:
    """The way of watching that fits the place where the output goes."""
    return LiveTable(console) if console.is_terminal else Lines(console)


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _why(bad: list[Outcome]) -> str:
    """The reasons of a job's cells that are not ok, the commonest first."""
    reasons = Counter(f"{outcome.status}: {outcome.reason}" if len(bad) > 1 else outcome.reason for outcome in bad)
    return "".join(
        f"; {reason}" + (f" ({count} cells)" if count > 1 else "") for reason, count in reasons.most_common(3)
    )
