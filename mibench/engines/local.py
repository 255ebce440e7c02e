"""Jobs in processes of this machine: a crash or a hard timeout costs the job that caused it and no other.

Workers come from a fork server that has imported torch once, so a lost worker is replaced in milliseconds. Each
computes with one thread: results do not depend on how many work side by side.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pebble import ProcessExpired, ProcessPool

from mibench.engines.base import Engine, Perform
from mibench.engines.forkserver import ONE_THREAD, processes
from mibench.errors import MibenchError
from mibench.jobs import Job, Loss


class LocalEngine(Engine):
    """Worker processes, each performing one job at a time."""

    def __init__(self, perform: Perform, workers: int) -> None:
        self.workers = workers
        self._perform = perform
        self._came_back: queue.SimpleQueue[tuple[Job, Any]] = queue.SimpleQueue()
        self._futures: dict[int, tuple[Job, Any]] = {}
        self._pool = ProcessPool(
            max_workers=workers, initializer=_begin, initargs=(dict(os.environ),), context=processes()
        )

    def submit(self, job: Job) -> None:
        future = self._pool.schedule(self._perform, args=[job], timeout=job.seconds)
        self._futures[id(future)] = job, future
        future.add_done_callback(lambda done: self._came_back.put((job, done)))

    def collect(self, within: float | None = None) -> list[tuple[Job, Any]]:
        """Wait, but no longer than `within` seconds if there are any, until something came back."""
        try:
            came_back = [self._came_back.get(timeout=within)]
        except queue.Empty:
            return []
        while not self._came_back.empty():
            came_back.append(self._came_back.get())
        return [(job, _answer(self._futures.pop(id(future))[1])) for job, future in came_back]

    def close(self, *, at_once: bool) -> None:
        end: Callable[[], None] = self._pool.stop if at_once else self._pool.close
        end()
        self._pool.join()

    @property
    def pending(self) -> int:
        return len(self._futures)

    @property
    def running(self) -> Sequence[Job]:
        return [job for job, future in list(self._futures.values()) if future.running()]


def _begin(environment: dict[str, str]) -> None:
    """Make a new worker ready: the parent's environment, one thread, no life after the parent's."""
    os.environ.update(environment | ONE_THREAD)
    threading.Thread(target=_die_with_the_run, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _die_with_the_run() -> None:
    """Wait for the run itself: the fork server, our parent by number, lives as long as any of its workers."""
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)


def _answer(future: Any) -> Any:
    """What a job returned, or how it was lost."""
    try:
        return future.result()
    except concurrent.futures.TimeoutError:
        return Loss("timeout", "took longer than --timeout and was stopped")
    except ProcessExpired as error:
        return _expired(error.exitcode)
    except MibenchError:
        raise  # the run itself cannot go on
    except concurrent.futures.CancelledError:
        return Loss("failed", "was cancelled")
    except Exception as error:  # the job's own code is guarded; what reaches us is a job that cannot travel
        return Loss("failed", f"{type(error).__name__}: {error}")


def _expired(exitcode: int) -> Loss:
    if exitcode == -signal.SIGKILL:
        return Loss("oom", "the worker was killed (SIGKILL), most likely for want of memory")
    if exitcode < 0:
        return Loss("crash", f"the worker crashed ({signal.Signals(-exitcode).name})")
    return Loss("crash", f"the worker left with exit code {exitcode}")
