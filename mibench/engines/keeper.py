"""Beside every worker runs its keeper, which forks it, and ends whatever the worker leaves running.

    run -> fork server (libraries, no plug-in) -> keeper -> worker (one tenant's code) -> whatever that starts

The keeper adopts every process that the worker starts (Linux: PR_SET_CHILD_SUBREAPER), writes what they print to the
job's log, and kills them all when the worker has ended, when the run closes its connection, or when the run is gone.
Then it says how the worker ended. A worker that kills its keeper dies with it, and only its own job is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import select
import shutil
import signal
import socket
import time
import traceback
from pathlib import Path

from mibench.engines.logs import Log
from mibench.engines.serving import Start, serve

ADOPT, DIE_WITH_PARENT = 36, 1  # PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG of Linux's prctl
PATIENCE = 5.0  # seconds in which what was killed must have ended
PIPE = 2**16
GUILTY = "1000"  # to the kernel, which ends the guiltiest process when memory runs out


def keep(control: socket.socket, talk: socket.socket, start: Start) -> None:
    """Fork a worker, watch over it, and end everything that is left of it."""
    os.setsid()
    _prctl(ADOPT, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    printed, printing = os.pipe()
    keeper = os.getpid()
    worker = os.fork()
    if worker == 0:
        try:
            for mine in (control.detach(), woken, printed):
                os.close(mine)
            signal.set_wakeup_fd(-1)
            os.close(waking)
            _work(keeper, printing, talk, start)
        except BaseException:  # a connection that a plug-in has closed
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(printing)
    talk.close()
    with contextlib.suppress(OSError):
        control.sendall(_line(pid=worker))
    status = _watch(control, woken, printed, worker)
    shutil.rmtree(start.own_folder, ignore_errors=True)
    run = multiprocessing.parent_process()
    if run is not None and not run.is_alive():
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(start.own_folder))  # the run's, which only the last of its keepers can remove
    with contextlib.suppress(OSError):
        control.sendall(_line(exit=status))
    os._exit(0)


def _work(keeper: int, printing: int, talk: socket.socket, start: Start) -> None:
    """Become the worker: a group of its own, the log for whatever is printed."""
    os.setsid()
    _prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != keeper:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(GUILTY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((nothing, 0), (printing, 1), (printing, 2)):
        os.dup2(here, there)
    os.close(nothing)
    os.close(printing)
    serve(talk, start)


def _watch(control: socket.socket, woken: int, printed: int, worker: int) -> int:
    """Write the log until the worker ends or the run lets it go; how it ended, as `os.waitstatus_to_exitcode` says."""
    for each in (control.fileno(), woken, printed):
        os.set_blocking(each, False)
    log, orders, status, wanted = Log(None), b"", None, True
    sources = [control.fileno(), woken, printed]
    while status is None and wanted:
        ready, _, _ = select.select(sources, [], [])
        if printed in ready and not _drain(printed, log):
            sources.remove(printed)
        if woken in ready:
            _read(woken)
            status = _reaped(worker)
        if control.fileno() in ready:
            _drain(printed, log)  # all that the last job printed was there before the run knew that it was done
            more = _read(control.fileno())
            wanted = more != b""
            *lines, orders = (orders + (more or b"")).split(b"\n")
            for line in lines:
                log.close()
                log = Log(Path(json.loads(line)["log"]))
    status = end(worker, status)
    _drain(printed, log)
    log.close()
    return status


def end(worker: int, status: int | None) -> int:
    """Kill a worker and everything that it has started; how it ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            os.killpg(worker, signal.SIGKILL)
        if status is None:
            with contextlib.suppress(OSError):
                os.kill(worker, signal.SIGKILL)
            _, found = os.waitpid(worker, 0)
            status = os.waitstatus_to_exitcode(found)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break  # none is left
        for each in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.001)
    return -signal.SIGKILL if status is None else status


def descendants(process: int) -> list[int]:
    """The processes that a process has started, directly or not."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(file.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found, heads = [], [process]
    while heads:
        mine = children.pop(heads.pop(), [])
        found += mine
        heads += mine
    return found


def _reaped(worker: int) -> int | None:
    """How the worker ended if it has; whatever else has ended is forgotten."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == worker:
                status = os.waitstatus_to_exitcode(found[1])
    return status


def _drain(printed: int, log: Log) -> bool:
    """Move what is in the pipe to the log, but no more than fits into one; whether there may come more."""
    for _ in range(2):
        content = _read(printed)
        if not content:
            return content is None
        log.write(content)
    return True


def _read(descriptor: int) -> bytes | None:
    """What is there to be read: nothing is None, the end is empty."""
    try:
        return os.read(descriptor, PIPE)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _line(**content: int) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _prctl(option: int, value: int) -> None:
    """Linux's prctl; elsewhere a worker's group is all that can be ended."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
