"""A whole run, tried with toys: what it records, what it computes again, and what becomes of whatever goes wrong."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import Tensor

from mibench.errors import MibenchError, UsageError
from mibench.leaderboard.tables import to_csv
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, Explanation, Probe
from mibench.record.devices import device_of
from mibench.record.store import Store
from mibench.run import explaining
from mibench.run.explaining import task_of
from mibench.run.run import Options, Summary, run
from mibench.suites import suite
from tests.toy_suite import toy

HERE = Path(__file__).parent.parent


@pytest.fixture
def toy_plugins(toy: None) -> None:
    """The toys, under a name that leaves `toy` to the suite of them."""


def go(folder: Path, declared: suite.Suite, **options: object) -> Summary:
    return run(declared, Options(**{"out": folder, "device": "cpu", "engine": "inline"} | options))


def scores(folder: Path) -> pd.DataFrame:
    with Store(folder) as store:
        return store.scores().sort_values(["method", "metric", "seed", "sample"], ignore_index=True)


def without_costs(summary: Summary) -> list[str]:
    return [line for line in to_csv(summary.board).splitlines() if ",runtime," not in line]


def test_every_row_metric_and_sample_has_a_score_or_a_reason(toy_plugins: None, tmp_path: Path) -> None:
    summary = go(tmp_path, toy())
    table = scores(tmp_path)
    assert summary.code == 0
    assert set(table["method"]) == {"bright", "learned", "learned.total", "noise", "upside:bright"}
    assert len(table) == 5 * 3 * 8
    assert (table["value"].notna() | (table["reason"] != "")).all()
    inside = table[table["metric"] == "inside"].groupby("method")["value"].mean()
    assert inside["bright"] > inside["noise"] > inside["upside:bright"]


def test_the_board_is_written_and_says_who_is_better(toy_plugins: None, tmp_path: Path) -> None:
    summary = go(tmp_path, toy())
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    inside = table[table["metric"] == "inside"].set_index("method")
    assert inside.loc["learned", "value"] > inside.loc["bright", "value"]
    assert inside.loc["learned", "status"] == "alone", "one fit, of whose scatter nothing is known"
    assert inside.loc["noise", "status"] == "control"
    assert "<html" in (tmp_path / "leaderboard.html").read_text()
    assert summary.board.results.tasks[0].facts["accuracy"] == "100.0%"


def test_explainers_that_learn_the_same_are_fitted_once(
    toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy.methods import Learned

    fits, learn = [], Learned.learn
    monkeypatch.setattr(Learned, "learn", lambda self, *given: fits.append(self.name) or learn(self, *given))
    summary = go(tmp_path, toy(methods=["bright", "learned", "pupil"], metrics=["inside"]))
    assert len(fits) == 1
    assert summary.code == 0
    with Store(tmp_path) as store:
        assert [cell.method for cell in store.cells("fit")] == ["learned", "pupil"]
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert set(table[table["metric"] == "fit_seconds"]["method"]) >= {"learned", "pupil"}
    inside = table[table["metric"] == "inside"].set_index("method")["value"]
    assert inside["learned.total"] == inside["pupil"]


def test_an_unchanged_suite_computes_nothing_and_gives_the_same_board(toy_plugins: None, tmp_path: Path) -> None:
    first = go(tmp_path, toy())
    second = go(tmp_path, toy())
    assert second.computed == 0
    assert to_csv(second.board) == to_csv(first.board)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {"batch": 1}),
        ({}, {"batch": 3}),
        ({"shard": 3}, {}),
        ({"methods": ("learned", "bright"), "controls": ("upside:bright", "noise")}, {}),
        ({"metrics": ("moved", "drop", "inside")}, {}),
        ({}, {"engine": "local", "jobs": 1}),
        ({}, {"engine": "local", "jobs": 3}),
    ],
    ids=["batches of one", "batches of three", "shards", "order of methods", "order of metrics", "worker", "workers"],
)
def test_no_score_depends_on(toy_plugins: None, tmp_path: Path, changes: dict, options: dict) -> None:
    go(tmp_path / "a", toy())
    go(tmp_path / "b", toy(**changes), **options)
    pd.testing.assert_frame_equal(scores(tmp_path / "a"), scores(tmp_path / "b"))


@pytest.fixture
def own_toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toys that a test may edit."""
    folder = tmp_path / "thirdparty"
    shutil.copytree(HERE / "thirdparty", folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{HERE.parent}")
    registry.refresh()
    yield folder
    monkeypatch.undo()
    registry.refresh()


COUNT = """
from pathlib import Path
from tests.toy_suite import toy
from mibench.run.run import Options, run
from mibench.record.store import Store
summary = run(toy(methods=("bright", "learned", "separate")), Options(out=Path("{}"), device="cpu", engine="inline"))
print(summary.computed)
"""
SEPARATE = '''
from mibench.plugins.contract import Explainer, Explanation

class Separate(Explainer):
    """In a file of its own."""

    name = "separate"
    title = "Separate"

    def explain(self, probe, x, target, seeds):
        return Explanation({"map": x.mean(1)})
'''


def test_an_edit_to_one_method_computes_that_method_alone(own_toys: Path, tmp_path: Path) -> None:
    """And a comment none at all."""
    points = own_toys / "toy-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("toy = toy.methods", "toy = toy.methods\nseparate = separate", 1))
    separate = own_toys / "separate.py"

    def computed(text: str) -> int:
        separate.write_text(text)
        shutil.rmtree(own_toys / "__pycache__", ignore_errors=True)
        code = COUNT.format(tmp_path / "run")
        told = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True)
        return int(told.stdout)

    everything = computed(SEPARATE)
    assert computed(SEPARATE + "\n# a comment") == 0
    once = 1 + 1 + 3 + 1  # plain maps, those of the other class that a metric asks for, scores, cost
    assert computed(SEPARATE.replace("x.mean(1)", "x.amax(1)")) == once < everything


def test_another_parameter_computes_that_method_alone(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy())
    changed = go(tmp_path, toy(methods=("bright[power=2]", "learned")))
    assert changed.computed == 1 + 1 + 3 + 1
    assert "bright[power=2]" in set(scores(tmp_path)["method"])
    assert "bright" not in set(scores(tmp_path)["method"])
    assert go(tmp_path, toy()).computed == 0  # the first answers were kept


def test_the_second_seed_adds_to_the_first(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy())
    go(tmp_path, toy(seeds=2))
    table = scores(tmp_path)
    by_seed = {seed: rows[rows["method"] == "noise"]["value"].tolist() for seed, rows in table.groupby("seed")}
    assert set(by_seed) == {0, 1}
    assert by_seed[0] != by_seed[1]


def test_what_no_seed_changes_is_run_once(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy(seeds=2))
    with Store(tmp_path) as store:
        cells = [(cell.method, cell.seed, cell.variant) for cell in store.cells("explain")]
    assert {seed for method, seed, _ in cells if method == "bright"} == {0}
    assert {seed for method, seed, _ in cells if method == "noise"} == {0, 1}
    assert {seed for _, seed, variant in cells if variant} == {0}
    assert set(scores(tmp_path).query("method == 'upside:bright'")["seed"]) == {0}


def test_a_metric_that_the_suite_omits_for_a_task_is_a_row_with_the_reason(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy(tasks=({"model": "quadrants", "metrics": ("inside",)},)))
    table = pd.read_csv(tmp_path / "leaderboard.csv").query("method == 'bright'").set_index("metric")
    assert table.loc["inside", "status"] == "ok"
    assert tuple(table.loc["drop", ["status", "reason"]]) == ("skipped", "the suite does not request it for these data")


def test_the_class_gate_is_not_asked_of_maps_that_speak_of_no_class(
    toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(registry.method("bright").explainer), "of_class", False)
    go(tmp_path, toy(metrics=("random-logit",)))
    with Store(tmp_path) as store:
        told = {cell.method: (cell.status, cell.reason) for cell in store.cells("score")}
    assert told["bright"][0] == "skipped"
    assert "the same for every class" in told["bright"][1]
    assert told["noise"][0] == "ok"


def test_perturbed_inputs_are_explained_only_where_a_metric_asks_for_them(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy())
    more = go(tmp_path, toy(metrics=("inside", "drop", "moved", "max-sensitivity"), perturbations=2))
    assert more.computed == 3 * 2 + 5  # two variants of three explainers' maps, and the scores of five rows
    table = scores(tmp_path)
    moved = table[table["metric"] == "max-sensitivity"].set_index(["method", "sample"])["value"].unstack()
    assert moved.notna().sum(axis=1).tolist() == [4] * 5  # the samples of the gates
    assert (moved.loc["noise"].dropna() < 1e-6).all()  # it does not look at the input
    assert (moved.loc["bright"].dropna() > 1e-3).all()


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("raise", "failed", "ValueError: the explainer had a bad day (methods.py:"),
        ("memory", "oom", "memory"),
        ("refuse", "skipped", "this network is not to my taste"),
        ("shape", "failed", "has shape (8, 7, 8), expected (B, H, W) = (8, 8, 8)"),
        ("nan", "nan", "the map holds NaN"),
        ("weights", "failed", "left the network changed: parameter blur.weight (its values changed)"),
        ("hook", "failed", "left the network changed: layer blur (hooks=0 became hooks=1)"),
        ("training", "failed", "training=False became training=True"),
        ("gradients", "failed", "requires_grad=False became requires_grad=True"),
    ],
)
def test_what_goes_wrong_is_a_row_with_its_reason(
    toy_plugins: None, tmp_path: Path, how: str, status: str, reason: str
) -> None:
    task_of.cache_clear()
    clean = go(tmp_path / "clean", toy(gate_samples=0, metrics=("inside", "drop")))
    summary = go(
        tmp_path / "run",
        toy(methods=("bright", "learned", f"faulty[how={how}]"), gate_samples=0, metrics=("inside", "drop")),
    )
    table = pd.read_csv(tmp_path / "run" / "leaderboard.csv", keep_default_na=False)
    faulty = table[table["method"].str.startswith("faulty") & (table["family"] != "runtime")]
    assert set(faulty["metric"]) == {"inside", "drop"}
    assert set(faulty["status"]) == {status}
    assert all(reason in each for each in faulty["reason"])
    assert summary.code == (0 if status == "skipped" else 3)
    others = scores(tmp_path / "run")
    others = others[~others["method"].str.startswith("faulty")].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, scores(tmp_path / "clean"))
    assert clean.code == 0


def test_rows_that_are_scored_together_do_not_miss_one_whose_maps_failed(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy(methods=("bright", "faulty"), metrics=("inside", "drop")), jobs=1)
    table = scores(tmp_path)
    assert set(table["method"]) == {"bright", "noise", "upside:bright"}
    assert table["value"].notna().all()


def test_crashes_and_timeouts_are_rows_too(toy_plugins: None, tmp_path: Path) -> None:
    methods = ("bright", "faulty[how=segfault]", "faulty[how=hang]", "faulty[how=exit]")
    summary = go(tmp_path, toy(methods=methods, gate_samples=0), engine="local", jobs=2, timeout=25)
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    status = table[table["metric"] == "inside"].set_index("method")["status"]
    assert status["faulty[how=segfault]"] == status["faulty[how=exit]"] == "crash"
    assert status["faulty[how=hang]"] == "timeout"
    assert status["bright"] == "ok"
    assert summary.code == 3
    with Store(tmp_path) as store:
        logs = {cell.method: (tmp_path / "logs" / cell.log).read_text() for cell in store.cells("explain") if cell.log}
    assert "in segfaults" in logs["faulty[how=segfault]"]  # where it crashed
    assert "in hangs" in logs["faulty[how=hang]"]  # where it hung


def test_samples_with_nan_have_the_reason_and_the_others_a_score(toy_plugins: None, tmp_path: Path) -> None:
    summary = go(tmp_path, toy(methods=("bright", "faulty[how=some-nan]"), gate_samples=0))
    table = scores(tmp_path)
    rows = table[(table["method"] == "faulty[how=some-nan]") & (table["metric"] == "inside")]
    good = table[(table["method"] == "bright") & (table["metric"] == "inside")]
    scored = rows["value"].notna().to_numpy()
    assert 0 < scored.sum() < 8
    assert set(rows["reason"][~scored]) == {"the map holds NaN"}
    assert rows["value"][scored].tolist() == good["value"][scored].tolist()
    assert summary.code == 3


def test_constant_maps_have_no_score_and_are_no_failure(toy_plugins: None, tmp_path: Path) -> None:
    summary = go(tmp_path, toy(methods=("bright", "faulty[how=zero]"), gate_samples=0))
    rows = scores(tmp_path).query("method == 'faulty[how=zero]'")
    assert rows["value"].isna().all()
    assert set(rows["reason"]) == {"the map is zero everywhere"}
    assert summary.code == 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (float("nan"), "the repeat map holds NaN or infinite values (1 of 4)"),
        (None, "the second time is one too many"),
    ],
)
def test_a_gate_is_not_dodged_by_an_error_in_the_maps_that_it_compares(
    toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: float | None, reason: str
) -> None:
    explained = explaining.in_batches

    def spoilt(explainer: Explainer, probe: Probe, x: Tensor, *more: Any) -> Explanation:
        found = explained(explainer, probe, x, *more)
        if explainer.name == "bright" and len(x) == 4:  # the samples of the gates
            if how is None:
                raise MibenchError("the second time is one too many")
            found.maps["map"][0, 0, 0] = how
        return found

    def inside(told: Summary) -> pd.DataFrame:
        return pd.read_csv(told.folder / "leaderboard.csv").query("metric == 'inside'").set_index("method")

    declared = toy(metrics=("inside", "drop", "repeatability"))
    clean = inside(go(tmp_path / "clean", declared))
    monkeypatch.setattr(explaining, "in_batches", spoilt)
    table = inside(go(tmp_path / "spoilt", declared))
    assert (clean.loc["bright", "status"], table.loc["learned", "status"]) == ("ok", "alone")
    assert table.loc["bright", "status"] == "gated"
    assert table.loc["bright", "reason"] == f"failed the gate repeatability: could not be judged: {reason}"


def test_a_metric_that_fails_on_one_row_scores_the_others(toy_plugins: None, tmp_path: Path) -> None:
    summary = go(tmp_path, toy(metrics=("inside", "picky")))
    table = pd.read_csv(tmp_path / "leaderboard.csv").query("metric == 'picky'").set_index("method")
    assert table.loc["bright", "status"] == "failed"
    assert "too bright for me" in table.loc["bright", "reason"]
    assert table.loc["learned", "status"] == "alone"
    assert {cell.method for cell, _ in summary.failures} == {"bright", "upside:bright"}


def test_failures_are_tried_again_only_when_asked(toy_plugins: None, tmp_path: Path) -> None:
    failing = toy(methods=("bright", "faulty"))
    first = go(tmp_path, failing)
    assert go(tmp_path, failing).computed == 0
    assert go(tmp_path, failing, rerun="failed").computed == len(first.failures)
    assert go(tmp_path, failing, rerun="all").computed == first.cells


def test_a_task_that_cannot_be_prepared_is_rows_and_the_other_task_goes_on(
    toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [{"model": "quadrants"}, {"model": "quadrants", "data": "corners", "samples": 5}]
    from mibench.run import explaining

    whole = explaining.make_task

    def half(spec: object, *more: object) -> object:
        if spec.samples == 5:
            raise RuntimeError("out of luck")
        return whole(spec, *more)

    task_of.cache_clear()
    monkeypatch.setattr(explaining, "make_task", half)
    summary = go(tmp_path, toy(tasks=tasks))
    assert summary.code == 3
    assert {outcome.reason.partition(" (")[0] for _, outcome in summary.failures} == {"RuntimeError: out of luck"}
    with pytest.raises(MibenchError, match="out of luck"):
        go(tmp_path / "other", toy(tasks=tasks[1:]))
    task_of.cache_clear()


def test_costs_are_counted_exactly(toy_plugins: None, tmp_path: Path) -> None:
    summary = go(tmp_path, toy())
    costs = {method: cost for (_, _, method), cost in summary.board.results.costs.items()}
    assert costs["bright"]["forward_passes"] == costs["bright"]["flops"] == 0
    assert costs["learned"]["forward_passes"] == 1
    convolution, linear = 2 * 8 * 8 * 2 * 9, 2 * 8 * 4
    assert costs["learned"]["flops"] == convolution + linear
    assert costs["learned"]["backward_passes"] == 0
    assert {"fit_seconds", "seconds", "seconds_p95", "forwards", "peak_memory"} <= set(costs["learned"])


def test_the_record_says_how_it_came_about(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, toy())
    with Store(tmp_path) as store:
        about = store.about()
    assert about.environment.libraries["torch"]
    assert about.tasks["corners/quadrants"].weights_hash
    assert about.tasks["corners/quadrants"].data_hash
    assert suite.load(str(tmp_path / "suite.toml")) == toy()


KILLED = """
from pathlib import Path
from tests.toy_suite import toy
from mibench.run.run import Options, run
if __name__ == "__main__":
    run(toy(shard=2, seeds=2), Options(out=Path("{}"), device="cpu", engine="local", jobs=2))
"""


def kill_and_go_on(folder: Path, moments: list[float]) -> None:
    """Kill a run some seconds after its record has begun, then finish it and compare with one that was not killed."""
    whole = go(folder / "whole", toy(shard=2, seeds=2))
    for moment in moments:
        command = [sys.executable, "-c", KILLED.format(folder / "killed")]
        process = subprocess.Popen(command, cwd=HERE.parent, stderr=subprocess.DEVNULL, start_new_session=True)
        while not (folder / "killed" / "run.json").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = go(folder / "killed", toy(shard=2, seeds=2))
    assert without_costs(finished) == without_costs(whole)
    assert finished.code == 0
    assert not list((folder / "killed").glob("**/*.part"))


def test_a_killed_run_goes_on_and_gives_the_same_board(toy_plugins: None, tmp_path: Path) -> None:
    kill_and_go_on(tmp_path, [0.5, 2.0])


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_gives_the_same_board(toy_plugins: None, tmp_path: Path) -> None:
    moments = random.Random(0)
    kill_and_go_on(tmp_path, [moments.uniform(0, 4) for _ in range(10)])


def test_a_device_that_is_not_there_is_named() -> None:
    assert device_of("cpu") == "cpu"
    for wrong in ("gpu", "cuda:99", "cuda:x"):
        with pytest.raises(UsageError, match=f"no device '{wrong}'"):
            device_of(wrong)
