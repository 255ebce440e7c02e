"""Every sample's score of a record, with the task's data and model in the place of its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mibench.errors import UsageError, one_line
from mibench.leaderboard.results import SCORES
from mibench.record.store import Store

if TYPE_CHECKING:
    import pandas as pd


def placed_scores(store: Store) -> pd.DataFrame:
    """The columns are SCORES."""
    places = {name: (place.data, place.model) for name, place in store.about().places.items()}
    _refuse_other_tasks(store, places)
    return _placed(store.scores(), places)[list(SCORES)]


def _placed(scores: pd.DataFrame, places: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Scores with the task's data and model in the place of its name."""
    data = [places[task][0] for task in scores["task"]]
    model = [places[task][1] for task in scores["task"]]
    lines = {reason: one_line(reason) for reason in scores["reason"].unique() if isinstance(reason, str)}
    return scores.assign(data=data, model=model, reason=scores["reason"].map(lines))


def _refuse_other_tasks(store: Store, places: Mapping[str, tuple[str, str]]) -> None:
    """Refuse a record whose cells are of tasks that run.json does not know."""
    others = sorted({cell.task for cell in store.cells()} - places.keys())
    if others:
        raise UsageError(f"{store.folder / 'run.json'} lacks the task {others[0]!r} of the record: run the suite again")
