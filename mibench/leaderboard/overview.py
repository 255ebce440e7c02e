"""What a run's board comes to, kept next to it: enough for the end of a run, and a digest of what it was made from.

A board whose record and code have that digest is what would be made again, so it is left as it is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mibench.errors import MibenchError
from mibench.files import writing
from mibench.record import fingerprint, panel
from mibench.record.cells import TRAINED, USABLE
from mibench.record.store import Store
from mibench.record.stored import Count, Digest, Finite, Line, Name, Part, Stored

if TYPE_CHECKING:  # working one out needs statistics, reading one does not
    from mibench.leaderboard.tables import Board, Task

FILE = "overview.json"
CODE = ("mibench.leaderboard.make", "mibench.leaderboard.reporting")  # what makes a board
OWN = ("leaderboard", FILE, "tasks.json", "suite.toml")  # how the names of files begin that go into no board
MEND = "run the suite again, which writes it"


class Placed(Part):
    """A row's standing, and its place where it has one."""

    method: Name
    value: Finite
    rank: Count | None
    rank_low: Count | None
    rank_high: Count | None
    leading: Line
    why: Line  # why it has no place


class TaskOverview(Part):
    """The order on one task."""

    data: Name
    model: Name
    metrics: Count  # that count
    places: tuple[Placed, ...]
    truth: Line  # the place of the truth, in words
    why: Line  # why there is no order, or no places in it
    unranked: dict[Name, Line]  # row -> why
    blind: tuple[Name, ...]  # metrics


class Overview(Stored):
    """All that the file holds."""

    schema_number: Literal[2] = 2
    made_from: Digest
    tasks: tuple[TaskOverview, ...]
    places: dict[Name, Count] = Field(default_factory=dict)  # over all tasks


def overview(board: Board, made_from: str) -> Overview:
    """What a board comes to."""
    tasks = tuple(_task(board, task) for task in board.panels)
    return Overview(made_from=made_from, tasks=tasks, places=board.order().ranks)


def _task(board: Board, task: Task) -> TaskOverview:
    placed = board.order(task)
    unranked = {row.method: row.reason for row in board.on(task) if row.status == "gated"}
    unranked |= dict(placed.incomplete)
    shown = Placed.model_fields
    return TaskOverview(
        data=task[0],
        model=task[1],
        metrics=len(placed.scores),
        places=tuple(Placed(**{name: getattr(place, name) for name in shown}) for place in placed.places),
        truth=placed.known(board.results.known_good),
        why=placed.why,
        unranked=unranked,
        blind=tuple(each.card.name for each in board.panels[task] if each.blind),
    )


def inputs(store: Store) -> str:
    """A digest of all that a board is made from: the record's rows and files, and the code that makes it."""
    others = sorted((name, each) for name, each in store.checks().items() if not name.startswith(OWN))
    folder = Path(__file__).parent
    templates = [writing.sha256(file.read_bytes()) for file in sorted(folder.glob("*.[hcj]*")) if file.suffix != ".py"]
    templates.append(writing.sha256(panel.FILE.read_bytes()))
    return hashlib.sha256(repr((store.cells(), others, fingerprint.sources(CODE), templates)).encode()).hexdigest()


def current(store: Store) -> Overview | None:
    """The overview of a board that is as it would be made now; None where the board must be made.

    Everything that the board shows is read to its last byte, as when it is made.
    """
    try:
        kept = Overview.read(store.read_text(FILE), store.folder / FILE, MEND)
        store.read_text("run.json")
        if kept.made_from != inputs(store) or store.damaged_rows():
            return None
        for task in store.tasks():
            store.samples(task)
        files = {name: each for name, each in store.files().items() if name.startswith(("leaderboard", "maps/"))}
    except MibenchError:
        return None
    plain = [cell for cell in store.cells("explain") if (cell.seed, cell.variant) == (0, TRAINED)]
    shown = {cell.key for cell in plain if cell.status in USABLE}
    is_whole = not any(writing.fault(store.folder / name, *each) for name, each in files.items())
    return kept if is_whole and not store.unreadable(shown) else None
