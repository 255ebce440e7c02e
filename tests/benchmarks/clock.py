"""Processor time, to which neighbours on the machine add little, and least of all to the least over a few calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def timed(work: Callable[[], Result], calls: int = 1) -> tuple[Result, float]:
    """What the last call gave, and the least processor time of all calls."""
    taken = []
    for _ in range(calls):
        before = time.process_time()
        result = work()
        taken.append(time.process_time() - before)
    return result, min(taken)


def seconds(work: Callable[[], object], calls: int = 1) -> float:
    """The least processor time of a few calls."""
    return timed(work, calls)[1]
