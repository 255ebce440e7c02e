"""What all tests share: slow tests run only when asked for, one thread a process, no run touches the user's cache."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mibench.plugins import registry
from tests.effort import TENTH, Effort

os.environ.pop("COLUMNS", None)  # of the terminal where the tests run, which pytest-xdist passes on
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, where no Ctrl-C could be tried
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--times", type=int, default=10, help="how often a slow test does to a cluster what it does")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=[TENTH, pytest.param(1.0, marks=pytest.mark.slow)], ids=["a tenth", "in full"])
def effort(request: pytest.FixtureRequest) -> Effort:
    """How much of a simulation is done."""
    return Effort(request.param)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of somebody else's plug-ins, installed for one test."""
    folder = Path(__file__).parent / "thirdparty"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{folder.parent.parent}", prepend=":")
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()
