"""The device of a name. torch is imported only where there may be a GPU, for that takes seconds."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dri", "/dev/dxg")  # of NVIDIA, AMD, Intel, Windows


def device_of(name: str) -> str:
    """The device that is meant by a name, as `mibench.network.devices` resolves it."""
    if name == "cpu" or (name == "auto" and "torch" not in sys.modules and not _has_driver()):
        return "cpu"
    from mibench.network import devices  # imports torch

    return devices.device_of(name)


def _has_driver() -> bool:
    """Whether there may be a GPU: Linux has a file for each kind of driver, or can load NVIDIA's library."""
    if sys.platform != "linux" or any(Path(file).exists() for file in FILES):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
