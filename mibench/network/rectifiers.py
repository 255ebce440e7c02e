"""A network run with another backward pass through its rectifiers (max(0, z), with or without a ceiling).

A torch function mode answers every call of a rectifier, by module or by function, in place or not, reused or not, and
leaves the network itself alone: no hook is set, so none can stay behind. captum's hooks see nn.ReLU modules only; a
network with functional or capped rectifiers would get the plain gradient from it without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mibench.network.gradients import slope
from mibench.plugins.contract import Probe, Unsupported

Backward = Callable[[Tensor, Tensor], Tensor]  # (was the rectifier open, the gradient above it) -> the gradient below
UNCAPPED = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
CAPPED = {F.hardtanh, F.hardtanh_}
IN_PLACE = {F.relu_, torch.relu_, Tensor.relu_, F.hardtanh_}


def rectified_slope(probe: Probe, x: Tensor, target: Tensor, backward: Backward) -> Tensor:
    """The target logits' gradient with respect to the input (B, …), `backward` ruling at every rectifier."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in probe.model.modules()):
        raise Unsupported("the network is compiled with TorchScript: its rectifiers cannot be reached")
    with _Ruled(backward) as ruled:
        gradient = slope(probe.logits, x, target)
    if not ruled.met:
        raise Unsupported("the network has no rectifiers (ReLU, ReLU6), so there is nothing to guide")
    return gradient


class _Ruled(TorchFunctionMode):
    """Replaces the backward pass of the rectifiers that run inside it."""

    def __init__(self, backward: Backward) -> None:
        super().__init__()
        self.backward, self.met = backward, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        ceiling = _ceiling(func, *args, **kwargs)
        if ceiling is None:
            return func(*args, **kwargs)
        self.met += 1
        z: Tensor = args[0] if args else kwargs["input"]
        rectified: Tensor = _Rectify.apply(z, ceiling, self.backward)
        return z.copy_(rectified) if func in IN_PLACE else rectified


def _ceiling(func: Any, *args: Any, **kwargs: Any) -> float | None:
    """Where the rectifier's output stops growing; None for what is not a rectifier."""
    if func in UNCAPPED:
        return float("inf")
    if func is F.relu6:
        return 6.0
    return _hardtanh(*args, **kwargs) if func in CAPPED else None


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> float | None:
    """The ceiling of F.hardtanh called with these arguments (nn.ReLU6 calls it so), if its floor is zero."""
    return max_val if min_val == 0 else None


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, ceiling: float, backward: Backward) -> Tensor:
        ctx.save_for_backward((z > 0) & (z < ceiling))
        ctx.rule = backward
        return z.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (is_open,) = ctx.saved_tensors
        return ctx.rule(is_open, gradient), None, None
