"""A dry run counts what a run computes, opens nothing unless it is told to, and needs no more for more samples."""

from __future__ import annotations

import math
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from mibench.cli import main as cli
from mibench.cli.console import _basis
from mibench.errors import MibenchError, UsageError
from mibench.record import maps
from mibench.record.cells import Prepared, Setting
from mibench.record.store import Store
from mibench.run import dry_run as outlook
from mibench.run.planning import plan, specs
from mibench.run.run import Options
from mibench.suites.suite import MAX_SAMPLES, Suite, Task
from tests.run.test_run import go
from tests.toy_suite import toy

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def toy_plugins(toy: None) -> None:
    """The toys, under a name that leaves `toy` to the suite of them."""


@pytest.fixture
def mibench(
    toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """The command, given in this process and in an empty folder: its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mibench", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capfd.readouterr()

    return call


def counts(found: outlook.Outlook) -> dict[tuple[str, str], int]:
    return {(line.stage, line.subject): line.cells for line in found.lines}


@pytest.mark.parametrize(
    "changes", [{}, {"shard": 3, "seeds": 2}, {"samples": 7, "shard": 7}, {"samples": 5, "shard": 2}]
)
def test_cells_are_counted_as_a_run_plans_them(changes: dict[str, int], toy_plugins: None, tmp_path: Path) -> None:
    suite = toy(**changes)
    (spec,) = specs(suite)
    prepared = Prepared("corners/quadrants", "", "", 0.0, ("",) * suite.samples, (), (), (), {})
    cells = plan(suite, {spec: prepared}, Setting("."), 2).cells
    found = counts(outlook.outlook(suite, Options(out=tmp_path / "none")))
    assert sum(found.values()) == len(cells)
    for (stage, subject), count in found.items():
        assert count == sum(cell.stage == stage and (cell.metric or cell.method) == subject for cell in cells)


def test_no_more_is_allocated_for_more_samples(toy_plugins: None, tmp_path: Path) -> None:
    options = Options(out=tmp_path / "none")
    outlook.outlook(toy(), options)  # what is cached is allocated now
    peaks = []
    for samples in (8, MAX_SAMPLES):
        tracemalloc.start()
        found = outlook.outlook(toy(samples=samples), options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert counts(found)["explain", "noise"] == math.ceil(MAX_SAMPLES / 64) + 1  # and the gate's variant
    assert peaks[1] < 1.2 * peaks[0] + 20_000


def test_nothing_is_opened_unless_it_is_told_to(
    toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy.zoo import Corners, Quadrants

    def refuse(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(Quadrants, "load", refuse)
    monkeypatch.setattr(Corners, "load", refuse)
    options = Options(out=tmp_path / "none", engine="inline", device="cpu")
    found = outlook.outlook(toy(), options)
    assert found.storage is None
    assert found.guessed
    with pytest.raises(MibenchError, match="opened"):
        outlook.outlook(toy(), options, open_tasks=True)
    assert not (tmp_path / "none").exists()


def test_opened_tasks_give_a_forward_and_the_maps_size(toy_plugins: None, tmp_path: Path) -> None:
    suite, folder = toy(shard=3), tmp_path / "run"
    found = outlook.outlook(suite, Options(out=folder, engine="inline", device="cpu"), open_tasks=True)
    assert "one measured forward of each network" in _basis(found)
    assert not folder.exists()
    go(folder, suite)
    with Store(folder) as store:
        digests = {cell.key: cell.digest for cell in store.cells("explain")}
        made = [maps.read([maps.source(folder, key, digests)]).explanation.maps for key in digests]
    assert found.storage == sum(each.numel() * each.element_size() for one in made for each in one.values())
    after = outlook.outlook(suite, Options(out=folder))
    assert (after.storage, after.guessed, after.seconds) == (0, False, 0)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("quadrants", "folder:absent"),
        ("quadrants", "folder[boxes=absent]:."),
        ("quadrants", "mosaic:folder:absent"),
        ("quadrants", "csv:absent"),
        ("mlp[data=csv:absent]", "iris"),
        ("resnet18[weights=absent]", "corners"),
        ("user[weights=absent]:nowhere:build", "corners"),
    ],
)
def test_a_path_that_is_not_there_is_refused(
    model: str, data: str, toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = Suite(name="paths", tasks=(Task(model=model, data=data),), methods=("bright",), metrics=("drop",))
    with pytest.raises(UsageError, match="the path 'absent' does not exist"):
        outlook.outlook(suite, Options())


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("--methods", ""), "--methods is empty"),
        (("--metrics", " "), "--metrics is empty"),
        (("--models", ""), "--models is empty"),
        (("--data", ""), "--data is empty"),
        (("--methods", "ig,,iba"), "--methods: 'ig,,iba' has an empty entry"),
        (("--metrics", "road,"), "--metrics: 'road,' has an empty entry"),
        (("--open",), "--open is for --dry-run"),
        (("--data", "folder:absent", "--dry-run"), "the path 'absent' does not exist"),
    ],
)
def test_words_that_mean_nothing_are_one_line(words: tuple[str, ...], answer: str, mibench: Command) -> None:
    code, _, error = mibench("run", *words)
    assert (code, error.count("\n")) == (2, 1)
    assert answer in error


NETS = """
from torch import nn

def build():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    return network.append(nn.Softmax(1))
"""


def test_what_is_conspicuous_is_said_before_and_stays_on_the_board(mibench: Command, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "mynets.py").write_text(NETS)
    for label in "<b>", "c":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for index in range(4):
            Image.effect_noise((12, 12), 9 + index).save(tmp_path / "pictures" / label / f"{index}.png")
    words = ("--models", "user[local=1,representation=3,shape=3x16x16]:mynets:build", "--data", "folder:pictures")
    words += ("--methods", "bright", "--metrics", "drop", "--samples", "4", "--engine", "inline", "--out", "first")
    (tmp_path / "toy.toml").write_text('name = "toy"\nmethods = []\n[[tasks]]\nmodel = "quadrants"\n')
    dry = mibench("run", "toy.toml", *words, "--dry-run", "--open")[1]
    assert not (tmp_path / "first").exists()
    code, out, _ = mibench("run", "toy.toml", *words)
    assert code == 0
    with Store(tmp_path / "first") as store:
        (about,) = store.about().tasks.values()
    page = (tmp_path / "first" / "leaderboard.html").read_text()
    for notice in (
        "after a softmax",
        "smaller than the model's input",
        "not significantly above chance",
        "calibration samples",
    ):
        assert sum(notice in each for each in about.notices) >= 1, about.notices
        assert notice.replace("'", "&#39;") in page
        for printed in (dry, out):
            line = next(line for line in printed.splitlines() if notice in line)
            assert line.startswith("warning: folder:pictures/user[")
    assert out.index("after a softmax") < out.index("cells, 0 of them computed before")
