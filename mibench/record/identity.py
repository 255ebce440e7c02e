"""A board's JSON: what it was made from, so that a later run can be compared with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mibench.record.stored import Count, Digest, Finite, Line, Name, Part, Stored

Accuracy = Annotated[float, Field(ge=0.0, le=1.0)]


class MetricIdentity(Part):
    """A metric: versions must be equal; the range is the scale of a change."""

    version: Count
    low: Finite | None  # None: without a bound
    high: Finite | None
    seeds: Count = 0  # with how many it was scored; 0: not at all

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest value."""
        low = float("-inf") if self.low is None else self.low
        return low, float("inf") if self.high is None else self.high


class TaskIdentity(Part):
    """A task: samples and weights must be equal, or drawn and trained in the same way.

    `fits` has what each row's explainer learned: a digest a seed, in boards of before one digest of all seeds.
    """

    data_hash: Digest
    weights_hash: Digest
    drawing: Digest = ""  # excuses samples whose last digits differ
    recipe: Digest = ""  # excuses other weights, if the accuracy is about the same
    accuracy: Accuracy | None = None  # of a network with a recipe
    truth: Line = ""  # what the committed panel calls such samples and …
    network: Line = ""  # … such networks; empty: it lacks them
    fits: dict[Name, Digest | tuple[Digest, ...]] = Field(default_factory=dict)
    networks: tuple[tuple[Digest, Digest], ...] = ()  # weights and data of each network that the seeds take in turn


class Identity(Stored):
    """All that a board's JSON holds."""

    schema_number: Literal[2]  # 1: sentences as keys
    processor: Line
    torch: Line
    complete: tuple[Literal["methods", "metrics"], ...] = ()  # what the suite names as a whole: a lack is a loss
    metrics: dict[Name, MetricIdentity] = Field(default_factory=dict)
    tasks: dict[Name, TaskIdentity] = Field(default_factory=dict)
    places: dict[Name, Count] = Field(default_factory=dict)  # of the methods over all tasks, where there is an order

    @property
    def machine(self) -> tuple[str, str]:
        """Where last digits are the same."""
        return self.processor, self.torch
