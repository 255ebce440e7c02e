"""run.json: what a run was, typed. `run` and `score` write it, everything that reads a record reads it, both here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from mibench.plugins.contract import Kind
from mibench.record.cards import MethodCard, MetricCard
from mibench.record.environment import Machine
from mibench.record.stored import Count, Digest, Finite, Line, Name, Part, Stored
from mibench.suites.suite import Suite

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class SettingFacts(Part):
    """Where and how explanations were made."""

    device: Annotated[str, StringConstraints(pattern=r"^(cpu|[a-z]{2,16}:\d{1,4})$")]
    precision: Annotated[str, StringConstraints(pattern=r"^(fp32|tf32|bf16|fp16)$")]
    batch: Count
    retrain: bool = False


class Node(Part):
    """A machine of a cluster."""

    name: Line
    cpus: Finite
    gpus: Finite
    workers: Count


class TaskFacts(Part):
    """What a network opened at its cut points, and its samples, came to."""

    kind: Kind
    layer: Name
    grid: tuple[Count, Count]
    pixels: tuple[Count, Count]
    samples: Count
    calibration: Count
    pictures: Digest  # the name of the file with the samples that are shown
    truth: dict[Line, Finite] = Field(default_factory=dict)  # in nats: `pointwise.agreement`


class Place(Part):
    """A network on a data set, by their labels."""

    data: Name
    model: Name

    @property
    def name(self) -> str:
        """The task's name."""
        return f"{self.data}/{self.model}"


class NetworkAbout(Part):
    """One of the weights of a task's network, which the seeds take in turn."""

    weights_hash: Digest
    data_hash: Digest
    accuracy: Unit


class TaskAbout(Place):
    """A task that was prepared; figures of one network are the first's."""

    accuracy: Unit
    classes: tuple[Line, ...]
    weights_hash: Digest
    recipe: Digest  # of a network that the package trains; else empty
    data_hash: Digest
    drawing: Digest  # of samples that are drawn; else empty
    facts: TaskFacts
    notices: tuple[Line, ...]  # what a reader must know of the network or the data
    network: Name  # the network's whole spec, where `model` is its short name
    metrics: tuple[Name, ...]  # those that the suite wants of it
    architecture: Line = ""  # the network's kind
    networks: tuple[NetworkAbout, ...] = ()  # all of them; of records before they were counted, none

    @property
    def truth(self) -> str:
        """Whether the truth is known, or the kind of the samples, as the panel calls it."""
        if self.facts.truth:
            return "planted"
        return "few-shot" if self.architecture == "prototype" else "table" if self.facts.kind == "columns" else "images"


class LostTask(Place):
    """A task that could not be prepared."""

    reason: Line


class RowAbout(Part):
    """From what a row of the board is made."""

    method: Name
    explainer: Name
    map: Name


class Cards(Part):
    """How methods and metrics describe themselves, so that a report needs no plug-in."""

    methods: tuple[MethodCard, ...]
    metrics: tuple[MetricCard, ...]

    @field_validator("metrics")
    @classmethod
    def _ordered(cls, metrics: tuple[MetricCard, ...]) -> tuple[MetricCard, ...]:
        for card in metrics:
            low, high = card.range
            if not low <= high:  # NaN among them
                raise ValueError(f"the range of {card.name} must be two numbers in order")
        return metrics


class Rescored(Part):
    """Metrics that were added to a finished run."""

    at: Line
    metrics: tuple[Name, ...]
    commit: Line


class About(Stored):
    """All that run.json holds."""

    schema_number: Literal[2]  # 1: before it had a number
    started: Line
    suite: Suite
    setting: SettingFacts
    title: Line = ""  # of the page; empty: the suite's name
    engine: Annotated[str, StringConstraints(pattern=r"^(local|inline|ray)$")]
    nodes: tuple[Node, ...]
    workers: Count
    timeout: Finite
    environment: Machine
    seeds: tuple[Count, ...]
    pictures: Annotated[int, Field(ge=0, le=1000)]  # samples of each task whose maps are shown
    tasks: dict[Name, TaskAbout]
    lost: dict[Name, LostTask]
    rows: dict[Name, RowAbout]
    cards: Cards
    rescored: tuple[Rescored, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Names that are written twice are the same both times."""
        for name, place in self.places.items():
            if name != place.name:
                raise ValueError(f"the task {name!r} is one of {place.name!r}")
        if {card.name for card in self.cards.methods} != set(self.rows):
            raise ValueError("rows and cards.methods name other rows")
        known = {card.name for card in self.cards.metrics}
        for name, task in self.tasks.items():
            if not known.issuperset(task.metrics):
                raise ValueError(f"tasks.{name}.metrics names a metric that cards.metrics lacks")
        return self

    @property
    def places(self) -> dict[str, Place]:
        """Every task's data and model by its name, the failed ones too."""
        return {**self.tasks, **self.lost}
