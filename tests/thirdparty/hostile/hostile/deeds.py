"""What any plug-in's code may do to the process that it runs in, one small function a deed, by group.

A deed takes nothing and returns nothing: an explainer, a metric, a model or data does it and then answers properly.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import functools
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mibench.errors import RecordError
from mibench.plugins.contract import Unsupported

from .attacks import ATTACKS
from .sabotage import CHILDREN, CONNECTION, FILES, INTERPRETER, LATE, LIMITS

Deed = Callable[[], object]
FOREVER = 10**6  # seconds


class Nasty(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("str fails")


class Unpicklable(Exception):
    """An exception that cannot travel to another process."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("cannot be pickled")
        self.closure = lambda: one + two


def throw(error: BaseException) -> None:
    """Raise, where only an expression can be written."""
    raise error


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def fill_device() -> None:
    with open("/dev/full", "w") as full:
        full.write("x" * 10**6)


def recurse() -> None:
    recurse()


def recurse_without_limit() -> None:
    sys.setrecursionlimit(10**9)
    recurse()


def close_standard_streams() -> None:
    os.close(1)
    os.close(2)


def switch_device() -> None:
    torch.set_default_device("meta")


def enter_inference() -> None:
    KEPT.enter_context(torch.inference_mode())


KEPT = contextlib.ExitStack()  # never left


def seed_everything() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)


def lower_precision() -> None:
    torch.set_flush_denormal(True)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]


def lock_own_database() -> None:
    sqlite3.connect(":memory:").execute("BEGIN EXCLUSIVE")


def hook_all_modules() -> None:
    nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output * 0)


def ones(x: Tensor, inplace: bool = False) -> Tensor:
    return x * 0 + 1


def patch_function() -> None:
    nn.functional.relu = ones


def patch_layer() -> None:
    nn.ReLU.forward = lambda self, x: ones(x)  # type: ignore[method-assign]


def patch_tensor() -> None:
    Tensor.mean = lambda self, *axes, **more: torch.zeros(())  # type: ignore[method-assign]


def start_thread() -> None:
    threading.Thread(target=time.sleep, args=[FOREVER], daemon=False).start()


def spin() -> None:
    threading.Thread(target=lambda: all(iter(lambda: True, None)), daemon=True).start()


def start_child() -> None:
    subprocess.Popen(["sleep", "987"])


def fork_and_sleep() -> None:
    if os.fork() == 0:
        time.sleep(987)


def ignore_and_sleep() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(FOREVER)


def swallow_everything() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1)


def print_much() -> None:
    for _ in range(200):
        print("A" * 2**20)


EXITS: Mapping[str, Deed] = {
    "osexit0": lambda: os._exit(0),
    "sysexit0": lambda: sys.exit(0),
    "sysexit5": lambda: sys.exit(5),
    "sysexithtml": lambda: sys.exit("<b>x</b>"),
    "abrt": os.abort,
    "segv": lambda: ctypes.string_at(0),
    "stop": lambda: send(signal.SIGSTOP),
    "term": lambda: send(signal.SIGTERM),
}
EXCEPTIONS: Mapping[str, Deed] = {
    "kbd": lambda: throw(KeyboardInterrupt()),
    "base": lambda: throw(BaseException("base")),
    "genexit": lambda: throw(GeneratorExit()),
    "recorderror": lambda: throw(RecordError("mine")),
    "enospc": lambda: throw(OSError(errno.ENOSPC, "No space left on device")),
    "devfull": fill_device,
    "erofs": lambda: throw(OSError(errno.EROFS, "Read-only file system")),
    "nasty": lambda: throw(Nasty()),
    "unpicklable": lambda: throw(Unpicklable(1, 2)),
    "bigmsg": lambda: throw(ValueError("<script>alert(1)</script>" + "A" * 10**7)),
    "surrogate": lambda: throw(ValueError("bad \udcff surrogate \x00 nul")),
    "unsupported": lambda: throw(Unsupported("=cmd|' /C calc'!A0 <img src=x onerror=alert(1)>\n\"quoted\"")),
    "recursion": recurse,
    "crecursion": recurse_without_limit,
}
STATE: Mapping[str, Deed] = {
    "closestdout": lambda: sys.stdout.close(),
    "closefd": close_standard_streams,
    "closeall": lambda: os.closerange(3, 256),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "dtype16": lambda: torch.set_default_dtype(torch.float16),
    "device": switch_device,
    "threads": lambda: torch.set_num_threads(2),
    "nograd": lambda: torch.set_grad_enabled(False),
    "inference": enter_inference,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "warnerror": lambda: warnings.simplefilter("error"),
    "nperr": lambda: np.seterr(all="raise"),
    "cwd": lambda: os.chdir("/"),
    "env": os.environ.clear,
    "rng": seed_everything,
    "precision": lower_precision,
    "lockdb": lock_own_database,
}
PATCHES: Mapping[str, Deed] = {
    "hookglobal": hook_all_modules,
    "patchrelu": patch_function,
    "patchforward": patch_layer,
    "patchtensor": patch_tensor,
}
PROCESSES: Mapping[str, Deed] = {
    "thread": start_thread,
    "spin": spin,
    "atexit": lambda: atexit.register(time.sleep, FOREVER),
    "child": start_child,
    "fork": fork_and_sleep,
    "forkreturn": os.fork,
    "killserver": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "hang": lambda: time.sleep(FOREVER),
    "sigterm_ign": ignore_and_sleep,
    "swallow": swallow_everything,
    "gil": lambda: ctypes.PyDLL(None).pause(),
    "regex": lambda: re.match(r"(a+)+$", "a" * 60 + "b"),
}
MEMORY: Mapping[str, Deed] = {
    "alloc100": lambda: torch.empty(100 << 30, dtype=torch.uint8).fill_(1),
    "nparray": lambda: np.ones(10**12),
    "bytes": lambda: b"x" * 10**13,
    "print": print_much,
}
GROUPS: Mapping[str, Mapping[str, Deed]] = {
    "exits": EXITS,
    "exceptions": EXCEPTIONS,
    "state": STATE,
    "patches": PATCHES,
    "processes": PROCESSES,
    "memory": MEMORY,
    "limits": LIMITS,
    "files": FILES,
    "late": LATE,
    "interpreter": INTERPRETER,
    "connection": CONNECTION,
    "children": CHILDREN,
    "attacks": ATTACKS,
}
ANYWHERE: Mapping[str, Deed] = functools.reduce(lambda one, two: {**one, **two}, GROUPS.values())
