"""The device of a name. torch is imported only where there may be a GPU, for that takes seconds."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from mibench.errors import UsageError

FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # of the drivers of NVIDIA, AMD and Windows' Linux


def device_of(name: str) -> str:
    """The device that is meant by auto, cpu, cuda or cuda:N."""
    count = 0 if name == "cpu" else _count()
    if name == "auto":
        return "cuda:0" if count else "cpu"
    if name == "cpu":
        return name
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise UsageError(f"there is no device {name!r}; write auto, cpu, cuda or cuda:N")
    if int(number or 0) >= count:
        raise UsageError(
            f"there is no device {name!r}: this machine has {count or 'no'} CUDA devices that torch can use"
        )
    return f"cuda:{number or 0}"


def _count() -> int:
    """How many CUDA devices torch can use."""
    if "torch" not in sys.modules and not _has_driver():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _has_driver() -> bool:
    """Whether there may be a GPU: Linux has a file for each kind of driver, or can load NVIDIA's library."""
    if sys.platform != "linux" or any(Path(file).exists() for file in FILES):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
