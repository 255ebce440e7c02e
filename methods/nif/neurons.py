"""A network as layers of neurons: inputs or cells of pixels, hidden layers, classes.

A channel is one neuron, averaged over its positions (NIF, section 3.2), and so is a transformer's feature, averaged
over the tokens. Whatever is between two layers, a residual block for example, is one link.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.information.flow import Neurons
from mibench.network.watching import first, watched
from mibench.plugins.contract import Probe, Unsupported

INPUT, REPRESENTATION, CLASSES = "input", "representation", "classes"  # the layers that are not modules
FORWARD = 128  # samples in one forward


def choose(probe: Probe, x: Tensor) -> tuple[str, ...]:
    """The layers of a network: the input, its cut points and dense activations as they run, what z adds, the classes.

    A layer that repeats the one before it is left out: an activation that is also a cut point, or a global pool, whose
    neurons are averages already.
    """
    found = _forward(probe, x, 1, probe.depths, dense=True)
    kept: dict[str, Tensor] = {}
    for name, layer in found.items():
        before = next(reversed(kept.values()), None)
        if before is None or before.shape != layer.shape or not torch.allclose(before, layer, atol=1e-6):
            kept[name] = layer
    return tuple(kept)


def read(probe: Probe, x: Tensor, grid: int, layers: Sequence[str]) -> tuple[Neurons, ...]:
    """The neurons of these layers on samples x."""
    unknown = set(layers) - {INPUT, REPRESENTATION, CLASSES} - {name for name, _ in probe.model.named_modules()}
    if unknown:
        raise Unsupported(f"the network has no layer {sorted(unknown)[0]!r}, which the parameter `layers` names")
    parts = [_forward(probe, batch, grid, layers, dense=False) for batch in torch.split(x, FORWARD)]
    neurons = []
    for layer in layers:
        activations = torch.cat([part[layer] for part in parts])  # (N, F)
        labels = probe.classes if layer == CLASSES else tuple(map(str, range(activations.shape[1])))
        neurons.append(Neurons(layer, labels, activations))
    return tuple(neurons)


@torch.no_grad()
def _forward(probe: Probe, x: Tensor, grid: int, layers: Sequence[str], *, dense: bool) -> dict[str, Tensor]:
    """Layer by layer, in the order in which they run, the activations (N, F) of one batch."""
    with _watched(probe.model, layers, dense=dense) as seen:
        features = probe.features(x)
    ends = {REPRESENTATION: features.representation, CLASSES: features.logits}
    return {INPUT: cells(x.to(probe.device), grid), **seen, **ends}


def cells(x: Tensor, grid: int) -> Tensor:
    """Inputs as neurons (N, F): columns as they are, each colour of an image averaged in at most grid x grid cells."""
    if x.dim() == 2:
        return x
    return F.adaptive_avg_pool2d(x, (min(grid, x.shape[2]), min(grid, x.shape[3]))).flatten(1)


def image(neurons: Tensor, x: Tensor, grid: int) -> Tensor:
    """Values of the input neurons (N, F) as (N, h, w): summed over the colours of a cell."""
    if x.dim() == 2:
        return neurons[:, None]
    return neurons.reshape(len(x), x.shape[1], min(grid, x.shape[2]), min(grid, x.shape[3])).sum(1)


@contextlib.contextmanager
def _watched(model: nn.Module, layers: Sequence[str], *, dense: bool) -> Iterator[dict[str, Tensor]]:
    """The neurons of some layers and, with `dense`, the dense activations, in the order in which they run."""
    seen: dict[str, Tensor] = {}

    def see(name: str, _given: Any, output: Any) -> None:
        values = first(output)
        if name in layers or values.dim() == 2:
            seen[name] = _averaged(values).float()

    wanted = {
        name: module
        for name, module in model.named_modules()
        if name in layers or (dense and type(module).__module__ == nn.ReLU.__module__)
    }
    with watched(wanted, see):
        yield seen


def _averaged(values: Tensor) -> Tensor:
    """Channels (N, C, h, w) averaged over positions, tokens (N, T, C) over the sequence; (N, F) is copied."""
    if values.dim() == 4:
        return values.mean((2, 3))
    return values.mean(1) if values.dim() == 3 else values.flatten(1).clone()
