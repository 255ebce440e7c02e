"""The study of NIF: its intervals, its tables and verdicts, and the parts of it that take no time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from leaderboards.studies.lines import Line, read_table
from leaderboards.studies.nif import study as nif
from mibench.models.training import accuracy

HOME = Path(nif.__file__).parent


def test_intervals_are_students_and_leave_out_samples_without_a_score() -> None:
    line = Line.of("pruning", "a", "b", [1.0, 2.0, 3.0, math.nan])
    assert (line.mean, line.count) == (2.0, 3)
    assert line.half == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert math.isnan(Line.of("cost", "a", "b", [1.0]).half)


def test_a_verdict_needs_an_interval_that_leaves_out_zero() -> None:
    lines = [
        Line("pruning difference", table, "nif - random", mean, 0.1, 10)
        for table, mean in (("up", 0.2), ("down", -0.2), ("level", 0.05))
    ]
    assert list(nif.reading("pruning difference", lines)) == [
        "NIF is better: up (nif - random).",
        "NIF is worse: down (nif - random).",
        "the interval holds zero: level (nif - random).",
    ]


def test_the_page_has_a_table_for_every_question_that_was_asked() -> None:
    lines = [Line("null", "mixed", "none", 0.05, 0.01, 5), Line("null", "mixed", "jitter", 0.001, 0.01, 5)]
    page = nif.describe(lines)
    assert "| mixed | 0.050 ± 0.010 | 0.001 ± 0.010 |" in page
    assert "Below 0.005 nats: mixed with jitter." in page
    assert page.count("## ") == 1


def test_the_estimators_are_asked_where_the_truth_is_known() -> None:
    found = {(line.subject, line.figure): line for line in nif.estimators(quick=True)}
    assert abs(found["KSG, k=3", "rho = 0.9"].mean) < 0.03
    assert found["24 bins", "rho = 0"].mean > 0.05


def test_edges_are_asked_where_theory_knows_them() -> None:
    found = {(line.subject, line.figure): line for line in nif.known(quick=True)}
    assert found["mixed, k=10", "linear-gaussian"].mean < 0.02
    assert found["mixed, k=10", "planted-table"].mean < 0.02
    assert found["24 bins", "linear-gaussian"].mean > 0.1


def test_every_row_is_scored_by_a_perceptron_that_has_not_learned_it() -> None:
    folds = [nif.perceptron("wine", seed)[1:] for seed in range(nif.FOLDS)]
    assert all(not set(seen.ids) & set(held_out.ids) for seen, held_out in folds)
    assert sorted(int(row) for _, held_out in folds for row in held_out.ids) == list(range(178))


def test_a_perceptron_is_right_on_rows_that_it_has_not_learned() -> None:
    network, _, held_out = nif.perceptron("wine", 0)
    assert accuracy(network, held_out.x, held_out.label) > 0.9


def test_the_committed_page_is_what_the_committed_table_says() -> None:
    assert (HOME / "README.md").read_text("utf-8") == nif.describe(read_table(HOME / "table.csv"))


def test_the_committed_study_prunes_networks_of_96_percent_accuracy() -> None:
    found = {line.subject: line.mean for line in read_table(HOME / "table.csv") if line.figure == "perceptron"}
    assert found["iris"] >= 0.96
    assert found["csv:banknote.csv"] >= 0.96
