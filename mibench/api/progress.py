"""Progress bars: in notebooks and on terminals; elsewhere nothing is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, TaskID, track

from mibench.engines.base import Engine
from mibench.record.cells import FAILURES, Job, Outcome, Prepared

Item = TypeVar("Item")


def console() -> Console:
    """Where bars are drawn: apart from what the user's own code prints."""
    return Console(stderr=True)


def is_seen(place: Console) -> bool:
    """Whether anybody looks at bars there."""
    return place.is_jupyter or place.is_terminal


def bar(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The items, with a bar while they are worked on."""
    place = console()
    yield from track(items, what, total=total, console=place, transient=True, disable=not is_seen(place))


class Bars:
    """A run that is watched: one bar for its cells; what failed is printed above it."""

    def __init__(self) -> None:
        place = console()
        self.progress = Progress(console=place, transient=True, disable=not is_seen(place))
        self.task: TaskID = self.progress.add_task("preparing", total=None)

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.progress.stop()

    def preparing(self, tasks: int) -> None:
        """Networks are trained or found."""
        self.progress.update(self.task, total=tasks)

    def prepared(self, task: Prepared) -> None:
        """A network is ready."""
        self.progress.update(self.task, advance=1, description=task.name)

    def damaged(self, faults: Mapping[str, str]) -> None:
        """What was recorded is damaged, and is made again."""
        for fault in faults.values():
            self.progress.console.print(fault, markup=False, highlight=False)

    def planned(self, engine: Engine | None, jobs: Iterable[Job], known: Mapping[str, Outcome]) -> None:
        """All cells are known, and how many of them are there already."""
        cells = [cell.key for job in jobs for cell in job.cells]
        done = sum(key in known for key in cells)
        self.progress.update(self.task, total=len(cells), completed=done, description="cells")

    def answered(self, job: Job, outcomes: Iterable[Outcome]) -> None:
        """A job came back."""
        for outcome in outcomes:
            self.progress.advance(self.task)
            if outcome.status in FAILURES:
                self.progress.console.print(f"{outcome.status}: {job.name}: {outcome.reason}", markup=False)
