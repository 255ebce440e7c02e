"""A run, or a committed leaderboard, as one side of a comparison; and the gate that a change must pass."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mibench import reporting
from mibench.comparison import Change, Side, Thresholds, compare
from mibench.errors import UsageError
from mibench.leaderboard.tables import board, to_csv
from mibench.store import Store


def side(path: Path) -> Side:
    """A run's folder, with every sample's score, or a leaderboard's CSV with the JSON beside it."""
    if path.is_dir():
        with Store(path) as store:
            results, identity = reporting.results_of(store), reporting.identity_of(store)
        ranges = {card.name: card.range for card in results.metrics}
        table = pd.read_csv(io.StringIO(to_csv(board(results))))
        return Side(str(path), identity, table, results.scores, ranges)
    try:
        table, identity = pd.read_csv(path), json.loads(path.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is neither a run's folder nor a leaderboard with its JSON beside it: {error}"
        ) from error
    return Side(str(path), identity, table)


def gate(run: Path, baseline: Path, thresholds: Thresholds) -> list[Change]:
    """What a run changed beside the committed leaderboard of the same suite."""
    after = side(run)
    with Store(run) as store:
        suite = store.about()["suite"]["name"]
    before = side(baseline / f"{suite}.csv" if baseline.is_dir() and not _is_run(baseline) else baseline)
    return compare(before, replace(after, name=str(run)), thresholds)


def _is_run(folder: Path) -> bool:
    return (folder / "results.sqlite").exists()
