"""One side of a comparison: a run, or a committed leaderboard, as far as a comparison needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from mibench.record.identity import Identity


class Row(NamedTuple):
    """The row of a score: its task, method and metric; a test over all tasks has neither data nor model."""

    data: str
    model: str
    method: str
    metric: str

    @property
    def task(self) -> str:
        """The task's name."""
        return f"{self.data}/{self.model}" if self.data else "all tasks"


@dataclass(frozen=True)
class Side:
    """A long-form leaderboard, what it was made from, and every sample's score where it is available."""

    name: str
    identity: Identity
    table: pd.DataFrame  # the long-form leaderboard
    scores: pd.DataFrame | None = None  # per sample: Row's columns, seed, sample, value
    order: Mapping[str, int] | None = None  # the place of each method; None where the board has no order

    @cached_property
    def rows(self) -> dict[Row, dict[str, Any]]:
        """The table by row."""
        records = self.table.to_dict("records")
        named = ({str(column): value for column, value in record.items()} for record in records)
        return {Row(*(str(record[column]) for column in Row._fields)): record for record in named}

    @cached_property
    def samples(self) -> dict[Row, pd.DataFrame]:
        """Every sample's score by row: a line a sample, a column a seed that has any."""
        if self.scores is None:
            return {}
        seeds = self.scores.set_index([*Row._fields, "sample", "seed"])["value"].unstack("seed")
        keyed: Iterable[tuple[Any, pd.DataFrame]] = seeds.groupby(level=list(range(4)), sort=False)
        found = {Row(*map(str, key)): one.droplevel([0, 1, 2, 3]) for key, one in keyed}
        return {row: one.dropna(axis=1, how="all").dropna(how="all") for row, one in found.items()}

    def learns(self, row: Row) -> bool:
        """Whether a row's method was fitted."""
        return bool(self._fits(row)) or row._replace(metric="fit_seconds") in self.rows

    def seeds(self, row: Row) -> int:
        """How many seeds a row's score is the mean of, as far as is known."""
        known = self.samples.get(row)
        metric = self.identity.metrics.get(row.metric)
        return len(known.columns) if known is not None else max(1, metric.seeds if metric else 1)

    def same_fits(self, other: Side, row: Row, seeds: Iterable[int] | None) -> bool:
        """Whether both sides' explainers learned the same, to the byte: for these seeds, or for all (None)."""
        mine, theirs = self._fits(row), other._fits(row)
        if seeds is None or isinstance(mine, str) or isinstance(theirs, str):
            return bool(mine) and mine == theirs and all(mine)
        by_seed = [(mine[seed : seed + 1], theirs[seed : seed + 1]) for seed in seeds]
        return all(was == now and any(was) for was, now in by_seed)

    def _fits(self, row: Row) -> str | tuple[str, ...]:
        task = self.identity.tasks.get(row.task)
        return task.fits.get(row.method, ()) if task else ()

    @cached_property
    def has(self) -> dict[str, set[str]]:
        """The methods and metrics that have a row, and the tasks."""
        return {
            "methods": {row.method for row in self.rows},
            "metrics": {row.metric for row in self.rows},
            "tasks": {row.task for row in self.rows},
        }
