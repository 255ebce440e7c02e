"""What an explanation costs: seconds, multiples of a forward pass, exact counts, and memory.

Measured one sample at a time on a worker while nothing else runs. Seconds are noisy; the multiple of a forward
pass measured in the same process is less so; operations and passes are counted in a run of their own and do not vary.
"""

from __future__ import annotations

import contextlib
import functools
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from mibench.network import devices
from mibench.network.probe import OpenProbe
from mibench.network.untouched import settings_restored
from mibench.plugins import registry
from mibench.plugins.contract import Features, Probe
from mibench.record.cells import Job, Outcome
from mibench.run.explaining import fitted, sample_seeds, task_of

FORWARDS = 30  # a forward's time is the median of so many, explaining is timed on `job.samples` …
ENOUGH = 2.0  # … but after so many seconds no more are timed …
LEAST = 3  # … once there are so many
MEBIBYTE = 2**20


@dataclass
class Passes:
    """Samples that went through the network, forward and backward; `resumed` ones only through its end."""

    forward: int = 0
    resumed: int = 0
    backward: int = 0


def measure(job: Job) -> list[Outcome]:
    """Time, count and weigh the explanation of single samples."""
    (cell,) = job.cells
    task = task_of(job.task, job.setting.device, job.setting.precision)
    probe, x, target = task.probe, task.scoring.x, task.target
    seeds = sample_seeds(task.scoring.ids, cell.seed)
    folder = Path(job.setting.folder)
    explainer = fitted(registry.explainer(cell.method), probe, folder, job.fit, job.digests)

    inputs, classes = (each[: job.samples].to(probe.device, copy=True) for each in (x, target))

    def one(number: int) -> None:
        part = slice(number, number + 1)
        explainer.explain(probe, inputs[part], classes[part], seeds[part])

    with settings_restored():
        one(0)  # warm
        forward = statistics.median(_times(lambda _: _forward(probe, inputs[:1]), FORWARDS, probe.device))
        seconds = _times(one, len(inputs), probe.device)
        median = statistics.median(seconds)
        facts = {
            "seconds": median,
            "seconds_p95": _quantile(seconds, 0.95),
            "timed_samples": len(seconds),
            "forward_seconds": forward,
            "forwards": median / forward,
            **counted(probe, lambda counter: explainer.explain(counter, inputs[:1], classes[:1], seeds[:1])),
            "peak_memory": peak_memory(lambda: one(0), probe.device),
        }
    return [Outcome(cell.key, "ok", facts=facts)]


def counted(probe: OpenProbe, work: Callable[[Probe], object]) -> dict[str, float]:
    """Operations and passes of some work with a probe."""
    passes = Passes()
    operations = FlopCounterMode(display=False)
    operations.mod_tracker = _NoModules()
    with operations, counting(probe, passes) as counter:
        work(counter)
    return {
        "flops": float(operations.get_total_flops()),
        "forward_passes": float(passes.forward),
        "resumed_passes": float(passes.resumed),
        "backward_passes": float(passes.backward),
    }


class _NoModules(ModuleTracker):
    """Counts for no module apart: torch's tracker fails where gradients of the network's input are required."""

    def __init__(self) -> None:
        self.parents = {"Global"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


@contextlib.contextmanager
def counting(probe: OpenProbe, passes: Passes) -> Iterator[Probe]:
    """A probe that counts the samples that pass, also those that an explainer sends through `probe.model` itself."""

    def forward(_module: Any, _inputs: Any, logits: Any) -> None:
        if not quiet.on:
            passes.forward += len(logits)
            _count_backward(logits, passes)

    quiet = _Quiet()
    handle = probe.model.register_forward_hook(forward)
    try:
        yield _Counting(probe, passes, quiet)
    finally:
        handle.remove()


def _count_backward(logits: Tensor, passes: Passes) -> None:
    """Count a backward pass when a gradient reaches the logits."""
    if logits.requires_grad:

        def backward(gradient: Tensor) -> None:
            passes.backward += len(gradient)

        register: Callable[..., Any] = logits.register_hook
        register(backward)


@dataclass
class _Quiet:
    """While resuming, the network's own hook does not count: the replayed network runs whole, on nothing."""

    on: bool = False


@dataclass
class _Counting:
    """A probe whose `resume` counts; everything else is the probe's own."""

    _probe: OpenProbe
    _passes: Passes
    _quiet: _Quiet = field(default_factory=_Quiet)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._probe, name)

    def resume(self, local: Tensor) -> Features:
        self._quiet.on = True
        try:
            features = self._probe.resume(local)
        finally:
            self._quiet.on = False
        self._passes.resumed += len(local)
        _count_backward(features.logits, self._passes)
        return features

    def at(self, layer: str) -> _Counting:
        return _Counting(self._probe.at(layer), self._passes, self._quiet)


def _forward(probe: OpenProbe, x: Tensor) -> None:
    with torch.no_grad():
        probe.logits(x)


def _times(work: Callable[[int], None], count: int, device: torch.device) -> list[float]:
    """The seconds of each of `count` calls, which are passed their index."""
    seconds: list[float] = []
    for number in range(count):
        seconds.append(devices.seconds(functools.partial(work, number), device))
        if len(seconds) >= LEAST and sum(seconds) > ENOUGH:
            break
    return seconds


def _quantile(values: list[float], level: float) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(level))


def peak_memory(work: Callable[[], None], device: torch.device) -> float:
    """MiB that the work takes at its peak, beyond what was taken before; NaN where it cannot be measured."""
    if device.type != "cpu":
        return devices.peak_bytes(work, device) / MEBIBYTE
    status = Path("/proc/self/status")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
        before = _kibibytes(status, "VmRSS")
        work()
        return max(0.0, (_kibibytes(status, "VmHWM") - before) / 1024)
    except (OSError, ValueError):
        return float("nan")


def _kibibytes(status: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(key)
    return int(found.group(1))
