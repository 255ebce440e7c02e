"""Is the network as it was found? Weights, modes, gradient flags, hooks: an explainer may change none of them."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from mibench.errors import MibenchError

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class NetworkChanged(MibenchError):
    """An explainer did not leave the network as it found it."""


@contextlib.contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Raise if what is done inside changes the network, even where it fails for another reason."""
    before = condition(model)
    try:
        yield
    finally:
        torch.set_grad_enabled(True)
        found = changes(before, condition(model))
        if found:
            more = f" and {len(found) - 1} other places" if len(found) > 1 else ""
            raise NetworkChanged(f"left the network changed: {found[0]}{more}")


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
