"""The machine of a run: versions, devices, and how to install what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from mibench.files import cache
from mibench.record.stored import Count, Line, Part

LIBRARIES = ("torch", "torchvision", "numpy", "quantus", "captum", "zennit", "scikit-learn")


def version(distribution: str) -> str:
    """The installed version of a distribution, or an empty string."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def cache_folder() -> Path:
    """Where trained networks are kept between runs."""
    return cache.folder()


class Machine(Part):
    """Everything about the machine that run.json should remember."""

    mibench: Line
    python: Line
    platform: Line
    processor: Line
    cores: Count
    memory_bytes: Count
    device: Line
    libraries: dict[Line, Line]
    commit: Line
    command: tuple[Line, ...]


def facts(device: str) -> Machine:
    """This machine."""
    return Machine(
        mibench=version("mibench"),
        python=platform.python_version(),
        platform=platform.platform(),
        processor=processor(),
        cores=cores(),
        memory_bytes=memory_bytes(),
        device=device_class(device),
        libraries={name: version(name) for name in LIBRARIES},
        commit=commit(),
        command=(Path(sys.argv[0]).name, *sys.argv[1:]),
    )


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """The machine's memory, 0 where it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def processor() -> str:
    """The processor's name as Linux reports it, the architecture elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def commit() -> str:
    """The commit of the checkout that this package runs from, marked where it has changes; empty outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def device_class(device: str) -> str:
    """What kind of device computes: results are only comparable to the last digit within one kind."""
    if device == "cpu":
        return device
    import torch

    module = torch.get_device_module(device)  # torch.mps has no names
    name = module.get_device_name(device) if hasattr(module, "get_device_name") else ""
    return f"{torch.device(device).type} {name}".strip()
