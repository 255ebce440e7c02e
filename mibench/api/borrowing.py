"""A user's network in our hands: frozen while we work with it, and left as it was found, even after an error."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mibench.errors import ModelError
from mibench.network.untouched import left_as_found


@contextlib.contextmanager
def borrowed(network: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """A network in eval mode without gradients of its own; modes, flags and random numbers are put back."""
    modes = [(module, module.training) for module in network.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        with _random_numbers_kept(), torch.inference_mode(False), torch.enable_grad():
            network.eval().requires_grad_(False)
            with left_as_found(network, tensors):
                yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Plug-ins that draw from the global generators are seeded as in a run; the user's own draws go on as before."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def device_of(network: nn.Module) -> torch.device:
    """The one device that a network's weights are on."""
    devices = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    if any(device.type == "meta" for device in devices):
        raise ModelError("the network is on the device 'meta', where weights hold no numbers: load its weights first")
    if len(devices) > 1:
        names = " and ".join(sorted(map(str, devices)))
        raise ModelError(f"the network's weights are on {names}: move it to one device, model.to({names.split()[0]!r})")
    return next(iter(devices), torch.device("cpu"))
