"""The long-form table: every cell is a row, what can be compared is ranked, the bytes depend on the scores alone."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mibench.leaderboard.results import Gate, Results
from mibench.leaderboard.row import COLUMNS, Row
from mibench.leaderboard.tables import Board, board, to_csv
from mibench.record.cards import MethodCard, MetricCard
from tests.leaderboard import made_up

UP = MetricCard("up", "Up", "faithfulness", "higher", (-100.0, 100.0))
DOWN = MetricCard("down", "Down", "faithfulness", "lower", (-100.0, 100.0))


def small(values: dict[str, Any], metric: MetricCard = UP, controls: tuple[str, ...] = (), **changes: Any) -> Results:
    """One task, one metric: `values` maps a method to its scores, a list of samples or of seeds of samples."""
    scores = [
        ("data", "model", method, metric.name, seed, f"s{i:03d}", value, "" if np.isfinite(value) else "a zero map")
        for method, given in values.items()
        for seed, row in enumerate(np.atleast_2d(np.array(given, float)))
        for i, value in enumerate(row)
    ]
    columns = ["data", "model", "method", "metric", "seed", "sample", "value", "reason"]
    cells = [("data", "model", method, metric.name, "ok", "") for method in values]
    whole = {
        "suite": "small",
        "scores": pd.DataFrame(scores, columns=columns),
        "cells": pd.DataFrame(cells, columns=["data", "model", "method", "metric", "status", "reason"]),
        "metrics": (metric,),
        "methods": tuple(
            MethodCard(method, method, method in controls, seeded=np.ndim(given) > 1)
            for method, given in values.items()
        ),
    }
    return Results(**{**whole, **changes})


def rows(made: Board) -> dict[str, Row]:
    return {row.method: row for row in made.rows}


LAST = {"low": np.full(64, -20.0), "lower": np.full(64, -30.0)}  # there are no places among fewer than three


def noise(seed: int, samples: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=samples)


@pytest.fixture(scope="module")
def whole() -> Board:
    return board(made_up.whole())


def test_the_table_has_the_agreed_columns_and_is_sorted(whole: Board) -> None:
    table = list(csv.reader(io.StringIO(to_csv(whole))))
    assert ",".join(table[0]) == (
        "suite,data,model,method,metric,family,direction,unit,value,low,high,samples,coverage,"
        "rank,rank_low,rank_high,tie,status,reason"
    )
    assert tuple(table[0]) == COLUMNS
    keys = [tuple(line[1:5]) for line in table[1:]]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys))


def test_every_method_meets_every_metric_on_every_task(whole: Board) -> None:
    have = {(row.data, row.method, row.metric) for row in whole.rows}
    for data, _ in made_up.TASKS:
        for method in made_up.QUALITY:
            for card in made_up.METRICS:
                assert (data, method, card.name) in have


def test_the_same_scores_give_the_same_bytes_in_any_order(whole: Board) -> None:
    results = made_up.whole()
    shuffled = replace(
        results,
        scores=results.scores.sample(frac=1, random_state=1),
        cells=results.cells.sample(frac=1, random_state=2),
        methods=results.methods[::-1],
        gates=results.gates[::-1],
        costs=dict(reversed(results.costs.items())),
    )
    assert to_csv(board(shuffled)) == to_csv(whole)


def test_a_failure_is_a_row_with_its_status_and_reason(whole: Board) -> None:
    found = {(row.data, row.method): row for row in whole.rows if row.metric == "auc"}
    assert (found["mnist", "nif"].status, found["mnist", "nif"].reason) == ("timeout", "stopped after 600 s")
    assert found["planted", "kernel-shap"].status == "crash"
    assert np.isnan(found["mnist", "nif"].value)
    assert found["mnist", "nif"].rank is None


def test_a_cell_that_the_record_lacks_is_said_to_be_missing() -> None:
    results = small({"a": noise(1), "b": noise(2), **LAST})
    results = replace(results, metrics=(UP, replace(UP, name="other")))
    statuses = {(row.method, row.metric): row.status for row in board(results).rows}
    assert statuses["a", "other"] == "missing"
    assert statuses["a", "up"] == "ok"


def test_planted_qualities_are_found_in_their_order(whole: Board) -> None:
    found = {row.method: row for row in whole.rows if row.metric == "auc" and row.data == "planted"}
    assert found["mire"].rank_low == 1
    assert found["mire"].tie
    assert found["iba"].rank_low <= found["iba[steps=50]"].rank <= found["iba"].rank_high
    assert found["saliency"].rank_low > found["mire"].rank_high
    ranked = sorted((row for row in found.values() if row.rank), key=lambda row: row.rank or 0)
    assert [row.value for row in ranked] == sorted((row.value for row in ranked), reverse=True)
    for row in ranked:
        assert row.rank_low <= row.rank <= row.rank_high
        assert row.low <= row.value <= row.high


@pytest.mark.parametrize(("card", "best"), [(UP, "large"), (DOWN, "small")])
def test_the_direction_decides_who_is_first(card: MetricCard, best: str) -> None:
    last = {name: -card.sign * abs(value) for name, value in LAST.items()}
    made = rows(board(small({"small": noise(1), "large": noise(1) + 3, **last}, card)))
    assert (made[best].rank, made[best].tie) == (1, "best")
    assert made["large"].value == pytest.approx(noise(1).mean() + 3)
    assert made["large"].low < made["large"].value < made["large"].high


def test_controls_are_shown_and_never_ranked() -> None:
    made = rows(board(small({"random": noise(1) + 9, "a": noise(2), **LAST}, controls=("random",))))
    assert made["random"].status == "control"
    assert made["random"].rank is None
    assert made["random"].value == pytest.approx(noise(1).mean() + 9)
    assert made["a"].rank == 1


def test_a_row_that_failed_a_gate_is_shown_with_the_reason_and_no_rank() -> None:
    gate = Gate("data", "model", "best", "random-weights", "failed", "similarity 0.97")
    made = rows(board(small({"best": noise(1) + 3, "next": noise(2), **LAST}, gates=(gate,))))
    assert made["best"].status == "gated"
    assert made["best"].reason == "failed the gate random-weights: similarity 0.97"
    assert made["next"].rank == 1


def test_all_gates_that_a_row_failed_are_named_in_one_order() -> None:
    gates = (Gate("data", "model", "a", "z", "failed"), Gate("data", "model", "a", "b", "failed"))
    for order in (gates, gates[::-1]):
        made = rows(board(small({"a": noise(1), "other": noise(2)}, gates=order)))
        assert made["a"].reason == "failed the gate b; failed the gate z"


def test_two_rows_are_compared_on_the_samples_that_both_have() -> None:
    easy, lucky = noise(1), noise(1) + 0.0
    easy[:3] = 50.0
    lucky[:3] = np.nan
    made = board(small({"easy": easy, "lucky": lucky, **LAST}))
    found = rows(made)
    assert (found["easy"].samples, found["lucky"].samples) == (64, 61)
    assert found["easy"].value > found["lucky"].value, "each over its own samples"
    (panel,) = made.panels["data", "model"]
    assert panel.compare("easy", "lucky") == (0, False)
    assert found["easy"].rank == found["lucky"].rank == 1
    assert found["lucky"].coverage == pytest.approx(61 / 64)
    assert found["lucky"].reason == "3 of 64 samples have no score: a zero map"


def test_an_incomplete_row_is_not_ranked_and_costs_others_no_samples() -> None:
    half = noise(1) + 5
    half[:32] = np.nan
    made = rows(board(small({"half": half, "a": noise(2), "b": noise(3)})))
    assert made["half"].status == "incomplete"
    assert made["half"].rank is None
    assert made["half"].samples == 32
    assert made["half"].reason == "a score for 32 of 64 samples that have one: a zero map"
    assert made["a"].samples == 64


def test_samples_that_no_row_can_score_lower_coverage_and_unrank_nobody() -> None:
    one, other = noise(1), noise(2)
    one[:20] = other[:20] = np.nan
    made = rows(board(small({"one": one, "other": other})))
    assert {row.status for row in made.values()} == {"ok"}
    assert {row.coverage for row in made.values()} == {44 / 64}
    assert {row.samples for row in made.values()} == {44}


def test_a_sample_that_one_row_lacks_is_taken_from_no_other_two() -> None:
    values = {f"m{k}": noise(k, 20) for k in range(20)}
    for k, value in enumerate(values.values()):
        value[k] = np.nan
    made = rows(board(small(values)))
    assert {row.status for row in made.values()} == {"ok"}
    assert {row.samples for row in made.values()} == {19}


def test_a_metric_that_cannot_tell_the_known_good_map_from_random_is_blind() -> None:
    values = {"a": noise(1), "good": noise(2), "random": noise(2) + 0.01 * noise(3), **LAST}
    made = rows(board(small(values, controls=("good", "random"), chance="random", known_good=("good",))))
    assert made["a"].status == "blind"
    assert made["a"].rank is None
    assert "known-good map is not separated from random (good " in made["a"].reason
    seeing = values | {"good": noise(2) + 2}
    made = rows(board(small(seeing, controls=("good", "random"), chance="random", known_good=("good",))))
    assert made["a"].status == "ok"


def test_the_first_known_good_row_that_has_scores_is_the_judge() -> None:
    values = {"a": noise(1), "truth": np.full(64, np.nan), "good": noise(2) + 2, "random": noise(3)}
    results = small(values, controls=("truth", "good", "random"), chance="random", known_good=("truth", "good"))
    (panel,) = board(results).panels["data", "model"]
    assert panel.blind == ""
    (unjudged,) = board(replace(results, known_good=("truth",))).panels["data", "model"]
    assert unjudged.blind is None
    assert not unjudged.marks


@pytest.mark.parametrize(("card", "gain"), [(UP, 1.0), (DOWN, -1.0)])
def test_a_metric_that_puts_a_row_surely_above_the_known_truth_says_so(card: MetricCard, gain: float) -> None:
    values = {"a": noise(1), "b": noise(4) + 4 * gain, "truth": noise(2) + 2 * gain, "random": noise(3) - 2 * gain}
    results = small(values, card, controls=("truth", "random"), chance="random", known_good=("truth",))
    (panel,) = board(results).panels["data", "model"]
    assert panel.marks == ("sees, but rows beat the truth",)
    assert panel.outdone == f"b {np.mean(values['b']):.3g} significantly above truth {np.mean(values['truth']):.3g}"
    without = {name: value for name, value in values.items() if name != "b"}
    (plain,) = board(small(without, card, controls=("truth", "random"), chance="random", known_good=("truth",))).panels[
        "data", "model"
    ]
    (method,) = board(replace(results, methods=(), known_good=("truth",))).panels["data", "model"]
    assert plain.outdone == method.outdone == "", "not where nothing is above, nor where what is good is a method"


@pytest.mark.parametrize(("direction", "best"), [("higher", 1.0), ("lower", 0.0)])
def test_a_score_that_most_rows_exhaust_is_marked_saturated(direction: Any, best: float) -> None:
    card = replace(UP, direction=direction, range=(0.0, 1.0))
    middling = np.clip(0.5 + 0.1 * noise(1), 0, 1)
    values = {"a": np.full(64, best), "b": np.full(64, best), "c": middling, "d": middling[::-1]}
    (half,) = board(small(values, card)).panels["data", "model"]
    assert half.saturated == "", "two of four are not most"
    (panel,) = board(small(values | {"e": np.full(64, best), "control": middling}, card, ("control",))).panels[
        "data", "model"
    ]
    assert panel.saturated == f"3 of 5 ranked rows are at {best:g}"
    assert panel.marks == ("saturated",)


@pytest.mark.parametrize(("card", "gain"), [(UP, 1.0), (DOWN, -1.0)])
def test_a_score_that_prefers_an_encoding_to_a_method_is_marked_fooled(card: MetricCard, gain: float) -> None:
    values = {"good": noise(1), "code": noise(2) + 2 * gain, "truth": noise(4) + 3 * gain}
    told = {"controls": ("code", "truth"), "encoding": "code", "known_good": ("truth", "good")}
    (panel,) = board(small(values, card, **told)).panels["data", "model"]
    assert panel.fooled == f"code {np.mean(values['code']):.3g} significantly above good {np.mean(values['good']):.3g}"
    assert panel.marks == ("fooled by an encoding",)
    (sound,) = board(small(values | {"code": noise(2) - gain}, card, **told)).panels["data", "model"]
    (close,) = board(small(values | {"code": noise(1) + 0.01 * noise(2)}, card, **told)).panels["data", "model"]
    assert sound.fooled == close.fooled == ""


@pytest.mark.parametrize(("card", "gain"), [(UP, -2.0), (DOWN, 2.0)])
def test_a_metric_that_prefers_random_to_the_known_good_map_is_blind_too(card: MetricCard, gain: float) -> None:
    values = {"a": noise(1), "good": noise(2) + gain, "random": noise(3)}
    made = rows(board(small(values, card, controls=("good", "random"), chance="random", known_good=("good",))))
    assert made["a"].status == "blind"


def test_gates_are_scored_and_not_ranked() -> None:
    made = rows(board(small({"a": noise(1), "b": noise(2)}, replace(UP, gate=True))))
    assert {row.status for row in made.values()} == {"gate"}
    assert {row.rank for row in made.values()} == {None}


def test_one_sample_gives_values_and_no_intervals() -> None:
    made = rows(board(small({"a": [1.0], "b": [2.0], "c": [0.0]})))
    assert [made[name].rank for name in "bac"] == [1, 2, 3]
    assert (made["a"].rank_low, made["a"].rank_high) == (1, 3)
    assert np.isnan(made["a"].low)
    assert (made["b"].tie, made["a"].tie) == ("best", "with the best")


def test_there_are_no_places_among_fewer_than_three_methods() -> None:
    made = rows(board(small({"a": noise(1), "b": noise(2) + 9})))
    assert {(row.rank, row.tie) for row in made.values()} == {(None, "")}
    assert all(np.isfinite(row.low) for row in made.values()), "their values are shown"
    made = rows(board(small({"a": np.full(8, np.nan), "b": np.full(8, np.nan)})))
    assert {row.status for row in made.values()} == {"incomplete"}
    assert {row.coverage for row in made.values()} == {0.0}


def test_one_fit_of_which_nothing_else_is_known_has_no_rank() -> None:
    values = {"a": noise(1), "b": noise(2) + 9, "c": noise(3)}
    fitted = tuple(MethodCard(name, name, seeded=name == "b") for name in values)
    made = rows(board(small(values, methods=fitted)))
    assert (made["b"].status, made["b"].rank) == ("alone", None)
    assert made["b"].reason.startswith("of this fit alone")
    assert made["a"].status == "ok"


def test_a_run_in_which_everything_failed_is_still_a_board() -> None:
    results = small({"a": noise(1)})
    cells = results.cells.assign(status="oom", reason="out of memory")
    made = board(replace(results, scores=results.scores.iloc[:0], cells=cells))
    assert [row.status for row in made.rows] == ["oom"]


def test_infinite_scores_are_no_scores() -> None:
    values = noise(1)
    values[0] = np.inf
    assert rows(board(small({"a": values})))["a"].samples == 63


def test_intervals_stay_in_the_range_of_the_metric() -> None:
    card = replace(UP, range=(0.0, 1.0))
    made = rows(board(small({"a": np.r_[np.ones(5), 0.9]}, card)))
    assert made["a"].high == 1
    assert made["a"].low > 0


def test_a_seed_that_lacks_a_sample_takes_the_sample_away() -> None:
    seeds = np.stack([noise(1), noise(2), noise(3)])
    seeds[1, 4] = np.nan
    made = rows(board(small({"a": seeds})))
    assert made["a"].samples == 63
    assert made["a"].value == pytest.approx(np.delete(seeds, 4, axis=1).mean())


def test_costs_are_rows_and_only_exact_counts_are_ranked() -> None:
    costs = {("data", "model", "a"): {"seconds": 0.5, "flops": 1234567890.0}, ("data", "model", "b"): {"flops": 10.0}}
    results = small({"a": noise(1), "b": noise(2), "random": noise(3)}, controls=("random",))
    costs["data", "model", "random"] = {"flops": 1.0}
    made = {(row.method, row.metric): row for row in board(replace(results, costs=costs)).rows}
    assert made["a", "seconds"].rank is None
    assert (made["a", "flops"].rank, made["b", "flops"].rank, made["random", "flops"].rank) == (2, 1, None)
    assert made["a", "flops"].family == "runtime"
    assert ("b", "seconds") not in made
    assert ",1234567890," in to_csv(board(replace(results, costs=costs)))


def test_numbers_are_written_with_six_digits_and_none_for_none() -> None:
    made = board(small({"a": [1 / 3, 1 / 3], "b": [np.nan, np.nan]}))
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(to_csv(made)))}
    assert lines["a"]["value"] == "0.333333"
    assert lines["a"]["coverage"] == "1"
    assert lines["b"]["value"] == lines["b"]["rank"] == ""


def test_names_with_commas_quotes_and_line_breaks_are_read_back_unchanged() -> None:
    name = 'a,"b"\nc'
    lines = list(csv.DictReader(io.StringIO(to_csv(board(small({name: noise(1)}))))))
    assert lines[0]["method"] == name


def test_what_a_paper_says_stands_beside_our_row_and_ranks_nothing() -> None:
    said = (("model", "a", UP.name, 0.75), ("other", "a", UP.name, 0.5), ("model", "a", "unknown", 0.5))
    plain, made = (board(small({"a": noise(1)}, published=each, published_in="A paper")) for each in ((), said))
    assert made.rows == plain.rows
    lines = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert [line["method"] for line in lines] == ["a", "a, published"]
    assert [lines[1][name] for name in ("value", "rank", "status", "reason")] == ["0.75", "", "published", "A paper"]
