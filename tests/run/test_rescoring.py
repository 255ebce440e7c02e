"""A run that is scored later by another metric says what one says that had it from the start, and explains nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mibench.errors import UsageError
from mibench.leaderboard.tables import to_csv
from mibench.record import maps
from mibench.record.store import Store
from mibench.run import worker
from mibench.run.rescoring import rescore
from mibench.run.run import Options, Summary, run
from mibench.suites import suite
from tests.toy_suite import toy

INLINE = Options(device="cpu", engine="inline")


@pytest.fixture
def toy_plugins(toy: None) -> None:
    """The toys, under a name that leaves `toy` to the suite of them."""


def go(folder: Path, declared: suite.Suite) -> Summary:
    return run(declared, Options(folder, "cpu", engine="inline"))


def without_costs(summary: Summary) -> list[str]:
    return [line for line in to_csv(summary.board).splitlines() if ",runtime," not in line]


def test_scoring_later_gives_the_bytes_of_a_run_with_the_metric(toy_plugins: None, tmp_path: Path) -> None:
    every = ("inside", "moved", "drop", "class-sensitivity")  # the last needs the maps that `moved` asked for
    go(tmp_path / "later", toy(metrics=every[:2], seeds=2))
    shutil.copytree(tmp_path / "later", tmp_path / "again")
    later = rescore(tmp_path / "later", every[2:], INLINE)
    assert later.code == 0
    assert without_costs(later) == without_costs(go(tmp_path / "start", toy(metrics=every, seeds=2)))
    go(tmp_path / "again", toy(metrics=every, seeds=2))  # its costs are the same, too
    assert (tmp_path / "later/leaderboard.csv").read_bytes() == (tmp_path / "again/leaderboard.csv").read_bytes()
    assert suite.read((tmp_path / "later/suite.toml").read_text(), "it").metrics == every


def test_tasks_that_ask_metrics_of_their_own_are_scored_by_the_new_one_too(toy_plugins: None, tmp_path: Path) -> None:
    tasks = [suite.Task(model="quadrants", metrics=("inside",))]
    go(tmp_path, toy(metrics=("inside",), tasks=tasks))
    rows = [row for row in rescore(tmp_path, ["drop"], INLINE).board.rows if row.metric == "drop"]
    assert {row.status for row in rows} == {"ok", "alone", "control"}


def test_nothing_is_fitted_explained_or_timed(
    toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path, toy(metrics=("inside",)))
    with Store(tmp_path) as store:
        before = {cell.key: cell for cell in store.cells() if cell.stage != "score"}

    def never(*_: object) -> None:
        raise AssertionError("explained again")

    for stage in ("fit", "explain", "cost"):
        monkeypatch.setitem(worker.STAGES, stage, never)  # type: ignore[arg-type]
    summary = rescore(tmp_path, ["drop"], INLINE)
    assert summary.computed == 5  # a row each
    assert rescore(tmp_path, ["drop"], INLINE).computed == 0
    with Store(tmp_path) as store:
        assert {cell.key: cell for cell in store.cells() if cell.stage != "score"} == before
        assert {cell.metric for cell in store.cells("score")} == {"inside", "drop"}
        assert [each.metrics for each in store.about().rescored] == [("drop",), ("drop",)]


def test_maps_that_are_gone_are_named_and_the_record_stays_as_it_was(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy(metrics=("inside",)))
    with Store(tmp_path) as store:
        gone = next(cell for cell in store.cells("explain") if cell.method == "learned" and not cell.variant)
    maps.path(tmp_path, gone.key).unlink()
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UsageError, match=r"lacks maps to score: explain · .* · learned .*file is missing") as refusal:
        rescore(tmp_path, ["drop"], INLINE)
    assert refusal.value.code == 2
    assert (tmp_path / "run.json").read_bytes() == before
    with Store(tmp_path) as store:
        assert {cell.metric for cell in store.cells("score")} == {"inside"}


@pytest.mark.parametrize(
    ("changes", "metric", "words"),
    [
        ({"gate_samples": 0}, "moved", "moved needs maps of other weights"),
        ({}, "moved", "the run did not request other-class maps"),
        ({}, "max-sensitivity", "the run did not request perturbed maps"),
        ({}, "inisde", "inside"),
    ],
)
def test_a_metric_that_needs_what_the_run_did_not_make_is_refused_by_name(
    toy_plugins: None, tmp_path: Path, changes: dict[str, int], metric: str, words: str
) -> None:
    go(tmp_path, toy(metrics=("inside",), **changes))
    with pytest.raises(UsageError, match=words):
        rescore(tmp_path, [metric], INLINE)


def test_maps_of_another_network_are_not_scored_by_this_one(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy(metrics=("inside",)))
    about = json.loads((tmp_path / "run.json").read_text())
    for task in about["tasks"].values():
        task["weights_hash"] = task["networks"][0]["weights_hash"] = "a07e4"
    with Store(tmp_path, write=True) as store:
        store.write_text("run.json", json.dumps(about))
    with pytest.raises(UsageError, match=r"the network of .* not those .* explained .*then a07e4"):
        rescore(tmp_path, ["drop"], INLINE)


def test_a_folder_that_holds_no_run_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the folder of a run"):
        rescore(tmp_path / "nothing", ["drop"], INLINE)
    assert not (tmp_path / "nothing").exists()


def test_a_row_whose_maps_failed_fails_for_the_new_metric_as_for_the_old(toy_plugins: None, tmp_path: Path) -> None:
    methods = ("bright", "faulty[how=raise]")
    start = go(tmp_path / "start", toy(metrics=("inside", "drop"), methods=methods))
    go(tmp_path / "later", toy(metrics=("inside",), methods=methods))
    later = rescore(tmp_path / "later", ["drop"], INLINE)
    assert (later.code, start.code) == (3, 3)
    assert without_costs(later) == without_costs(start)
    assert "drop" in {cell.metric for cell, _ in later.failures}
