"""What all benchmarks share: one table of what they measured.

    python -m pytest tests/benchmarks --slow --speed leaderboards/speed.csv

Each benchmark is a row: the least processor time that pytest-benchmark took, what else it put into `extra_info`, the
machine, and its load: other work leaves ratios alone but not seconds. A part of the benchmarks renews its own rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mibench.record import environment

HERE = Path(__file__).parent
MACHINE = f"{environment.processor()}, {environment.cores()} cores, torch {environment.version('torch')}"
ROWS = pytest.StashKey[list[dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--speed", type=Path, help="write what benchmarks measured to this CSV")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.benchmark(timer=time.process_time))


@pytest.fixture(autouse=True)
def row(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep what a benchmark measured, even if it misses its bound."""
    if "benchmark" in request.fixturenames and hasattr(request.config, "workerinput"):
        pytest.skip("timed where nothing runs beside it: run without -n")
    yield
    benchmark = request.node.funcargs.get("benchmark")
    if benchmark is not None and benchmark.stats is not None and benchmark.extra_info:  # else it broke off
        figures = {"benchmark": benchmark.group, "case": benchmark.name, "seconds": benchmark.stats.stats.min}
        where = {"machine": MACHINE, "load": os.getloadavg()[0]}
        request.config.stash.setdefault(ROWS, []).append(figures | benchmark.extra_info | where)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path, rows = session.config.getoption("--speed", None), session.config.stash.get(ROWS, [])
    if path is None or not rows:
        return
    table = pd.DataFrame(rows).set_index(["benchmark", "case"])
    if path.exists():
        old = pd.read_csv(path).set_index(["benchmark", "case"])
        table = pd.concat([old[~old.index.isin(table.index)], table])
    table.sort_index().convert_dtypes().to_csv(path, float_format="%.4g", lineterminator="\n")  # counts stay whole
