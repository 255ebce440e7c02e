"""A card for each plug-in: all that a run must know of it to plan, to list and to report, as data alone.

Cards are made where the plug-in is imported, which is never the run's own process, and kept as JSON. A card is of a
spec: `iba` has one, and so has `iba[beta=5]`, whose parameters the plug-in's own class has validated.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mibench.plugins.contract import Direction, Family, MapSpec

Room = Literal["methods", "metrics", "models", "data"]
SINGULAR: dict[Room, str] = {"methods": "method", "metrics": "metric", "models": "model", "data": "data set"}


class Place(BaseModel):
    """Where the class of a plug-in is, so that a worker can import it and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str
    attribute: str
    ours: bool  # whether it is in a room of this package


class Option(BaseModel):
    """A parameter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str
    default: str  # as a spec writes it


class Card(BaseModel):
    """What all plug-ins declare."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    name: str
    title: str
    paper: str
    about: str  # the first line of its docstring
    place: Place
    distribution: str  # of another package
    modules: tuple[str, ...]  # in which it and its bases are written
    label: str  # the shortest spec that means it
    argument: str
    parameters: dict[str, Any]
    options: tuple[Option, ...]


class ExplainerCard(Card):
    """What an `Explainer` declares."""

    kind: Literal["explainer"] = "explainer"
    maps: tuple[MapSpec, ...] = Field(min_length=1)
    control: bool
    seeded: bool
    of_class: bool
    fitted: bool
    known: bool  # whether it shows what is known of samples, and explains nothing
    learner: str  # the label of the explainer that learns for it; empty where it is not fitted


class WrapperCard(Card):
    """What a `Wrapper` declares."""

    kind: Literal["wrapper"] = "wrapper"
    control: bool


class MetricCard(Card):
    """What a `Metric` declares."""

    kind: Literal["metric"] = "metric"
    family: Family
    direction: Direction
    range: tuple[float, float]
    unit: str
    version: int
    default: bool
    needs: frozenset[str]
    no_score: str
    chance: float | None
    gate: bool
    limit: float
    fails: float | None
    judged: Literal["limit", "panel", "never"]
    takes: str


class Source(Card):
    """What models and data have in common."""

    paths: tuple[str, ...]  # the user's files and folders that it reads
    fault: str  # why they are unknown


class ModelCard(Source):
    """What a `Model` declares."""

    kind: Literal["model"] = "model"
    data: str
    floor: float
    takes: str
    architecture: str


class DataCard(Source):
    """What `Data` declare."""

    kind: Literal["data"] = "data"


AnyCard = Annotated[ExplainerCard | WrapperCard | MetricCard | ModelCard | DataCard, Field(discriminator="kind")]
