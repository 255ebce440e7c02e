"""Jobs that do what their cells' methods say, to try engines with."""

from __future__ import annotations

import ctypes
import os
import signal
import time

from mibench.jobs import Job, Loss, Outcome


def perform(job: Job) -> list[Outcome] | Loss:
    """One outcome a cell; a cell may take the whole job down."""
    outcomes = []
    for cell in job.cells:
        if cell.method == "segfault":
            ctypes.string_at(0)
        elif cell.method == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif cell.method == "exit":
            os._exit(7)
        elif cell.method == "hang":
            print(os.getpid(), flush=True)
            time.sleep(600)
        elif cell.method == "nap":
            time.sleep(0.5)
        elif cell.method == "eat":
            eaten = []
            while len(eaten) < 60:  # twelve GiB at most
                eaten.append(b"x" * (200 << 20))
                time.sleep(0.1)
        elif cell.method == "loss":
            return Loss("failed", "as it was told to")
        outcomes.append(Outcome(cell.key, "failed" if cell.method == "fail" else "ok", facts={"pid": os.getpid()}))
    return outcomes
