"""The run's side of a worker, the process in which one tenant's code runs."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import shutil
import signal
import socket
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from mibench.engines import frames
from mibench.engines.forkserver import processes, without_main
from mibench.engines.frames import Frame
from mibench.engines.keeper import PATIENCE, end_orphans, keep, order
from mibench.engines.serving import Start
from mibench.errors import MibenchError
from mibench.record import messages
from mibench.record.cells import Job, Loss, Tenant

SENDING = 60.0  # seconds in which a worker must have read a job


class Keeper:
    """The run's side of a keeper, which forks one worker after another for the tenants of a task."""

    def __init__(self, task: str) -> None:
        self.task = task
        self._orders, orders = socket.socketpair()
        with orders, without_main():
            self._process = processes().Process(target=keep, args=(orders,), daemon=True)
            self._process.start()

    @property
    def pid(self) -> int:
        """Its process."""
        pid: int = self._process.pid
        return pid

    def fork(self, start: Start) -> tuple[socket.socket, socket.socket]:
        """Connections to a new worker: through its keeper, and to itself; an OSError where the keeper has ended."""
        mine, theirs = zip(socket.socketpair(), socket.socketpair(), strict=True)
        self._orders.settimeout(SENDING)
        try:
            order(self._orders, theirs, start)
        except OSError:
            for each in mine:
                each.close()
            raise
        finally:
            for each in theirs:
                each.close()
        return mine

    def close(self, *, at_once: bool = False) -> None:
        """End it, with its worker if it has one."""
        self._orders.close()
        if at_once:
            self._process.kill()
        self._process.join(PATIENCE)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()


class Worker:
    """The run's side of a worker, which performs one job at a time."""

    def __init__(self, start: Start, tenant: Tenant, keeper: Keeper) -> None:
        self.tenant, self.keeper = tenant, keeper
        self.job: Job | None = None
        self.record = ""  # the folder of the run that it last worked for
        self.spent = False  # whether it is not to be given another job
        self._pid, self._server = 0, 0  # it and the fork server; unknown until its keeper has reported them
        self._folder = start.own_folder
        self._number = 0
        self._deadline = math.inf
        self._exit: int | None = None
        self._orders = b""
        self._kept = True  # whether its keeper watches over it
        self._deaf = False  # whether it could not be handed its job
        self._control, self._talk = keeper.fork(start)
        self._reader = frames.Reader(self._talk, messages.MAX_BYTES)

    @property
    def sources(self) -> list[socket.socket]:
        """What to wait on for news of it."""
        return [self._control] * self._kept + [self._talk] * (not self._reader.ended)

    @property
    def pid(self) -> int:
        """Its process, 0 while that is unknown."""
        if not self._pid:
            self._look_after()
        return self._pid

    @property
    def deadline(self) -> float:
        """When it must have answered."""
        return self._deadline if self.job else math.inf

    def begin(self, job: Job) -> None:
        """Hand over a job."""
        self.job, self._number = job, self._number + 1
        self._deadline = time.monotonic() + (job.seconds or math.inf)
        self.record, log = job.setting.folder, Path(job.setting.folder) / "logs" / job.log
        try:
            self._control.sendall(json.dumps({"log": str(log)}).encode() + b"\n")
            self._talk.settimeout(SENDING)
            frames.send(self._talk, Frame(self._number, False, pickle.dumps(job)))
        except OSError:
            self._deaf, self._deadline = True, time.monotonic() + PATIENCE  # its keeper may report how it ended

    def news(self) -> Any:
        """What became of its job: an answer, or a Loss; None while there is none."""
        self._look_after()  # first: what a worker wrote before it ended is there when its end is known
        frame, fault = self._message()
        if self.job is None:
            self.spent |= bool(frame or fault) or not self._kept or self._exit is not None
            return None
        answer: Any = None
        if frame:
            answer = messages.decode(self.job, frame.content)
            self.spent |= frame.last or _failed(answer)
        elif fault:
            answer, self.spent = Loss("failed", fault), True
        elif self._exit is not None or not self._kept:
            answer, self.spent = _left(self._exit), True
        elif time.monotonic() >= self._deadline:
            answer, self.spent = self._late(), True
        elif self._reader.ended:
            self._deadline = min(self._deadline, time.monotonic() + PATIENCE)  # its keeper will report how it ended
        return answer

    def end(self) -> bool:
        """End it with everything that it has started; whether its keeper is there for another one."""
        pid = self.pid
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        self._talk.close()
        last = time.monotonic() + PATIENCE
        while self._kept and (left := last - time.monotonic()) > 0:
            wait([self._control], left)
            self._look_after()
        kept_to_the_end = self._exit is not None and not self._kept
        if not kept_to_the_end:  # the keeper was killed or stopped
            with contextlib.suppress(OSError):
                os.killpg(pid or self.keeper.pid, signal.SIGKILL)
            self.keeper.close(at_once=True)
            end_orphans(self._server)
        self._control.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return kept_to_the_end

    def _message(self) -> tuple[Frame | None, str]:
        """The answer to its job if there is one; or what is wrong with what came."""
        try:
            frame = self._reader.poll()
        except frames.Broken as error:
            return None, f"the worker's answer cannot be used: {error}"
        if frame and (self.job is None or frame.number != self._number):
            return None, "the worker sent an unexpected answer"
        return frame, ""

    def _look_after(self) -> None:
        """Read the keeper's reports."""
        if not self._kept or self._control.fileno() < 0:
            return
        self._control.setblocking(False)
        try:
            report = self._control.recv(4096)
            self._kept = bool(report)
        except BlockingIOError:
            return
        except OSError:
            report, self._kept = b"", False
        *lines, self._orders = (self._orders + report).split(b"\n")
        for content in map(json.loads, lines):
            self._pid = content.get("pid", self._pid)
            self._server = content.get("server", self._server)
            self._exit = content.get("exit", self._exit)

    def _late(self) -> Loss:
        if self._deaf:
            return Loss("crash", "the worker did not read its job")
        if self._reader.ended:
            return Loss("crash", "the worker closed its connection to the run before it answered")
        seconds = self.job.seconds if self.job else None
        return Loss("timeout", f"took longer than the limit of {seconds or 0:g} s (--timeout) and was stopped")


def _failed(answer: Any) -> bool:
    """Whether something went wrong, so that the process is not to be trusted with another job."""
    if isinstance(answer, Loss):
        return answer.status != "skipped"
    outcomes = answer if isinstance(answer, list) else []
    return isinstance(answer, MibenchError) or any(each.status in ("failed", "oom", "crash") for each in outcomes)


def _left(code: int | None) -> Loss:
    """A worker that ended before it answered."""
    if code is None:
        return Loss("crash", "the worker ended before it answered, and so did the process that watches over it")
    if code == -signal.SIGKILL:
        return Loss("oom", "the worker was killed (SIGKILL), probably because memory ran out")
    if code < 0:
        return Loss("crash", f"the worker crashed ({signal.Signals(-code).name})")
    return Loss("crash", f"the worker left with exit code {code} before it answered")
