"""Jobs that do what their cells' methods say, to try engines with."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import torch

from mibench.record.cells import Job, Loss, Outcome


def left_running() -> int:
    """A process in a session of its own, as a daemon has."""
    daemon = subprocess.Popen(["sleep", "600"], start_new_session=True)
    return daemon.pid


def descriptors() -> list[int]:
    """What this process has open, but for the streams and the folder that is read for this."""
    found = (int(name) for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}"))
    return [number for number in found if number > 2]


def perform(job: Job) -> list[Outcome] | Loss:
    """One outcome a cell; a cell may take the whole job down."""
    outcomes = []
    for cell in job.cells:
        more: dict[str, object] = {}
        if cell.method == "leave":
            os._exit(0)
        elif cell.method == "daemon":
            more = {"daemon": left_running()}
        elif cell.method == "daemon and hang":
            print(left_running(), flush=True)
            time.sleep(600)
        elif cell.method == "kill the keeper":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        elif cell.method == "daemon and kill the keeper":
            Path(job.setting.folder, "logs", "daemon").write_text(str(left_running()))
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        elif cell.method == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif cell.method == "swallow":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                with contextlib.suppress(BaseException):
                    time.sleep(600)
        elif cell.method == "leave threads":
            threading.Thread(target=time.sleep, args=[600], daemon=False).start()
            atexit.register(time.sleep, 600)
        elif cell.method == "close everything":
            os.closerange(0, 256)
        elif cell.method == "close the streams":
            sys.stdout.close()
            os.close(1)
            os.close(2)
        elif cell.method == "fork":
            os.fork()
        elif cell.method == "exit call":
            sys.exit(0)
        elif cell.method == "interrupt":
            raise KeyboardInterrupt
        elif cell.method == "dtype":
            torch.set_default_dtype(torch.float64)
        elif cell.method == "print":
            for _ in range(30):
                print("A" * 2**20)
        elif cell.method == "draft":
            Path(job.setting.folder, "maps", f"half.{os.getpid()}.part").write_bytes(b"half")
            os._exit(0)
        elif cell.method == "litter":
            Path(tempfile.mkdtemp(), "litter").write_text("litter")
            more = {"folder": tempfile.gettempdir()}
        elif cell.method == "garbage":
            for number in descriptors():
                with contextlib.suppress(OSError):
                    os.write(number, b"\xff" * 64)
        elif cell.method == "descriptors":
            more = {"descriptors": sorted({os.readlink(f"/proc/self/fd/{number}") for number in descriptors()})}
        elif cell.method == "shared memory":
            more = {"name": SharedMemory(create=True, size=64).name}
        elif cell.method == "another's answer":
            cell = replace(cell, key="another")
        elif cell.method == "modules":
            rooms = tuple(f"mibench.{room}." for room in ("methods", "metrics", "data"))
            more = {"plug-ins": [name for name in sys.modules if name.startswith(rooms)]}
            more["libraries"] = [name for name in ("captum", "numba", "torch", "zennit") if name in sys.modules]
        elif cell.method == "segfault":
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
        outcomes.append(
            Outcome(cell.key, "failed" if cell.method == "fail" else "ok", facts={"pid": os.getpid(), **more})
        )
    return outcomes
