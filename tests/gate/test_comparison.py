"""A comparison is silent where nothing changed, speaks where something did, and refuses what cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from mibench.errors import UsageError
from mibench.gate.comparison import COMBINED, Change, Comparison
from mibench.gate.comparison import compare as compared
from mibench.gate.markdown import to_markdown
from mibench.gate.question import NotComparable
from mibench.gate.side import Side
from mibench.gate.significance import Noise, fits_variance
from mibench.gate.thresholds import Retrained, Thresholds, read_thresholds
from mibench.record.identity import Identity, MetricIdentity, TaskIdentity
from tests.effort import Effort

METRICS = ("auc", "mass", "order")
SAMPLES = 64
TASK = "d/m"


def compare(before: Side, after: Side, thresholds: Thresholds) -> tuple[Change, ...]:
    return compared(before, after, thresholds).changes


def side(scores: np.ndarray, name: str = "run", *, paired: bool = True) -> Side:
    """A run with one method, given (metrics, samples) scores in [0, 1]."""
    rows, table = [], []
    for metric, values in zip(METRICS, scores, strict=False):
        for sample, value in enumerate(values):
            rows.append(("d", "m", "iba", metric, 0, f"s{sample}", value))
        error = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        low, high = values.mean() - error, values.mean() + error
        figures = (values.mean(), low, high, len(values), 1.0)
        table.append(("d", "m", "iba", metric, "localisation", "higher", *figures, "ok", ""))
    for cost, value in (("flops", 1e9), ("seconds", 1.0), ("forwards", 20.0)):
        table.append(("d", "m", "iba", cost, "runtime", "lower", value, np.nan, np.nan, 0, np.nan, "ok", ""))
    figures = ("value", "low", "high", "samples", "coverage")
    columns = ["data", "model", "method", "metric", "family", "direction", *figures, "status", "reason"]
    frame = pd.DataFrame(rows, columns=["data", "model", "method", "metric", "seed", "sample", "value"])
    return Side(
        name,
        Identity(
            schema_number=2,
            processor="this one",
            torch="2",
            metrics={metric: MetricIdentity(version=1, low=0.0, high=1.0) for metric in METRICS},
            tasks={TASK: TaskIdentity(data_hash="1", weights_hash="1")},
        ),
        pd.DataFrame(table, columns=columns),
        frame if paired else None,
    )


def noisy(rng: np.random.Generator, mean: float = 0.8) -> np.ndarray:
    """Skewed scores within [0, 1], as an AUC's are."""
    return rng.beta(20 * mean, 20 * (1 - mean), size=(len(METRICS), SAMPLES))


def named(one: Side, task: dict[str, object] | None = None, **more: object) -> Side:
    """The side with another identity: of its task, and of the whole."""
    tasks = {TASK: one.identity.tasks[TASK].model_copy(update=task or {})}
    return replace(one, identity=one.identity.model_copy(update={"tasks": tasks} | more))


def with_metrics(one: Side, **changes: object) -> Side:
    """The side with another identity of every metric."""
    return named(one, metrics={name: m.model_copy(update=changes) for name, m in one.identity.metrics.items()})


def changed(table: pd.DataFrame, metric: str, **values: object) -> pd.DataFrame:
    table = table.copy()
    for column, value in values.items():
        table.loc[table.metric == metric, column] = value
    return table


@pytest.mark.parametrize("samples", [SAMPLES, 8])
@pytest.mark.parametrize("paired", [True, False])
def test_unchanged_scores_alarm_in_less_than_one_of_a_hundred_comparisons(
    paired: bool, samples: int, effort: Effort
) -> None:
    rng = np.random.default_rng(0)
    thresholds = Thresholds(default=0.0)  # significance alone must hold the level
    alarms = []
    for _ in range(effort.of(1000)):
        before, after = (side(noisy(rng)[:, :samples], paired=paired) for _ in "ab")
        alarms.append(any(each.is_regression for each in compare(before, after, thresholds)))
    assert effort.within(alarms, high=0.009)


@pytest.mark.parametrize("paired", [True, False])
def test_a_loss_of_a_tenth_is_caught_in_ninety_nine_of_a_hundred(paired: bool, effort: Effort) -> None:
    rng, caught = np.random.default_rng(1), []
    for _ in range(effort.of(1000)):
        before, noise = noisy(rng), rng.normal(0, 0.05, (len(METRICS), SAMPLES))
        after = before + noise - np.array([[0.1], [0.0], [0.0]])
        changes = compare(side(before, paired=paired), side(after, paired=paired), read_thresholds())
        caught.append(any(each.row.metric == "auc" and each.verdict == "worse" for each in changes))
    assert effort.within(caught, low=0.99)


def seeded(scores: np.ndarray, name: str, *, fit: str = "", paired: bool = True) -> Side:
    """A run with one method that learned, given (seeds, metrics, samples) scores; `fit` stands for what it learned."""
    one = side(scores.mean(0), name, paired=paired)
    table = pd.concat([one.table, one.table.tail(1).assign(metric="fit_seconds")])
    seeds, metrics, samples = (axis.ravel() for axis in np.indices(scores.shape))
    columns = {"metric": np.array(METRICS)[metrics], "seed": seeds, "sample": samples, "value": scores.ravel()}
    frame = pd.DataFrame({"data": "d", "model": "m", "method": "iba"} | columns)
    known = with_metrics(named(one, {"fits": {"iba": fit} if fit else {}}), seeds=len(scores))
    return replace(known, table=table, scores=frame if paired else None)


def redrawn(rng: np.random.Generator, seeds: int, scatter: float, loss: float = 0.0) -> tuple[Side, Side]:
    """Two sides of the same samples whose fits were drawn independently; all samples of a fit move together."""
    scores = noisy(rng)
    sides = []
    for name, lost in (("a", 0.0), ("b", loss)):
        moved = rng.normal(0, scatter, (seeds, len(METRICS), 1)) + rng.normal(0, 0.05, scores.shape)
        sides.append(seeded(scores + moved - lost * np.array([[1.0], [0.0], [0.0]]), name, fit=name))
    return sides[0], sides[1]


@pytest.mark.slow
@pytest.mark.parametrize("scatter", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("seeds", [1, 3])
def test_fits_drawn_anew_alarm_in_less_than_one_of_a_hundred_comparisons(seeds: int, scatter: float) -> None:
    rng, thresholds = (
        np.random.default_rng(11),
        read_thresholds().model_copy(update={"families": {"localisation": 0.0}}),
    )
    alarms = sum(
        any(each.is_regression for each in compare(*redrawn(rng, seeds, scatter), thresholds)) for _ in range(1000)
    )
    assert alarms < 10


def test_samples_alone_would_alarm_where_fits_were_drawn_anew() -> None:
    """The hole that the seeds' scatter mends: were the fits said to be the same, every other comparison would alarm."""
    rng, alarms = np.random.default_rng(12), 0
    for _ in range(100):
        before, after = (named(one, {"fits": {"iba": "5a3e"}}) for one in redrawn(rng, 1, 0.05))
        alarms += any(each.is_regression for each in compare(before, after, read_thresholds()))
    assert alarms > 50


@pytest.mark.parametrize(
    ("seeds", "scatter", "power"),
    [
        (3, 0.01, 0.95),
        pytest.param(3, 0.005, 0.99, marks=pytest.mark.slow),
        pytest.param(5, 0.01, 0.99, marks=pytest.mark.slow),
    ],
)
def test_a_loss_of_a_tenth_is_caught_although_fits_were_drawn_anew(seeds: int, scatter: float, power: float) -> None:
    """One seed cannot tell it; three whose standard deviation is 0.01 do in 95 of a hundred, five in 99."""
    rng, caught = np.random.default_rng(13), 0
    for _ in range(100):
        changes = compare(*redrawn(rng, seeds, scatter, loss=0.1), read_thresholds())
        caught += any(each.row.metric == "auc" and each.verdict == "worse" for each in changes)
    assert caught >= 100 * power


def test_with_one_seed_a_loss_must_be_larger_than_fits_scatter() -> None:
    rng = np.random.default_rng(14)
    for loss, verdict in ((0.1, "same"), (0.6, "worse")):
        changes = compare(*redrawn(rng, 1, 0.01, loss), read_thresholds())
        assert {each.verdict for each in changes if each.row.metric == "auc"} == {verdict}


@pytest.mark.parametrize("paired", [True, False])
def test_equal_fits_are_paired_by_samples_alone_and_others_are_named(paired: bool) -> None:
    """Blurred maps of the same fit are a small loss that is caught."""
    first = noisy(np.random.default_rng(15))
    scores = np.stack([first, first + 0.1])  # two seeds that do not agree
    for fit, verdict in (("a", "worse"), ("b", "same")):
        after = seeded(scores - 0.08, "b", fit=fit, paired=paired)
        found = compared(seeded(scores, "a", fit="a", paired=paired), after, read_thresholds())
        assert {each.verdict for each in found.changes if each.row.metric in METRICS} == {verdict}
        assert found.redrawn == (("iba",) if fit == "b" else ())
        assert ("were fitted again" in to_markdown(found, "a", "b")) == (fit == "b")


def test_fits_of_which_nothing_is_known_count_as_drawn_anew() -> None:
    scores = np.stack([noisy(np.random.default_rng(15))])
    assert compared(seeded(scores, "a"), seeded(scores - 0.01, "b"), read_thresholds()).redrawn == ("iba",)


def test_unchanged_scores_do_not_make_it_harder_for_others() -> None:
    """Of 900 scores one has changed: it is judged as if it were alone."""
    before, after = redrawn(np.random.default_rng(16), 5, 0.01, loss=0.1)
    many = [
        replace(one, table=pd.concat([one.table, *(one.table.assign(method=f"m{n}") for n in range(300))]))
        for one in (before, replace(after, table=before.table))
    ]
    few = compare(before, replace(after, table=before.table), read_thresholds())
    told = compare(*many, read_thresholds())
    assert [each.p for each in told if each.row.method == "iba" and each.row.metric in METRICS] == [
        each.p for each in few if each.row.metric in METRICS
    ]


def test_two_fits_at_the_allowed_scatter_are_judged_by_the_normal_law() -> None:
    """By hand: with one seed on either side, a difference of 2 sqrt(2) times the scatter has p = 0.0455 / 2."""
    variance, weight = fits_variance(0.0, 0.0, None, 0.05**2)
    noise = Noise(0.0, 1e6, np.sqrt(2 * variance), weight)
    assert noise.p(2 * 2**0.5 * 0.05) == pytest.approx(0.0455 / 2, abs=1e-4)


def test_many_seeds_without_a_bound_are_judged_by_students_test() -> None:
    """Student's own two-sample test, where samples have no error and nothing bounds the scatter."""
    rng = np.random.default_rng(17)
    first, second = rng.normal(0, 1, 4), rng.normal(1, 1, 3)
    difference = float(second.mean() - first.mean())
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in (first, second))
    variance, weight = fits_variance(squares, 5.0, None, 1e12)
    noise = Noise(0.0, 1e9, np.sqrt(variance * (1 / 4 + 1 / 3)), weight)
    assert noise.p(difference) == pytest.approx(ttest_ind(first, second).pvalue / 2, rel=1e-3)


def test_networks_trained_again_seldom_alarm_and_would_if_they_were_paired(effort: Effort) -> None:
    """All samples move with the network, here by a normal shift twice as wide as the sampling error of the mean."""
    rng = np.random.default_rng(10)
    same, other = ({"weights_hash": word, "recipe": "f", "accuracy": 1.0} for word in "ab")
    thresholds = Thresholds(default=0.0, retrained=Retrained(default=2 * 0.0872 / SAMPLES**0.5))
    alarms: dict[str, list[bool]] = {"paired": [], "retrained": []}
    for _ in range(effort.of(1000)):
        scores = noisy(rng)
        moved = scores + rng.normal(0, 2 * scores.std() / SAMPLES**0.5, (len(METRICS), 1))
        moved += rng.normal(0, 0.02, scores.shape)
        for name, identity in (("paired", same), ("retrained", other)):
            changes = compare(named(side(scores), same), named(side(moved), identity), thresholds)
            alarms[name].append(any(each.is_regression for each in changes))
    assert effort.within(alarms["retrained"], high=0.009)
    assert effort.within(alarms["paired"], low=0.5)


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
    changes = compare(before, Side("slower", before.identity, slower, before.scores), read_thresholds())
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
    assert "RuntimeError: no" in to_markdown(Comparison((lost,), read_thresholds()), "a", "b")


def without(one: Side, **values: str) -> Side:
    """A side without the rows of a method or metric, but with another method and metric in their place."""
    table = one.table
    for column, value in values.items():
        table = table[table[column] != value]
    return replace(one, table=table)


def test_a_row_that_was_not_asked_for_is_no_regression_and_is_named() -> None:
    before = side(noisy(np.random.default_rng(7)))
    found = compared(before, without(before, metric="auc"), read_thresholds())
    assert [(each.row.metric, each.verdict) for each in found.changes if each.verdict != "same"] == [("auc", "absent")]
    assert not found.regressions
    assert "Not requested in the later one" in to_markdown(found, "a", "b")


def test_what_vanished_from_a_run_that_asks_for_everything_is_a_regression() -> None:
    before = side(noisy(np.random.default_rng(7)))
    both = replace(before, table=pd.concat([before.table, before.table.assign(method="old")]))
    after = named(before, complete=("methods",))
    assert {each.row.method for each in compared(both, after, read_thresholds()).regressions} == {"old"}
    assert not compared(both, before, read_thresholds()).regressions
    fewer = without(after, metric="auc")
    assert not compared(before, fewer, read_thresholds()).regressions  # all methods were asked for, not all metrics
    assert compared(before, named(fewer, complete=("methods", "metrics")), read_thresholds()).regressions


def test_a_count_that_is_no_longer_made_is_a_regression() -> None:
    before = side(noisy(np.random.default_rng(7)))
    table = pd.concat([before.table, before.table.assign(method="other")])
    gone = table[(table["method"] != "iba") | (table["metric"] != "flops")]
    (lost,) = compared(replace(before, table=table), replace(before, table=gone), read_thresholds()).regressions
    assert (lost.row.method, lost.row.metric, lost.verdict) == ("iba", "flops", "lost")


def test_samples_without_a_score_any_more_are_a_regression() -> None:
    before = side(noisy(np.random.default_rng(7)))
    fewer = replace(before, table=changed(before.table, "auc", coverage=0.5))
    (lost,) = compared(before, fewer, read_thresholds()).regressions
    assert (lost.row.metric, lost.verdict) == ("auc", "lost")
    assert "50%" in lost.reason


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("was", "now", "verdict"),
    [
        ("ok", "timeout", "lost"),
        ("blind", "crash", "lost"),
        ("incomplete", "missing", "lost"),
        ("ok", "incomplete", "lost"),
        ("timeout", "timeout", "same"),
        ("timeout", "oom", "same"),
        ("incomplete", "incomplete", "same"),
        ("ok", "blind", "same"),
        ("timeout", "ok", "same"),
        ("timeout", "incomplete", "same"),
        ("incomplete", "ok", "same"),
    ],
)
def test_a_number_is_lost_with_its_seeds_or_samples(was: str, now: str, verdict: str, paired: bool) -> None:
    one = side(noisy(np.random.default_rng(7)), paired=paired)
    before, after = (
        replace(one, table=changed(one.table, "auc", status=status, reason=f"it is {status}")) for status in (was, now)
    )
    (change,) = [each for each in compare(before, after, read_thresholds()) if each.row.metric == "auc"]
    assert (change.verdict, change.is_regression) == (verdict, verdict == "lost")
    assert change.reason == (f"it is {now}" if verdict == "lost" else "")


def test_a_row_just_below_the_ranked_samples_is_judged_by_how_many() -> None:
    before = named(side(noisy(np.random.default_rng(8))), TRAINED)
    for coverage, red in ((0.97, False), (0.5, True)):
        table = changed(before.table, "auc", status="incomplete", coverage=coverage)
        again = named(replace(before, table=table), {"weights_hash": "2"})
        assert bool(compared(before, again, read_thresholds()).regressions) == red


def test_a_method_that_newly_fails_a_sanity_gate_is_a_regression_once() -> None:
    before = side(noisy(np.random.default_rng(7)))
    table = before.table.assign(status="gated", reason="failed the gate mprt")
    (gated,) = compared(before, replace(before, table=table), read_thresholds()).regressions
    assert (gated.row.method, gated.verdict, gated.reason) == ("iba", "gated", "failed the gate mprt")
    assert not compared(replace(before, table=table), before, read_thresholds()).regressions


def test_a_multiple_of_a_forward_is_not_compared_between_processors() -> None:
    before = side(noisy(np.random.default_rng(5)))

    def regressions(value: float, **identity: object) -> list[str]:
        slower = replace(before, table=changed(before.table, "forwards", value=value))
        found = compared(before, named(slower, **identity), Thresholds(forwards=1.0))
        return [each.row.metric for each in found.regressions]

    assert regressions(39.0) == []
    assert regressions(41.0) == ["forwards"]
    assert regressions(41.0, processor="another") == []


@pytest.mark.parametrize(
    ("task", "version", "named_in_error"),
    [
        ({"data_hash": "2"}, 1, r"d/m \(other samples\)"),
        ({"weights_hash": "2"}, 1, r"d/m \(other weights\)"),
        ({"weights_hash": "2"}, 2, r"version 1 before, 2 after.*; d/m \(other weights\)"),
        ({"data_hash": "2", "drawing": "d"}, 1, r"d/m \(other samples\)"),
    ],
)
def test_another_question_is_refused_by_name(task: dict[str, object], version: int, named_in_error: str) -> None:
    before = side(noisy(np.random.default_rng(8)))
    with pytest.raises(NotComparable, match=named_in_error) as refusal:
        compare(before, with_metrics(named(before, task), version=version), read_thresholds())
    assert refusal.value.code == 4


def test_another_definition_of_a_metric_is_said_and_is_no_regression() -> None:
    before = side(noisy(np.random.default_rng(8)))
    after = with_metrics(side(noisy(np.random.default_rng(8)) - 0.3), version=2)
    found = [each for each in compare(before, after, read_thresholds()) if each.row.metric in METRICS]
    assert {each.verdict for each in found} == {"other"}
    assert {each.reason for each in found} == {"definition changed: version 1 before, 2 after"}


def test_seeds_with_networks_of_their_own_pair_where_weights_are_the_same() -> None:
    three = {"networks": (("1", "1"), ("2", "1"), ("3", "1"))}
    before = named(side(noisy(np.random.default_rng(8))), three)
    assert compared(before, named(before, {"networks": (("1", "1"),)}), read_thresholds()).paired == len(METRICS)
    with pytest.raises(NotComparable, match="other weights"):
        compare(before, named(before, {"networks": (("1", "1"), ("9", "1"))}), read_thresholds())


TRAINED: dict[str, object] = {"weights_hash": "1", "recipe": "a", "accuracy": 0.970}


def test_other_weights_by_the_same_recipe_are_compared_by_intervals() -> None:
    before = named(side(noisy(np.random.default_rng(8))), TRAINED)
    again = named(before, {"weights_hash": "2", "accuracy": 0.975})
    found = compared(before, again, read_thresholds())
    assert (found.retrained, found.paired) == ((TASK,), 0)
    assert compared(before, before, read_thresholds()).paired == len(METRICS)
    assert "have other weights by the same recipe" in to_markdown(found, "a", "b")


@pytest.mark.parametrize(
    ("other", "named_in_error"),
    [({"recipe": "b"}, "another recipe"), ({"accuracy": 0.90}, "another accuracy .*-7.0%")],
)
def test_another_recipe_and_another_accuracy_are_refused(other: dict[str, object], named_in_error: str) -> None:
    before = named(side(noisy(np.random.default_rng(8))), TRAINED)
    with pytest.raises(NotComparable, match=named_in_error):
        compare(before, named(before, {"weights_hash": "2"} | other), read_thresholds())


def test_samples_with_other_last_digits_are_paired_and_not_changed() -> None:
    before = named(side(noisy(np.random.default_rng(8))), TRAINED | {"drawing": "d"})
    rounded = side(noisy(np.random.default_rng(8)) * (1 - 1e-7))
    found = compared(before, named(rounded, TRAINED | {"drawing": "d", "data_hash": "2"}), read_thresholds())
    assert (found.retrained, found.paired) == ((), len(METRICS))
    assert {each.difference for each in found.changes if each.row.metric in METRICS} == {0.0}


def test_a_network_trained_again_excuses_a_small_loss_and_not_a_large_one() -> None:
    scores = noisy(np.random.default_rng(8))
    before = named(side(scores), TRAINED)
    for loss, red in ((0.1, False), (0.4, True)):
        again = named(side(scores - loss), TRAINED | {"weights_hash": "2"})
        assert bool(compared(before, again, read_thresholds()).regressions) == red


def test_the_same_weights_on_another_processor_are_paired() -> None:
    before = side(noisy(np.random.default_rng(8)))
    assert compared(before, named(before, processor="another"), read_thresholds()).paired == len(METRICS)


def test_runs_without_a_task_or_a_score_in_common_are_refused() -> None:
    one = side(noisy(np.random.default_rng(8)))
    with pytest.raises(NotComparable, match="no task in common"):
        compare(one, named(one, tasks={"e/m": one.identity.tasks[TASK]}), read_thresholds())
    with pytest.raises(NotComparable, match="no score in common"):
        compare(one, replace(one, table=one.table.assign(method="another")), read_thresholds())


def test_a_metric_without_bounds_is_judged_by_its_spread() -> None:
    scores = 100 * noisy(np.random.default_rng(8))
    spread = float(scores[0].std(ddof=1))
    for paired in (True, False):
        before = with_metrics(side(scores, paired=paired), low=None, high=None)
        for share, verdict in ((0.5, "same"), (2.0, "worse")):
            after = with_metrics(side(scores - share * spread, paired=paired), low=None, high=None)
            found = compare(before, after, Thresholds(default=1.0))
            assert {each.verdict for each in found if each.row.metric in METRICS} == {verdict}


def test_names_cannot_break_a_comment() -> None:
    scores = noisy(np.random.default_rng(9))
    before, after = side(scores), side(scores - 0.2)
    hostile = "a|b`c<script>[x](http://e)@team\n# h\\|~~"
    for each in (before, after):
        each.table["method"] = each.scores["method"] = hostile  # type: ignore[index]
    text = to_markdown(compared(before, after, read_thresholds()), hostile, "</details>")
    lines = text.splitlines()
    tables = [[*some] for is_table, some in groupby(lines, key=lambda line: line.startswith("|")) if is_table]
    assert tables
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
    assert not any(line.startswith("# ") for line in lines)
    for forbidden in ("<script>", "`", "](", "@team", "~~", "\\"):
        assert forbidden not in text
    assert text.count("</details>") == 1


def test_a_comment_tells_the_verdict_first_and_stays_below_githubs_limit() -> None:
    scores = noisy(np.random.default_rng(9))
    tables = [one.table for one in (side(scores), side(scores - 0.2))]
    many = [pd.concat([table.assign(method=f"method-{n}" * 5) for n in range(800)]) for table in tables]
    before, after = (replace(side(scores, paired=False), table=table) for table in many)
    text = to_markdown(compared(before, after, read_thresholds()), "a", "b")
    assert text.startswith("### mibench: 800 methods became worse (2400 results)\n")
    assert " more" in text
    assert len(text) < 65_536


def test_a_toml_says_what_differs_from_our_thresholds(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("level = 0.05\n[families]\nlocalisation = 0.2\n[retrained]\nunbounded = 5.0\n")
    ours, mine = read_thresholds(), read_thresholds(file)
    assert (mine.level, mine.effect("localisation"), mine.retrained.unbounded) == (0.05, 0.2, 5.0)
    assert mine.effect("randomisation") == ours.effect("randomisation")
    assert mine.retrained.accuracy == ours.retrained.accuracy


@pytest.mark.parametrize("wrong", ["levle = 1", "[families]\nlocalization = 0.1", "level = 2", "level", "\xff"])
def test_a_wrong_toml_is_named(tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(wrong.encode("latin-1"))
    with pytest.raises(UsageError, match=r"mine\.toml"):
        read_thresholds(file)


def test_no_difference_is_no_evidence_and_a_sure_one_is() -> None:
    assert Noise(0.1, 19).p(0.0) == 1.0
    assert Noise(0.0, 19).p(0.3) < 1e-4


def test_errors_that_are_all_but_equal_have_a_quantile() -> None:
    for n in range(2, 160):
        noise = Noise(0.0083, 63, np.full(n, 1e-12), np.full(n, 1 / n))
        assert noise.quantile(0.01) == pytest.approx(Noise(0.0083, 63).quantile(0.01), rel=1e-3)


def test_the_smallest_loss_that_is_printed_is_caught_in_nineteen_of_twenty(effort: Effort) -> None:
    rng, thresholds, caught, seen = np.random.default_rng(21), read_thresholds(), [], []
    for _ in range(effort.of(400)):
        before = side(noisy(rng))
        quiet = compare(before, side(before_scores(before)), thresholds)
        loss = next(each.visible for each in quiet if each.row.metric == "auc")
        scores = before_scores(before)
        scores[0] -= loss + rng.normal(0, scores[0].std(), SAMPLES)
        changes = compare(before, side(scores), thresholds)
        caught.append(any(each.row.metric == "auc" and each.verdict == "worse" for each in changes))
        seen.append(loss)
    assert effort.within(caught, low=0.95 - 2 * np.sqrt(0.95 * 0.05 / 400))  # two standard errors of 400 draws
    assert np.mean(seen) < 0.1


def before_scores(one: Side) -> np.ndarray:
    """The scores (metrics, samples) that a side was made of."""
    assert one.scores is not None
    return one.scores["value"].to_numpy(float).reshape(len(METRICS), SAMPLES).copy()


def test_nine_tenths_lost_in_six_of_sixty_four_samples_are_caught(effort: Effort) -> None:
    rng, caught = np.random.default_rng(22), []
    for _ in range(effort.of(200)):
        scores = noisy(rng, 0.95)
        worse = scores.copy()
        worse[0, rng.permutation(SAMPLES)[:6]] -= 0.9
        changes = compare(side(scores), side(worse), read_thresholds())
        caught.append(any(each.row.metric == "auc" and each.verdict == "worse" for each in changes))
    assert effort.within(caught, low=0.95)


def test_a_loss_that_no_score_shows_alone_is_seen_in_all_together() -> None:
    rng = np.random.default_rng(23)
    scores = noisy(rng)
    worse = scores - 0.02 + rng.normal(0, 0.06, scores.shape)
    found = compare(side(scores), side(worse), read_thresholds())
    (together,) = [each for each in found if each.row.metric == COMBINED]
    assert together.p < min(each.p for each in found if each.row.metric in METRICS)
