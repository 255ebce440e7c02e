"""A comparison is silent where nothing changed, speaks where something did, and refuses what cannot be compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mibench.comparison import NotComparable, Side, Thresholds, compare, paired_p, read_thresholds, to_markdown

METRICS = ("auc", "mass", "order")
SAMPLES = 64


def side(scores: np.ndarray, name: str = "run", *, paired: bool = True, **identity: str) -> Side:
    """A run with one method, given (metrics, samples) scores in [0, 1]."""
    rows, table = [], []
    for metric, values in zip(METRICS, scores, strict=False):
        for sample, value in enumerate(values):
            rows.append(("d", "m", "iba", metric, 0, f"s{sample}", value))
        error = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        low, high = values.mean() - error, values.mean() + error
        table.append(("d", "m", "iba", metric, "localisation", "higher", values.mean(), low, high, ""))
    table.append(("d", "m", "iba", "flops", "runtime", "lower", 1e9, np.nan, np.nan, ""))
    table.append(("d", "m", "iba", "seconds", "runtime", "lower", 1.0, np.nan, np.nan, ""))
    columns = ["data", "model", "method", "metric", "family", "direction", "value", "low", "high", "reason"]
    frame = pd.DataFrame(rows, columns=["data", "model", "method", "metric", "seed", "sample", "value"])
    return Side(
        name,
        {"data d": "1"} | identity,
        pd.DataFrame(table, columns=columns),
        frame if paired else None,
        dict.fromkeys(METRICS, (0.0, 1.0)),
    )


def noisy(rng: np.random.Generator, mean: float = 0.8) -> np.ndarray:
    """Skewed scores within [0, 1], as an AUC's are."""
    return rng.beta(20 * mean, 20 * (1 - mean), size=(len(METRICS), SAMPLES))


def changed(table: pd.DataFrame, metric: str, **values: object) -> pd.DataFrame:
    table = table.copy()
    for column, value in values.items():
        table.loc[table.metric == metric, column] = value
    return table


@pytest.mark.parametrize("paired", [True, False])
def test_unchanged_scores_alarm_in_less_than_one_of_a_hundred_comparisons(paired: bool) -> None:
    rng = np.random.default_rng(0)
    thresholds = Thresholds(default=0.0)  # significance alone must hold the level
    alarms = sum(
        any(each.is_regression for each in compare(*(side(noisy(rng), paired=paired) for _ in "ab"), thresholds))
        for _ in range(1000)
    )
    assert alarms < 10


@pytest.mark.parametrize("paired", [True, False])
def test_a_loss_of_a_tenth_is_caught_in_ninety_nine_of_a_hundred(paired: bool) -> None:
    rng = np.random.default_rng(1)
    caught = 0
    for _ in range(300):
        before, noise = noisy(rng), rng.normal(0, 0.05, (len(METRICS), SAMPLES))
        after = before + noise - np.array([[0.1], [0.0], [0.0]])
        changes = compare(side(before, paired=paired), side(after, paired=paired), read_thresholds())
        caught += any(each.row.metric == "auc" and each.verdict == "worse" for each in changes)
    assert caught >= 297


def test_identical_scores_are_the_same() -> None:
    scores = noisy(np.random.default_rng(2))
    assert {each.verdict for each in compare(side(scores), side(scores), read_thresholds())} == {"same"}


def test_a_significant_but_tiny_change_is_no_change() -> None:
    scores = noisy(np.random.default_rng(3))
    changes = compare(side(scores), side(scores - 1e-4), read_thresholds())
    assert {each.verdict for each in changes} == {"same"}
    assert any(each.p < 0.01 for each in changes)


def test_a_lower_is_better_metric_that_falls_is_better() -> None:
    scores = noisy(np.random.default_rng(4))
    before, after = side(scores), side(scores - 0.1)
    for each in (before, after):
        each.table["direction"] = "lower"
    assert {each.verdict for each in compare(before, after, read_thresholds()) if each.row.metric in METRICS} == {
        "better"
    }


def test_counts_are_gated_exactly_and_seconds_are_not() -> None:
    scores = noisy(np.random.default_rng(5))
    before = side(scores)
    slower = changed(changed(before.table, "flops", value=2e9), "seconds", value=50.0)
    changes = compare(before, Side("slower", before.identity, slower, before.scores, before.ranges), read_thresholds())
    assert [(each.row.metric, each.verdict) for each in changes if each.verdict != "same"] == [("flops", "worse")]
    assert not any(each.row.metric == "seconds" for each in changes)


def test_a_score_that_is_lost_is_a_regression_with_its_reason() -> None:
    scores = noisy(np.random.default_rng(6))
    before = side(scores)
    broken = changed(before.table, "auc", value=np.nan, reason="RuntimeError: no")
    (lost,) = [
        each
        for each in compare(before, Side("b", before.identity, broken), read_thresholds())
        if each.verdict == "lost"
    ]
    assert lost.is_regression
    assert "RuntimeError: no" in to_markdown([lost], "a", "b")


def test_a_row_that_was_not_asked_for_is_no_regression() -> None:
    scores = noisy(np.random.default_rng(7))
    before = side(scores)
    fewer = before.table[before.table.metric != "auc"]
    changes = compare(before, Side("b", before.identity, fewer), read_thresholds())
    assert not any(each.is_regression for each in changes)


@pytest.mark.parametrize("identity", [{"data d": "2"}, {"weights m": "2"}])
def test_another_question_is_refused(identity: dict[str, str]) -> None:
    scores = noisy(np.random.default_rng(8))
    before, after = side(scores, **{"weights m": "1"}), side(scores, **{"weights m": "1"} | identity)
    with pytest.raises(NotComparable, match=next(iter(identity))) as refusal:
        compare(before, after, read_thresholds())
    assert refusal.value.code == 4


def test_names_cannot_break_the_table_of_a_comment() -> None:
    scores = noisy(np.random.default_rng(9))
    before, after = side(scores), side(scores - 0.2)
    for each in (before, after):
        each.table["method"] = each.scores["method"] = "a|<script>"  # type: ignore[index]
    text = to_markdown(compare(before, after, read_thresholds()), "a", "b")
    assert "<script>" not in text
    assert {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")} == {9}


def test_the_paired_test_is_silent_where_nothing_differs_and_sure_where_everything_does() -> None:
    assert paired_p(np.zeros(20)) == 1.0
    assert paired_p(np.full(20, 0.3)) < 1e-4
