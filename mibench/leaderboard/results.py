"""What a board is made from: per-sample scores and what became of each cell, typed, with no live object in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mibench.record.cards import MethodCard, MetricCard

if TYPE_CHECKING:  # what only counts or copies boards needs neither
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

Status = Literal["ok", "failed", "timeout", "crash", "oom", "nan", "skipped"]  # the possible states of a cell
Verdict = Literal["passed", "failed", "undecided", "not applicable"]
SCORES = ("data", "model", "method", "metric", "seed", "sample", "value", "reason")
LOST = ("failed", "timeout", "crash", "oom", "nan", "skipped", "missing")  # cells that came to nothing
CELLS = ("data", "model", "method", "metric", "status", "reason")


@dataclass(frozen=True)
class TaskCard:
    """One network on one data set."""

    data: str
    model: str
    title: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)  # accuracy, classes, layer …, shown as they are
    notices: tuple[str, ...] = ()  # what a reader must know of the network or the data, one sentence each
    truth: str = ""  # "planted" where it is known, else the kind of the samples: as the panel calls it …
    network: str = ""  # … and the network's kind
    networks: int = 1  # that the seeds take in turn


@dataclass(frozen=True)
class Gate:
    """The outcome of one sanity check for one row on one task."""

    data: str
    model: str
    method: str
    gate: str
    verdict: Verdict  # what is not failed is ranked
    reason: str = ""  # the figures, whether or not it passed, or why it was not judged


@dataclass(frozen=True)
class Sample:
    """One sample to look at: its picture and the map of every row that has one."""

    data: str
    model: str
    sample: str  # as in the scores
    image: npt.NDArray[np.float32] | str  # (H, W) or (H, W, 3) in [0, 1]; or, like mask and maps, drawn already
    maps: Mapping[str, npt.NDArray[np.float32] | str]  # method -> (H, W)
    label: str = ""
    target: str = ""  # the class that was explained
    mask: npt.NDArray[np.bool_] | str | None = None  # (H, W) where the explained class is, if known


@dataclass(frozen=True)
class Results:
    """All that one board shows. A metric "" in `cells` means all metrics (the explanation itself failed)."""

    suite: str
    scores: pd.DataFrame  # SCORES; value is NaN, with a reason, where a sample has no score
    cells: pd.DataFrame  # CELLS; status as in Status, the worst of all seeds
    metrics: tuple[MetricCard, ...]
    methods: tuple[MethodCard, ...]
    tasks: tuple[TaskCard, ...] = ()
    costs: Mapping[tuple[str, str, str], Mapping[str, float]] = field(default_factory=dict)  # (data, model, method)
    gates: tuple[Gate, ...] = ()
    samples: tuple[Sample, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)  # commit, date, command, versions, hardware …
    chance: str = ""  # the control row whose maps are random
    encoding: str = ""  # the control row whose maps only encode the class, by their position
    published: tuple[tuple[str, str, str, float], ...] = ()  # model, method, metric and the published value
    published_in: str = ""  # which paper, on what
    title: str = ""  # of the page; empty: the suite's name
    known_good: tuple[str, ...] = ()  # control rows known to be good, best first; the first that a task has counts
    seeds: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)  # of (data, model, row, metric)
    origins: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # row -> its method, and whose fit it shows

    @property
    def controls(self) -> frozenset[str]:
        """The rows that are never ranked."""
        return frozenset(card.name for card in self.methods if card.control)


@dataclass(frozen=True)
class Cost:
    """One cost: its name in `Results.costs` and in the CSV, and how it is shown."""

    name: str
    title: str
    unit: str
    exact: bool  # a count, which no noise can touch: ranked; times and memory are not


COSTS = (
    Cost("fit_seconds", "fit once", "s", False),
    Cost("seconds", "explain", "s, median", False),
    Cost("seconds_p95", "explain", "s, 95th percentile", False),
    Cost("forwards", "explain", "× forward", False),
    Cost("flops", "FLOPs", "FLOP", True),
    Cost("forward_passes", "forward", "passes", True),
    Cost("backward_passes", "backward", "passes", True),
    Cost("peak_memory", "peak memory", "MiB", False),
)
