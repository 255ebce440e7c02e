"""What the harness adds to the work that it orders, and what its record, statistics and page cost, in one process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mibench.leaderboard import reporting
from mibench.leaderboard.page import to_html
from mibench.leaderboard.tables import board
from mibench.plugins import registry
from mibench.record.cells import Outcome
from mibench.record.store import Store
from mibench.run import explaining
from mibench.run.run import Options, run
from mibench.suites import suite
from tests.benchmarks.clock import seconds

pytestmark = pytest.mark.slow
METHODS = ["ig", "smoothgrad", "gradient-shap", "iba", "occlusion", "gradcam", "saliency", "lrp"]
DECLARED = suite.narrow(suite.load("default"), models=["cnn-m"], methods=METHODS)


class Clock:
    """The time spent inside of some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            before = time.perf_counter()
            try:
                return work(*arguments, **keywords)
            finally:
                self.seconds += time.perf_counter() - before

        return timed


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of a run, and what the harness added to explaining and scoring, as a share."""
    registry.model("cnn-m").load()  # training is not the harness's, and neither is loading
    folder, clock = tmp_path_factory.mktemp("run"), Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explaining, "make_task", clock.around(explaining.make_task))
        for method in DECLARED.chosen_methods():
            cls = type(method.explainer)
            for name in ("learn", "restore", "explain"):
                if hasattr(cls, name):
                    patch.setattr(cls, name, clock.around(getattr(cls, name)))
        for metric in DECLARED.chosen_metrics():
            patch.setattr(type(metric), "score", clock.around(type(metric).score))
        before = time.perf_counter()
        summary = run(DECLARED, Options(out=folder, device="cpu", engine="inline"))
        total = time.perf_counter() - before
    assert not summary.failures
    return folder, total / clock.seconds - 1


@pytest.fixture
def store(ran: tuple[Path, float], tmp_path: Path) -> Iterator[Store]:
    """A copy of the run's record, to be read and written."""
    shutil.copytree(ran[0], tmp_path / "copy")
    with Store(tmp_path / "copy", write=True) as store:
        yield store


def measure(benchmark: BenchmarkFixture, name: str, work: Callable[[], object], **figures: float) -> None:
    """A row of the table, in forward passes of one sample by the explained network."""
    benchmark.group, benchmark.name = "harness", name
    benchmark.pedantic(work, rounds=3)
    model = registry.model("cnn-m")
    network, x = model.load(), torch.zeros(1, *model.shape)
    with torch.no_grad():
        forward = seconds(lambda: network(x), 100)
    benchmark.extra_info.update(forwards=benchmark.stats.stats.min / forward, **figures)


def test_the_harness_adds_under_a_twentieth_to_explaining_and_scoring(
    benchmark: BenchmarkFixture, ran: tuple[Path, float]
) -> None:
    folder, share = ran
    options = Options(out=folder, device="cpu", engine="inline")
    measure(benchmark, "the same run again", lambda: run(DECLARED, options), added_share=share)
    assert share < 0.05


def test_writing_the_record(benchmark: BenchmarkFixture, store: Store) -> None:
    cells = store.cells("score")
    count = len(store.samples(cells[0].task))
    outcomes = [Outcome(cell.key, "ok", scores=(0.5,) * count, reasons=("",) * count) for cell in cells]

    def write() -> None:
        for outcome in outcomes:
            store.record([outcome], "")

    measure(benchmark, "writing the record", write, cells=len(cells), scores=count * len(cells))
    assert (store.scores()["value"] == 0.5).all()


def test_reading_the_record(benchmark: BenchmarkFixture, store: Store) -> None:
    measure(benchmark, "reading the record", store.scores, cells=len(store.cells("score")), scores=len(store.scores()))


def test_statistics(benchmark: BenchmarkFixture, store: Store) -> None:
    results = reporting.results_of(store)
    measure(benchmark, "statistics", lambda: board(results), scores=len(results.scores))


def test_the_page(benchmark: BenchmarkFixture, store: Store) -> None:
    made = board(reporting.results_of(store))
    measure(benchmark, "the page", lambda: to_html(made))
