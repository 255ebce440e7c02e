"""What Python gives is what the command gives: the same maps, the same scores, the same board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import mibench as mb
from mibench.api.boards import Board
from mibench.errors import UsageError
from mibench.gate import regression
from mibench.gate.markdown import to_markdown
from mibench.gate.thresholds import read_thresholds
from mibench.leaderboard import reporting
from mibench.record.cells import TaskSpec
from mibench.record.store import Store
from mibench.run.explaining import sample_seeds
from mibench.run.task import Task, make_task
from mibench.suites.suite import Suite
from mibench.suites.suite import Task as Declared

METRICS = ("pixel-flipping", "sparseness", "attribution-localisation")
TINY = Suite(
    name="tiny",
    tasks=(Declared(model="planted"),),
    methods=("gradcam",),
    metrics=METRICS,
    samples=4,
    calibration=64,
    gate_samples=0,
    timed_samples=1,
)


def iba() -> mb.methods.Iba:
    return mb.methods.Iba(beta=5, steps=2, copies=2)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """The run of a suite with an object among its methods."""
    out = tmp_path_factory.mktemp("run")
    return mb.run(TINY, methods=["gradcam", iba()], out=out, device="cpu", engine="inline")


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task(TaskSpec("planted", "", 4, 64))


def test_the_board_is_a_frame_and_a_table(board: Board) -> None:
    assert not board.failures
    assert set(board.frame()["method"]) == {
        "gradcam",
        "iba[beta=5,copies=2,steps=2]",
        "iba[beta=5,copies=2,steps=2].calibrated",
    }
    assert "<table" in board._repr_html_()
    assert "<html" in board.page()


def test_maps_and_scores_are_the_commands(board: Board, task: Task) -> None:
    net = mb.open("planted")
    x, y, seeds = task.scoring.x, task.target, sample_seeds(task.scoring.ids, 0)
    fitted = iba().fit(net, task.calibration.x, task.calibration.label, seed=0)
    with Store(board.folder) as store:
        (name,) = store.about().tasks
        recorded, scores = reporting.row_maps(store, name), store.scores()
    for row, explainer in (("iba[beta=5,copies=2,steps=2]", fitted), ("gradcam", mb.methods.GradCam().fit(net))):
        maps = explainer(x, target=y, seed=seeds)
        assert torch.equal(maps["map"], torch.from_numpy(recorded[row]).float())
        for metric in METRICS[:2]:
            ours = mb.score(net, x, y, maps, metric, reference=task.calibration.x, seed=seeds)
            assert ours.tolist() == pytest.approx(of(scores, row, metric), rel=1e-6, nan_ok=True)
        given = {"mask": task.scoring.mask, "reference": task.calibration.x, "seed": seeds}
        ours = mb.metrics.attribution_localisation(net, x, y, maps["map"], **given)
        assert ours.tolist() == pytest.approx(of(scores, row, METRICS[2]), rel=1e-6, nan_ok=True)


def test_a_networks_own_samples_are_the_runs(task: Task) -> None:
    net = mb.open("planted")
    ours = net.samples("scoring", 4)
    assert torch.equal(ours.x, task.scoring.x)
    assert (ours.ids, ours.truth is None) == (task.scoring.ids, False)
    assert torch.equal(net.samples("calibration", 9, data="planted").x, task.calibration.x[:9])
    with pytest.raises(UsageError, match=r'give the data: samples\(data="folder:PATH"\)'):
        mb.open(torch.nn.Linear(3, 2), shape=(3,)).samples()


def of(scores: pd.DataFrame, row: str, metric: str) -> list[float]:
    """The recorded scores of a row in the order of the samples."""
    some = scores[(scores["method"] == row) & (scores["metric"] == metric)]
    return some["value"].tolist()


def test_the_gate_compares_a_run_with_another(board: Board, tmp_path: Path) -> None:
    again = mb.run(TINY, out=tmp_path, device="cpu", engine="inline")
    verdict = mb.gate(board, baseline=again.folder)
    printed = to_markdown(regression.gate(board.folder, tmp_path, read_thresholds()), str(tmp_path), str(board.folder))
    assert verdict._repr_markdown_() == printed
    assert verdict.passed
    assert not replace(verdict, comparison=SimpleNamespace(regressions=["one"])).passed
    with pytest.raises(UsageError, match="was written by"):
        mb.gate(board, baseline=board.folder)
