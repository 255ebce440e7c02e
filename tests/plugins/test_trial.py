"""What an import would do to the run, it does to a child."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from mibench.plugins import trial


def interrupts() -> None:
    raise KeyboardInterrupt


def raises() -> None:
    raise ValueError("not today")


@pytest.mark.parametrize(
    ("load", "answer"),
    [
        (lambda: os._exit(0), "ended the process (exit code 0)"),
        (lambda: os._exit(7), "ended the process (exit code 7)"),
        (lambda: ctypes.string_at(0), "ended the process (SIGSEGV)"),
        (lambda: sys.exit(0), "SystemExit"),
        (interrupts, "KeyboardInterrupt"),
        (raises, "ValueError: not today"),
        (lambda: time.sleep(60), "did not end within 0.5 s"),
    ],
)
def test_an_import_that_would_end_the_run_is_set_aside(load: Callable[[], object], answer: str) -> None:
    assert answer in trial.fault(load, limit=0.5 if "0.5" in answer else 30)


def test_an_import_that_works_is_no_fault_even_if_it_closes_what_it_finds() -> None:
    assert trial.fault(lambda: 3) == ""
    assert trial.fault(lambda: os.closerange(0, 3)) == ""


def test_what_an_import_starts_does_not_outlive_it() -> None:
    mark = f"98{os.getpid()}"
    assert trial.fault(lambda: subprocess.Popen(["sleep", mark])) == ""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep {mark}" not in listed
