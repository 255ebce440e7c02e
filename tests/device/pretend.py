"""Builds and registers the pretend accelerator of `pretend.cpp` as torch's device "pretend", and reads its ledger.

Compiled once for each source and version of torch, in mibench's cache folder, by torch.utils.cpp_extension. A process
of its own gets the device by torch's plug-in mechanism: `installed(folder)` writes a distribution whose entry point
`torch.backends` torch loads when it is imported.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

SOURCE = Path(__file__).with_name("pretend.cpp")
NAME = "pretend"
NO_LAUNCH = ("aten::is_same_size",)  # asks for shapes alone


class NoCompiler(Exception):
    """The device cannot be built here; the message says what is missing."""


@functools.cache
def native() -> Any:
    """The compiled extension, built if it is not in the cache."""
    content = hashlib.sha256(SOURCE.read_bytes() + f"{torch.__version__} {sys.version}".encode()).hexdigest()[:16]
    folder = _cache() / NAME / content
    name = f"pretend_{content}"
    library = folder / f"{name}.so"
    if not library.exists():
        _build(name, folder)
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cache() -> Path:
    """mibench's cache folder; written here again, because torch loads this file before mibench can be imported."""
    return Path(os.environ.get("MIBENCH_CACHE") or Path.home() / ".cache" / "mibench")


def _build(name: str, folder: Path) -> None:
    """Compile the source, in one process at a time; a lock of the kernel's ends with the process that holds it."""
    from torch.utils import cpp_extension

    for tool in ("c++", "ninja"):
        if shutil.which(os.environ.get("CXX", tool) if tool == "c++" else tool) is None:
            raise NoCompiler(f"{tool} is missing: install g++ and ninja")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock.ours").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / f"{name}.so").exists():
            (folder / "lock").unlink(missing_ok=True)  # torch's own, of a build that was killed
            cpp_extension.load(name, [str(SOURCE)], ["-O0"], build_directory=str(folder), is_python_module=False)


class Module(ModuleType):
    """`torch.pretend`: what torch and mibench ask of a device's module."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return int(native().DEVICES)

    def current_device(self) -> int:
        return int(native().current())

    def set_device(self, device: Any) -> None:
        native().set_current(_index(device))

    def get_device_name(self, device: Any = None) -> str:
        return "device in host memory"

    def manual_seed_all(self, seed: int) -> None:
        native().seed(seed % 2**64)

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def empty_cache(self) -> None:
        pass

    def memory_allocated(self, device: Any = None) -> int:
        return int(native().held(_index(device)))

    def max_memory_allocated(self, device: Any = None) -> int:
        return int(native().peak(_index(device)))

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        native().forget_peak(_index(device))

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return 1 << 30, 1 << 30


def _index(device: Any) -> int:
    if device is None:
        return int(native().current())
    return device if isinstance(device, int) else torch.device(device).index or 0


@functools.cache
def register() -> None:
    """Make "pretend" a device of this process; torch allows it once."""
    native()
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, Module(NAME))
    torch.utils.generate_methods_for_privateuse1_backend()


@dataclass
class Counts:
    """What work on the device came to."""

    launches: int = 0  # of kernels
    waits: int = 0  # of the host, for a value: item() and kernels whose output's size is a value
    to_host: int = 0
    to_device: int = 0
    draws: int = 0  # of random numbers by the device
    by_kernel: dict[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def counted() -> Iterator[Counts]:
    """Count what the device does meanwhile; the figures are filled in at the end."""
    native().reset()
    counts = Counts()
    yield counts
    counts.by_kernel = {name: n for name, n in native().launches().items() if name not in NO_LAUNCH}
    counts.launches, counts.waits = sum(counts.by_kernel.values()), sum(native().waits().values())
    for name, number in native().figures().items():
        setattr(counts, name, number)


@contextlib.contextmanager
def room(bytes_: int) -> Iterator[None]:
    """Let the device hold no more than this beyond what it holds."""
    native().limit(0, native().held(0) + bytes_)
    try:
        yield
    finally:
        native().limit(0, 0)


@contextlib.contextmanager
def without_doubles() -> Iterator[None]:
    """Let the device have no float64, as Apple's GPUs and some of Intel's."""
    native().doubles(False)
    try:
        yield
    finally:
        native().doubles(True)


def installed(folder: Path) -> Path:
    """A folder for PYTHONPATH with which every new process has the device."""
    native()
    shutil.copy(__file__, folder / "pretend_backend.py")
    shutil.copy(SOURCE, folder / SOURCE.name)
    about = folder / "pretend_backend-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pretend-backend\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[torch.backends]\npretend = pretend_backend:register\n")
    return folder
