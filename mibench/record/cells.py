"""What a run gives its workers: cells and jobs described by data alone, so that any engine can carry them anywhere.

A cell is the smallest thing with an answer of its own; its key is a hash of everything that can change the answer. A
job is a piece of work that answers one cell or several; when it fails as a whole, its cells are retried one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

from mibench.plugins.contract import MapSpec
from mibench.plugins.spec import shown
from mibench.record.fingerprint import digest

Stage = Literal["fit", "explain", "score", "cost"]
Status = Literal["ok", "failed", "timeout", "crash", "oom", "nan", "skipped"]
STAGES: tuple[Stage, ...] = get_args(Stage)
FAILURES: tuple[Status, ...] = ("failed", "timeout", "crash", "oom", "nan")
USABLE: tuple[Status, ...] = ("ok", "nan")  # maps with NaN in some samples serve the others
TRAINED = ""  # the network as trained, not a variant
UNPREPARED = "unprepared"  # the variant of cells whose task could not be prepared


@dataclass(frozen=True)
class TaskSpec:
    """What a task is made from, as data alone."""

    model: str
    data: str
    samples: int
    calibration: int
    network: int = 0  # which of its trained weights, where there are several
    retrain: bool = False  # whether weights that come with the package are left alone

    @property
    def first(self) -> TaskSpec:
        """The same task with the first of its network's weights."""
        return replace(self, network=0)

    @property
    def shown_model(self) -> str:
        """What the network is called on boards."""
        return shown(self.model)

    @property
    def name(self) -> str:
        """What the task is called on boards."""
        return f"{self.data}/{self.shown_model}"


@dataclass(frozen=True)
class Cell:
    """One answer: a fit, a file of maps, one row's scores by one metric, or one method's cost."""

    key: str
    stage: Stage
    task: str
    method: str  # the explainer's label; for scores the board's row
    metric: str = ""
    seed: int = 0
    variant: str = TRAINED
    start: int = 0  # the samples explained: start up to stop
    stop: int = 0
    needs: tuple[str, ...] = ()  # keys of the cells whose answers go into this one

    def __str__(self) -> str:
        parts = (self.stage, self.task, self.method, self.metric, self.variant, f"seed {self.seed}")
        return " · ".join(part for part in parts if part)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    key: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    scores: tuple[float, ...] = ()  # one a sample, NaN where there is none
    reasons: tuple[str, ...] = ()  # why a sample has no score; empty where it has one
    digest: str = ""  # SHA-256 of the file that the cell left; empty where it leaves none


@dataclass(frozen=True)
class Setting:
    """Where and how all jobs of a run are performed."""

    folder: str
    device: str = "cpu"
    precision: str = "fp32"
    batch: int = 0  # samples explained at once; 0: fewer where they are larger
    seconds: float | None = None  # that one cell may take


class Tenant(NamedTuple):
    """Whose code runs in a worker: it serves one tenant, and is ended before another's turn."""

    task: str = ""
    code: str = ""  # what runs on the task: an explainer's label, a metric of another package, …
    lasting: bool = False  # this package's own metrics: such a worker may stay idle, with what it has computed


@dataclass(frozen=True)
class RowSource:
    """From which files a row of the board is read."""

    map: MapSpec
    maps: tuple[str, ...]  # keys of the explanation's parts
    variants: Mapping[str, str] = field(default_factory=dict)  # name -> key of the explanation
    wrapper: str = ""  # the name of what changes the explainer's map before it is scored


@dataclass(frozen=True)
class Job:
    """Something to be performed by a worker. Each stage fills in the fields that it needs."""

    stage: Stage | Literal["prepare"]
    setting: Setting
    task: TaskSpec
    cells: tuple[Cell, ...] = ()
    fit: str = ""  # key of the fit that an explanation starts from
    rows: Mapping[str, RowSource] = field(default_factory=dict)
    samples: int = 0  # of the first how many samples; 0: of all
    tenant: Tenant = field(default_factory=Tenant)
    digests: Mapping[str, str] = field(default_factory=dict)  # key of a needed cell -> SHA-256 that its file must have

    @property
    def name(self) -> str:
        """A word for a job in progress."""
        if not self.cells:
            return f"{self.stage} · {self.task.name}"
        if len(self.cells) == 1:
            return str(self.cells[0])
        metrics = ", ".join(dict.fromkeys(cell.metric for cell in self.cells))
        return f"{self.stage} · {self.cells[0].task} · {metrics}"

    @property
    def log(self) -> str:
        """The file in logs/ for what the job prints."""
        return f"{digest(self.name, [cell.key for cell in self.cells])}.log"

    @property
    def seconds(self) -> float | None:
        """How long the job may take."""
        return self.setting.seconds and self.setting.seconds * max(1, len(self.cells))

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of the cells whose files the job reads."""
        rows = [key for source in self.rows.values() for key in (*source.maps, *source.variants.values())]
        return tuple(dict.fromkeys([*([self.fit] if self.fit else []), *rows]))

    def keep(self, keys: Iterable[str]) -> Job:
        """The same job for some of its cells."""
        kept = set(keys)
        return replace(self, cells=tuple(cell for cell in self.cells if cell.key in kept))

    def singly(self) -> list[Job]:
        """The same work as one job a cell."""
        return [self.keep([cell.key]) for cell in self.cells]


@dataclass(frozen=True)
class Prepared:
    """What the run must know of a task, as data alone."""

    name: str
    weights_hash: str
    data_hash: str
    accuracy: float
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    targets: tuple[int, ...]
    classes: tuple[str, ...]
    facts: dict[str, Any]
    notices: tuple[str, ...] = ()  # what the user should know of it before anything is computed
    forward: float = 0.0  # seconds of one sample's forward, measured here
    digest: str = ""  # SHA-256 of the file with the samples that are looked at
    files: tuple[str, ...] = ()  # that its weights were read from; those of the cache by their names in it


@dataclass(frozen=True)
class Loss:
    """A job that came back without its outcomes."""

    status: Status
    reason: str

    def outcome(self, key: str) -> Outcome:
        """The loss as what became of one cell."""
        return Outcome(key, self.status, self.reason)
