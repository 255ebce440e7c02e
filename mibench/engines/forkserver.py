"""The process from which workers are forked, with one thread a process and with the heavy imports done.

Nothing heavy is imported here, so that a run can start it first and import what it needs itself meanwhile.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
MALLOC = {  # what glibc comes to by itself in a process that lives long: a new one would give memory back all the time
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
}


def processes() -> Any:
    """Where workers come from, started if it is not yet there; an interrupt is for the run alone, from the start."""
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mibench.engines.libraries"])
    before = {name: os.environ.get(name) for name in ONE_THREAD | MALLOC}
    os.environ.update(ONE_THREAD | MALLOC)
    resource_tracker.ensure_running()  # here, for it would let interrupts through again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return context


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Start processes that do not run the user's script again: nothing of theirs is in it, and it may be slow."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
