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
def test_an_import_that_would_end_the_run_is_set_aside(load: Callable[[], bytes], answer: str) -> None:
    assert answer in trial.ask(load, limit=0.5 if "0.5" in answer else 30)[1]


def closes_what_it_finds() -> bytes:
    os.closerange(0, 3)
    return b"fine"


def starts(mark: str) -> bytes:
    subprocess.Popen(["sleep", mark])
    return b"started"


def test_an_import_may_give_a_long_answer_and_close_what_it_finds() -> None:
    assert trial.ask(lambda: bytes(2**20)) == (bytes(2**20), "")
    assert trial.ask(closes_what_it_finds) == (b"fine", "")


def test_what_an_import_starts_does_not_outlive_it() -> None:
    mark = f"98{os.getpid()}"
    assert trial.ask(lambda: starts(mark)) == (b"started", "")
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep {mark}" not in listed
