"""Plug-ins that misbehave end as `thirdparty/hostile/ends.csv` lists, and change nothing that is not theirs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests import hostile_runs
from tests.hostile_runs import Case, Cell, End

HERE = Path(__file__).parent
SAMPLE = (
    "method:(osexit0|sysexit0|kbd|nasty|bigmsg|mutatex|mutatew|dtype|hookglobal|nan|int|child|garbage)",
    "fit:(sysexit0|mutatex)",
    "metric:(osexit0|mutatex)",
    "data:base",
    "import:(raises|sysexit0)",
)
KINDS = sorted({(case.plugin, case.group) for case in hostile_runs.cases()})


def tried(folder: Path, *words: str) -> dict[str, dict[str, str]]:
    """What did not survive: case -> claim -> how it does not hold."""
    command = [sys.executable, "-m", "tests.hostile_runs", *words, "--json", str(folder / "lost.json")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
    assert (folder / "lost.json").exists(), ended.stderr[-2000:]
    return json.loads((folder / "lost.json").read_text())


def test_the_table_lists_every_misbehaviour_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (hostile_runs.TOYS, hostile_runs.HOSTILE):
        monkeypatch.syspath_prepend(str(folder))
    from hostile import at_import, deeds, methods, metrics, zoo

    listed: dict[str, list[str]] = {}
    for case in hostile_runs.cases():
        listed.setdefault(case.plugin, []).append(case.does)
    every = {*deeds.ANYWHERE, *methods.INPUTS, *methods.NETWORK, *methods.ANSWERS}
    assert Counter(listed["method"]) == Counter(every)
    assert len(every) >= 94
    assert set(listed["fit"]) <= every | set(methods.STATES)
    assert set(listed["metric"]) <= {*deeds.ANYWHERE, *metrics.INPUTS, *metrics.ANSWERS, "needs"}
    assert set(listed["model"]) <= {*deeds.ANYWHERE, *zoo.FORWARDS, "nanweights"}
    assert set(listed["data"]) <= {*deeds.ANYWHERE, *zoo.SAMPLES}
    assert set(listed["import"]) == set(at_import.SOURCES)
    assert all(len(does) == len(set(does)) for does in listed.values())


CASE = Case("method", "inputs", "mutatex", "0|3", "ok|failed", "")
OTHER = Cell("1", "score", "t", "bright", "inside", 0, "", 0, "ok", "", "", ((0, 0.5, ""),))


@pytest.mark.parametrize(
    ("changed", "how"),
    [
        (replace(OTHER, scores=((0, 0.5 + 2**-53, ""),)), "has other numbers"),
        (replace(OTHER, status="failed"), "ok became failed"),
        (replace(OTHER, file="f00"), "has other numbers"),
        (replace(OTHER, key="2"), "1 cells more and 1 cells fewer"),
    ],
)
def test_a_change_of_one_bit_in_anothers_cell_is_seen(changed: Cell, how: str) -> None:
    assert hostile_runs._difference({OTHER.key: OTHER}, {OTHER.key: OTHER}) == ""
    assert how in hostile_runs._difference({changed.key: changed}, {OTHER.key: OTHER})


def test_a_culprit_that_misleads_its_own_later_cells_is_seen() -> None:
    own, twin = (replace(OTHER, method=name, variant="other-class") for name in (CASE.culprit, CASE.twin))
    places = {hostile_runs._place(twin): twin}
    assert hostile_runs._bent(CASE, [own], places) == ""
    assert "not what its twin has" in hostile_runs._bent(CASE, [replace(own, scores=())], places)


@pytest.mark.parametrize(("code", "wrong"), [(0, True), (None, True), (3, False), (1, True)])
def test_a_run_that_ends_in_another_way_than_the_table_lists_is_seen(code: int | None, wrong: bool) -> None:
    assert bool(hostile_runs._wrong_end([replace(CASE, code="3")], End(code, 1.0, ""))) == wrong


def test_a_process_that_a_child_leaves_behind_is_seen() -> None:
    code = (
        "import os, subprocess, sys\nfrom tests import hostile_runs\n"
        "hostile_runs.adopt_orphans()\n"
        "subprocess.run(['sh', '-c', 'setsid sleep 987 >/dev/null &'], check=True)\n"
        "left = hostile_runs._descendants()\nprint(*left.values(), sep=';')\n"
        "for process in left: os.kill(process, 9)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True)
    assert re.search(r"sleep 987", told.stdout)


def test_culprits_of_each_kind_at_once_harm_nobody_under_the_real_command(tmp_path: Path) -> None:
    assert tried(tmp_path, *SAMPLE, "--together", "--command") == {}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("plugins", ["(method|fit):.*", "(metric|model|data|import):.*"])
def test_a_larger_sample_at_once_harms_nobody(tmp_path: Path, plugins: str) -> None:
    assert tried(tmp_path, plugins, "--together", "--every", "3") == {}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("plugin", "group"), KINDS, ids=[f"{plugin}-{group}" for plugin, group in KINDS])
def test_each_misbehaviour_ends_as_the_table_lists(tmp_path: Path, plugin: str, group: str) -> None:
    assert tried(tmp_path, f"{plugin}:.*", "--group", group) == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_third_of_them_harm_nobody_on_a_ray_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra mibench[ray] is not installed")
    assert tried(tmp_path, "(method|fit|metric|data):.*", "--together", "--every", "3", "--engine", "ray") == {}
