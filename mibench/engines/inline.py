"""Jobs in this very process, one after the other, for a debugger.

Plug-ins share the process with the run and with each other: a crash takes the run down, nothing is stopped, and what a
plug-in does to the process reaches all that follows. Whatever it raises is still its own row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from mibench.engines.base import Engine, Perform
from mibench.errors import interrupts_told_apart
from mibench.record.cells import Job


class InlineEngine(Engine):
    """Performs a job when its outcome is requested."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def collect(self) -> list[tuple[Job, Any]]:
        job = self._jobs.popleft()
        with interrupts_told_apart():
            return [(job, self._perform(job))]

    def close(self, *, at_once: bool) -> None:
        self._jobs.clear()

    @property
    def pending(self) -> int:
        return len(self._jobs)

    @property
    def running(self) -> Sequence[Job]:
        return [self._jobs[0]] if self._jobs else []
