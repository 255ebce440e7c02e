"""Is everything as it was found? A plug-in may change neither the network nor the samples nor the process's settings.

The network's weights, modes, gradient flags and hooks and the samples are compared before and after, and a difference
is an error. The settings of the process (default dtype, gradient mode, threads, …) are put back, and `settings` lets a
worker see that they were changed.
"""

from __future__ import annotations

import contextlib
import os
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mibench.errors import MibenchError

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


GLOBAL_HOOKS = {f"_global{kind}" for kind in HOOKS}
workplace: Path | None = None  # a worker's own folder, deleted with it; None where plug-ins share the user's process


class Changed(MibenchError):
    """A plug-in did not leave what it was given as it found it."""


class NetworkChanged(Changed):
    """An explainer did not leave the network as it found it."""


class SamplesChanged(Changed):
    """A plug-in did not leave samples or maps as it found them."""


@dataclass(frozen=True)
class Seen:
    """What a network and samples were like when somebody was last given them, by the name of the place."""

    network: dict[str, str] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def left_as_found(
    model: nn.Module, tensors: Mapping[str, Tensor] | None = None, seen: Seen | None = None
) -> Iterator[None]:
    """Raise if what is done inside changes the network or the tensors, even where it fails for another reason.

    With `seen` also where they are no longer what they were: a plug-in may leave a thread that changes them later.
    """
    tensors = tensors or {}
    before, known = condition(model), digests(tensors)
    if seen and (found := [*_changes_since(seen.network, before), *_changes_since(seen.samples, known)]):
        raise Changed(f"changed what it was given after it had returned: {found[0]}{_more(found)}")
    with settings_restored():
        try:
            yield
        finally:
            torch.set_grad_enabled(True)
            if found := changes(before, condition(model)):
                raise NetworkChanged(f"left the network changed: {found[0]}{_more(found)}")
            if found := changes(known, digests(tensors)):
                raise SamplesChanged(f"changed the samples: {found[0]}{_more(found)}")


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The contents of tensors as text by their names."""
    return {name: _digest(each) for name, each in tensors.items()}


def settings() -> dict[str, Any]:
    """What is set for the whole process and changes what torch and numpy compute."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled(), torch.is_autocast_enabled("cpu")),
        "anomaly detection": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "precision of products": torch.get_float32_matmul_precision(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "denormal numbers": float(torch.full((), 1e-310, dtype=torch.float64, device="cpu") * 1.0),
        "hooks of all modules": tuple(
            len(hooks) for name, hooks in vars(nn.modules.module).items() if name in GLOBAL_HOOKS
        ),
        "numpy's errors": np.geterr(),
        "filters of warnings": list(warnings.filters),
        "working folder": _working_folder(),
        "environment": dict(os.environ),
    }


@contextlib.contextmanager
def settings_restored() -> Iterator[None]:
    """Where a plug-in's code runs: in a folder of its own in a worker; what the harness depends on is put back."""
    dtype, device, threads, folder = (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        _working_folder(),
    )
    if workplace is not None:
        os.chdir(workplace)
    streams = _streams()
    try:
        yield
    finally:
        for number, copy in streams.items():  # closed, the next file to be written would take its number
            os.dup2(copy, number)
            os.close(copy)
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if folder and _working_folder() != folder:
            os.chdir(folder)


def _streams() -> dict[int, int]:
    """Copies of the descriptors of what is printed, by their numbers."""
    copies = {}
    for number in (1, 2):
        with contextlib.suppress(OSError):  # the user may have closed it
            copies[number] = os.dup(number)
    return copies


def _working_folder() -> str:
    """Where relative paths begin; empty where the folder was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _more(found: list[str]) -> str:
    return f" and {len(found) - 1} other places" if len(found) > 1 else ""


def condition(model: nn.Module) -> Mapping[str, str]:
    """Everything about a network that an explainer could leave changed, as text by the name of the place."""
    state: dict[str, str] = {}
    for name, module in model.named_modules():
        hooks = sum(len(getattr(module, kind)) for kind in HOOKS)
        state[f"layer {name or 'of the whole network'}"] = (
            f"{type(module).__qualname__} training={module.training} hooks={hooks} "
            f"forward={'forward' in vars(module)} children={len(module._modules)}"
        )
    for name, parameter in model.named_parameters():
        hooks = len(parameter._backward_hooks or ())
        state[f"parameter {name}"] = (
            f"{_digest(parameter)} requires_grad={parameter.requires_grad} "
            f"grad={'none' if parameter.grad is None else 'some'} hooks={hooks}"
        )
    for name, buffer in model.named_buffers():
        state[f"buffer {name}"] = _digest(buffer)
    return state


def _changes_since(seen: dict[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs from when it was seen last; what is new since then is taken note of."""
    both = sorted(seen.keys() & now.keys())
    found = changes({place: seen[place] for place in both}, {place: now[place] for place in both})
    seen.update(now)
    return found


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs between two conditions, in words."""
    places = [place for place in {**before, **after} if before.get(place) != after.get(place)]
    return [f"{place} ({_difference(before.get(place, 'absent'), after.get(place, 'absent'))})" for place in places]


def _difference(before: str, after: str) -> str:
    """The words that differ, of two lines of as many words."""
    first, second = before.split(), after.split()
    if len(first) != len(second):
        return f"{before} became {after}"
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    return ", ".join(f"{a} became {b}" if "=" in a else "its values changed" for a, b in pairs)


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().contiguous().flatten()
    return f"{tuple(tensor.shape)} {tensor.dtype} {zlib.crc32(values.view(torch.uint8).numpy().data):08x}".replace(
        ", ", "x"
    )
