"""What carrying jobs costs: trivial cells a second on both engines, and how far two workers are from twice as fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mibench.engines.base import Engine, answers
from mibench.engines.local import LocalEngine
from tests.engines.test_local import cell, job
from tests.run.test_run import go
from tests.toy_suite import toy

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


def kind(engine: str) -> type[Engine]:
    """An engine by its name; the test is skipped where it is not installed."""
    if engine == "local":
        return LocalEngine
    pytest.importorskip("ray")
    from mibench.engines.ray import RayEngine

    return RayEngine


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_trivial_cells_a_second(benchmark: BenchmarkFixture, toy: None, tmp_path: Path, engine: str) -> None:
    from toy.chores import perform

    benchmark.group, benchmark.name = "engine", f"{engine}: {CELLS} trivial cells"
    made = kind(engine)
    cells = benchmark.pedantic(rate, (lambda: made(perform, 2), tmp_path))
    benchmark.extra_info.update(seconds=None, cells_a_second=cells)  # this process's own seconds say nothing of workers


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_two_workers_beside_one_on_real_cells(
    benchmark: BenchmarkFixture, toy_plugins: None, tmp_path: Path, engine: str
) -> None:
    """A small suite of real explainers; starting the workers and drawing the board counts, too."""
    kind(engine)
    benchmark.group, benchmark.name = "engine", f"{engine}: two workers beside one"
    suite = toy(methods=("iba", "ig", "occlusion"), metrics=("irof", "pixel-flipping"), samples=2048, shard=64)

    def wall(workers: int) -> float:
        before = time.perf_counter()
        go(tmp_path / str(workers), suite, engine=engine, jobs=workers)
        return time.perf_counter() - before

    go(tmp_path / "first", suite.model_copy(update={"samples": 8}), engine="inline")  # the network is learned here
    one, two = benchmark.pedantic(wall, (1,)), wall(2)
    benchmark.extra_info.update(seconds=None, wall=one, of_ideal=one / two / 2)
