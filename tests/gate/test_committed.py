"""What the gate sees of a real board: its own scores again, and maps that were replaced by random ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mibench.gate import regression
from mibench.gate.comparison import COMBINED, compare
from mibench.gate.priors import priors
from mibench.gate.side import Side
from mibench.gate.thresholds import read_thresholds
from mibench.record.panel import committed

BOARD = Path(__file__).parent.parent.parent / "leaderboards/default.csv"


@pytest.fixture(scope="module")
def board() -> Side:
    return regression.side(BOARD)


def with_random(side: Side, method: str, share: float = 1.0) -> Side:
    """The side with a method's scores of some samples replaced by those of random maps."""
    assert side.scores is not None
    place = ["data", "model", "metric", "seed", "sample"]
    chance = side.scores[side.scores["method"] == "random"].set_index(place)["value"]
    mine = side.scores[side.scores["method"] == method]
    drawn = chance.reindex(pd.MultiIndex.from_frame(mine[place])).to_numpy()
    last = sorted(mine["sample"].unique())
    chosen = mine["sample"].isin(last[: round(share * len(last))]) & pd.Series(drawn == drawn, mine.index)
    scores = side.scores.copy()
    scores.loc[mine.index[chosen], "value"] = drawn[chosen.to_numpy()]
    means = scores[scores["method"] == method].groupby(["data", "model", "metric"])["value"].mean()
    table = side.table.copy()
    rows = table["method"] == method
    keys = table.loc[rows, ["data", "model", "metric"]].apply(tuple, axis=1)
    table.loc[rows, "value"] = [
        means.get(key, value) for key, value in zip(keys, table.loc[rows, "value"], strict=True)
    ]
    return replace(side, scores=scores, table=table)


def seen(metric: str, model: str) -> bool:
    """Whether a score has sight on some network."""
    entries = [entry for entry in committed().entries if entry.metric == metric and entry.truth == "planted"]
    return any(entry.sight for entry in entries if entry.network == "cnn") and "planted" in model


def test_a_board_is_no_regression_against_itself_and_shows_what_is_seen(board: Side) -> None:
    found = compare(board, board, read_thresholds(), priors(committed(), board.identity))
    assert not found.regressions
    scores = [each for each in found.changes if each.how]
    assert scores
    assert all(each.visible == each.visible for each in scores)


def test_random_maps_in_the_place_of_igs_are_red_in_scores_with_sight(board: Side) -> None:
    found = compare(board, with_random(board, "ig"), read_thresholds(), priors(committed(), board.identity))
    assert {each.row.method for each in found.regressions} == {"ig"}
    red = {(each.row.model, each.row.metric) for each in found.regressions}
    sighted = [each for each in found.changes if each.how and seen(each.row.metric, each.row.model)]
    lost = {
        (each.row.model, each.row.metric)
        for each in sighted
        if each.row.method == "ig" and -each.difference > each.visible
    }
    assert len(lost) > 10, "where ig is no better than random nothing can be lost"
    assert lost - red == set()
    assert ("", COMBINED) in red


def test_a_quarter_of_igs_maps_replaced_by_random_ones_is_red(board: Side) -> None:
    found = compare(board, with_random(board, "ig", 0.25), read_thresholds(), priors(committed(), board.identity))
    assert {each.row.method for each in found.regressions} == {"ig"}
