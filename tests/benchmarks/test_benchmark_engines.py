"""What carrying jobs costs: trivial cells a second on both engines, and how far two workers are from twice as fast."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_engine_local import cell, job
from test_run import go
from toy_suite import toy

from mibench.engines.base import Engine, answers
from mibench.engines.local import LocalEngine

CELLS = 2000


@pytest.fixture
def toy_plugins(toy: None) -> None:
    """The toys, under a name that leaves `toy` to the suite of them."""


def rate(make: Callable[[], Engine], folder: Path) -> float:
    """Trivial cells a second, each a job of its own, once the workers are warm."""
    setting = replace(job(cell("")).setting, folder=str(folder))
    jobs = [replace(job(cell(str(number))), setting=setting) for number in range(CELLS)]
    with make() as engine:
        list(answers(engine, jobs[:8], {}))
        before = time.perf_counter()
        told = list(answers(engine, jobs, {}))
        seconds = time.perf_counter() - before
    assert len(told) == CELLS
    return CELLS / seconds


def load() -> str:
    """How busy the machine was, for figures from a busy one say little."""
    return f"; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


@pytest.mark.slow
def test_trivial_cells_a_second_on_both_engines(toy: None, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from toy.chores import perform

    from mibench.engines.ray import RayEngine

    local, ray = (rate(lambda kind=kind: kind(perform, 2), tmp_path) for kind in (LocalEngine, RayEngine))
    print(
        f"\n{CELLS} trivial cells: local {local:.0f} a second, ray {ray:.0f} a second "
        f"({ray / local:.2f} of local){load()}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_two_workers_beside_one_on_real_cells(toy_plugins: None, tmp_path: Path, engine: str) -> None:
    """A small suite of real explainers; starting the workers and drawing the board counts, too."""
    if engine == "ray":
        pytest.importorskip("ray")
    suite = toy(methods=("iba", "ig", "occlusion"), metrics=("irof", "pixel-flipping"), samples=64, shard=8)
    seconds = {}
    for workers in (1, 2):
        before = time.perf_counter()
        go(tmp_path / str(workers), suite, engine=engine, jobs=workers)
        seconds[workers] = time.perf_counter() - before
    print(
        f"\n{engine}: one worker {seconds[1]:.1f} s, two {seconds[2]:.1f} s: {seconds[1] / seconds[2] / 2:.2f} of ideal"
        f"{load()}"
    )
