"""Where a network runs: which device a name means, what it rounds to, how its work is timed, how much fits at once.

Nothing else in the package depends on the kind of a device but for one question: is it the processor or not?
What is random is drawn by the processor on every device (`noise`). On an accelerator kernels are the deterministic
ones wherever torch has them; the others (docs/devices.md lists them) add in any order and differ in the last digits.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mibench.errors import UsageError
from mibench.plugins.contract import Probe
from mibench.plugins.reasons import message

AUTOMATIC = ("cuda", "xpu", "mps")  # what auto looks for, in this order
SHARE = 0.25  # of a device's memory for what goes through the network at once
BYTES = 8  # for each number that a layer gives: itself and its gradient
MEMORY = 4 << 30  # bytes of a device that does not report its memory
MAX_TOGETHER = 2**14  # inputs at once, however small


@dataclass(frozen=True)
class Precision:
    """What a network's products are computed in."""

    autocast: torch.dtype | None
    tf32: bool
    tolerance: float  # between two ways to one number, as a share of the largest


PRECISIONS = {
    "fp32": Precision(None, False, 1e-4),
    "tf32": Precision(None, True, 6e-3),  # of 10 bits, as fp16
    "fp16": Precision(torch.float16, False, 6e-3),
    "bf16": Precision(torch.bfloat16, False, 5e-2),  # of 7 bits
}


def precision_of(name: str, device: str) -> Precision:
    """A precision by its name, which the device must have."""
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}")
    if PRECISIONS[name].tf32 and device == "cpu":
        raise UsageError("a processor has no TF32: choose --precision fp32, or an accelerator")
    return PRECISIONS[name]


def device_of(name: str) -> str:
    """The device that is meant by auto, cpu, cuda, cuda:N or another kind of torch's, such as xpu or mps."""
    if name == "cpu":
        return name
    if name == "auto":
        return next((f"{kind}:0" for kind in AUTOMATIC if count(kind) and has_float64(f"{kind}:0")), "cpu")
    kind, _, number = name.partition(":")
    found = count(kind)
    if found is None or not (number or "0").isdecimal():
        raise UsageError(f"there is no device {name!r}; write auto, cpu, cuda, cuda:N, xpu or mps")
    if int(number or 0) >= found:
        raise UsageError(
            f"there is no device {name!r}: this machine has {found or 'no'} {kind.upper()} devices that torch can use"
        )
    return f"{kind}:{number or 0}"


def count(kind: str) -> int | None:
    """How many devices of a kind torch can use; None where it knows of no such kind."""
    try:
        if torch.device(kind).type in ("cpu", "meta") or torch.device(kind).index is not None:
            return None
        module = torch.get_device_module(kind)
        return int(module.device_count()) if module.is_available() else 0
    except (RuntimeError, AttributeError):
        return None


def has_float64(device: str) -> bool:
    """Whether the device computes in double precision, which moments, regressions and NIF are computed in."""
    try:
        return float(torch.ones((), dtype=torch.float64, device=device) + 1) == 2.0
    except (RuntimeError, TypeError):
        return False


@contextlib.contextmanager
def numerics(device: str, precision: str) -> Iterator[None]:
    """An accelerator's settings of this process while a job is performed: TF32 as requested, deterministic kernels."""
    if device == "cpu":
        yield
        return
    matrix, before = torch.get_float32_matmul_precision(), _flags()
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    more: Any = torch.utils.deterministic
    filled = more.fill_uninitialized_memory
    tf32 = precision_of(precision, device).tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    _set_flags((tf32, True, False))
    torch.use_deterministic_algorithms(True, warn_only=True)
    more.fill_uninitialized_memory = False  # it costs time, and nothing here reads such memory
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matrix)
        _set_flags(before)
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        more.fill_uninitialized_memory = filled


def _flags() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark


def _set_flags(flags: tuple[bool, bool, bool]) -> None:
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = flags


def synchronize(device: torch.device) -> None:
    """Wait for what the device has been given to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done some work: the wall clock's, so that they are right for any device."""
    synchronize(device)
    before = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - before


def peak_bytes(work: Callable[[], object], device: torch.device) -> float:
    """Bytes that some work takes of an accelerator's memory at its peak; NaN where its module does not report it."""
    module = torch.get_device_module(device)
    if not hasattr(module, "max_memory_allocated"):
        work()
        return float("nan")
    module.reset_peak_memory_stats(device)
    before = module.memory_allocated(device)
    work()
    return float(module.max_memory_allocated(device) - before)


def together(probe: Probe, on_cpu: int) -> int:
    """How many inputs may go through a network at once: `on_cpu`, what a cache holds; elsewhere by the memory."""
    if probe.device.type == "cpu":
        return on_cpu
    fit = int(SHARE * memory(probe.device)) // (BYTES * footprint(probe))
    return min(MAX_TOGETHER, max(on_cpu, fit))


def memory(device: torch.device) -> int:
    """The bytes of an accelerator's memory."""
    ask = getattr(torch.get_device_module(device), "mem_get_info", None)
    return int(ask(device)[1]) if ask else MEMORY


_footprints: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def footprint(probe: Probe) -> int:
    """How many numbers all layers of a network give for one input."""
    network = probe.model
    if network not in _footprints:
        numbers = 0

        def add(_module: nn.Module, _inputs: Any, output: Any) -> None:
            nonlocal numbers
            numbers += output.numel() if isinstance(output, Tensor) else 0

        handles = [each.register_forward_hook(add) for each in network.modules() if not list(each.children())]
        try:
            with torch.no_grad():
                probe.logits(torch.zeros((1, *probe.shape)))
        finally:
            for handle in handles:
                handle.remove()
        _footprints[network] = max(1, numbers)
    return _footprints[network]


def short_of_memory(error: BaseException) -> bool:
    """Whether an error means that there is not enough memory, of the device or of the machine."""
    signs = ("can't allocate memory", "not enough memory", "out of memory", "Unable to allocate")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in message(error) for sign in signs)


def forget_cache(device: torch.device) -> None:
    """Give back what torch keeps of an accelerator's memory for later."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()
