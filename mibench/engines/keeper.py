"""Every worker has a keeper, which forks it, and ends whatever the worker leaves running.

    run -> fork server (libraries, no plug-in) -> keeper -> worker (one tenant's code) -> whatever that starts

A keeper forks one worker after another for the tenants of one task. Where nothing but this package's code is needed for
it, the keeper first loads the task's network and samples, which its workers then have from the start, as copies.

The keeper adopts every process that the worker starts (Linux: PR_SET_CHILD_SUBREAPER), writes what they print to the
job's log, and kills them all when the worker has ended, when the run closes its connection, or when the run has ended.
Then it reports how the worker ended. A worker that kills its keeper dies with it, and only its own job fails; what
such a worker leaves running is adopted by the fork server, and ended by the run.

Of the descriptors that a fork inherits a worker keeps its connection to the run alone: through another it could end the
fork server. What it registers with multiprocessing's resource tracker goes to a file, which its keeper clears away.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import pickle
import resource
import select
import shutil
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import resource_tracker
from pathlib import Path

from mibench.engines.logs import Log
from mibench.engines.serving import Start, load, serve

ADOPT, DIE_WITH_PARENT = 36, 1  # PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG of Linux's prctl
PATIENCE = 5.0  # seconds in which what was killed must have ended
PIPE = 2**16
SIZE = 8  # bytes of an order's length
MAX_RESOURCES = 2**20  # bytes of a worker's list of shared memory and semaphores
GUILTY = "1000"  # to the kernel, which ends the guiltiest process when memory runs out


def keep(orders: socket.socket) -> None:
    """Fork workers one after another, until the run closes the connection."""
    os.setsid()
    adopt()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    woken, waking = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waking, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    is_ready = False
    while order := _next(orders):
        control, talk, start = order
        if start.ready and not is_ready:
            load(start)
            is_ready = True
        with control:
            _tend(control, talk, woken, start)
    os._exit(0)


def order(orders: socket.socket, connections: Sequence[socket.socket], start: Start) -> None:
    """Request a worker from a keeper: the run's side."""
    content = pickle.dumps(start)
    socket.send_fds(orders, [len(content).to_bytes(SIZE, "big")], [each.fileno() for each in connections])
    orders.sendall(content)


def _next(orders: socket.socket) -> tuple[socket.socket, socket.socket, Start] | None:
    """The connections of the next worker, to watch over it and to talk to it, and what it begins with."""
    size, descriptors, _, _ = socket.recv_fds(orders, SIZE, 2)
    if len(size) < SIZE:
        return None
    control, talk = (socket.socket(fileno=each) for each in descriptors)
    start: Start = pickle.loads(orders.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    return control, talk, start


def _tend(control: socket.socket, talk: socket.socket, woken: int, start: Start) -> None:
    """Fork a worker, watch over it, and end everything that is left of it."""
    printed, printing = os.pipe()
    resources, name = tempfile.mkstemp(dir=start.own_folder)
    os.unlink(name)
    given = {1: printing, 2: printing}
    if (tracking := resource_tracker.getfd()) is not None:
        given[tracking] = resources
    keeper = os.getpid()
    worker = os.fork()
    if worker == 0:
        try:
            signal.set_wakeup_fd(-1)
            _work(keeper, given, talk, start)
        except BaseException:  # a connection that a plug-in has closed
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(printing)
    talk.close()
    with contextlib.suppress(OSError):
        control.sendall(_line(pid=worker, server=os.getppid()))
    status = _watch(control, woken, printed, worker)
    os.close(printed)
    _release(resources)
    os.close(resources)
    shutil.rmtree(start.own_folder, ignore_errors=True)
    run = multiprocessing.parent_process()
    if run is not None and not run.is_alive():
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(start.own_folder))  # the run's, which only the last of its keepers can remove
    with contextlib.suppress(OSError):
        control.sendall(_line(exit=status))


def _work(keeper: int, given: Mapping[int, int], talk: socket.socket, start: Start) -> None:
    """Become the worker: a group of its own, and no descriptor but its connection and what it is given."""
    os.setsid()
    _prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != keeper:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(GUILTY)
    _replace_inherited(talk.fileno(), given)
    serve(talk, start)


def _replace_inherited(kept: int, given: Mapping[int, int]) -> None:
    """Put what is given, or the null device, in the place of every descriptor but one.

    None is closed: objects that still hold a number would then write to, or close, whatever is opened under it later.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, own in given.items():
        os.dup2(own, number, inheritable=number <= 2)
    for number in {*map(int, os.listdir("/dev/fd"))} - {nothing, kept, *given}:
        os.dup2(nothing, number, inheritable=number == 0)


def _release(resources: int) -> None:
    """Unlink the shared memory and the semaphores that a worker registered and did not release."""
    if not 0 < os.fstat(resources).st_size <= MAX_RESOURCES:
        return
    child = os.fork()  # for what it does closes this process's own streams
    if child == 0:
        with contextlib.suppress(BaseException):
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):  # it complains about lines that it cannot read, and about what was left
                os.dup2(nothing, stream)
            os.lseek(resources, 0, os.SEEK_SET)
            resource_tracker.main(resources)
        os._exit(0)
    os.waitpid(child, 0)


def _watch(control: socket.socket, woken: int, printed: int, worker: int) -> int:
    """Write the log until the worker ends or the run lets it go; how it ended, as from `os.waitstatus_to_exitcode`."""
    for each in (control.fileno(), printed):
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


def end_orphans(server: int) -> None:
    """Kill all that the fork server has adopted from keepers that were killed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        family = _families()
        keepers = {each.pid for each in multiprocessing.active_children()}
        orphans = [each for each in family.get(server, ()) if each not in keepers]
        if not orphans:
            break
        for each in [process for orphan in orphans for process in (orphan, *descendants(orphan))]:
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.001)


def descendants(process: int) -> list[int]:
    """The processes that a process has started, directly or not."""
    children, found, heads = _families(), [], [process]
    while heads:
        mine = children.pop(heads.pop(), [])
        found += mine
        heads += mine
    return found


def _families() -> dict[int, list[int]]:
    """The children of every process of this machine."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(file.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    return children


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


def adopt() -> None:
    """Become the parent of whatever a process that this one has started leaves behind."""
    _prctl(ADOPT, 1)


def _prctl(option: int, value: int) -> None:
    """Linux's prctl; elsewhere a worker's group is all that can be ended."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
