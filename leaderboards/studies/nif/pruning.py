"""Pruning: how accurate a network stays as more of its weights, or neurons, are set to zero (NIF, figure 3).

Everything prunable has a score, and the lowest scores go first: the information of the link between two neurons, or of
all paths through a neuron; magnitude; chance; and, as a check, information upside down. The area under the curve is the
mean accuracy over all shares, from nothing pruned to everything.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn

from mibench.errors import UsageError
from mibench.models.training import accuracy

Grain = Literal["weights", "neurons"]
Order = Literal["nif", "magnitude", "random", "reversed"]
Scores = Mapping[str, Tensor]  # by weighted layer: (out, in) of its weights, or (out,) of its neurons
ORDERS: tuple[Order, ...] = ("nif", "magnitude", "random", "reversed")
SHARES = tuple(step / 20 for step in range(21))


def chain(network: nn.Module) -> dict[str, str]:
    """The weighted layers of a chain of layers, in order, each with the activation that shows its neurons."""
    if not isinstance(network, nn.Sequential):
        raise UsageError(f"only a chain of layers (nn.Sequential) can be pruned, not a {type(network).__name__}")
    shown: dict[str, str] = {}
    last = ""
    for name, layer in network.named_children():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            shown[name], last = name, name
        elif last and type(layer).__module__ == nn.ReLU.__module__:
            shown[last], last = name, ""
    if not shown:
        raise UsageError("the network has no dense or convolutional layer to prune")
    return shown


def scores(network: nn.Module, edges: Sequence[Tensor], order: Order, grain: Grain, random: torch.Generator) -> Scores:
    """The score of an order for each weight or hidden neuron; `edges` are the links (A, B) of the layers of `chain`.

    The weights of a first convolution are left alone, because they join no single inputs.
    """
    named = list(chain(network))
    if len(edges) != len(named):
        raise UsageError(f"{len(named)} weighted layers have as many links, not {len(edges)}")
    weights = [network.get_parameter(f"{name}.weight") for name in named]
    magnitude = [weight.detach().abs().flatten(2).mean(2) if weight.dim() > 2 else weight.abs() for weight in weights]
    if grain == "weights":
        information = [_of_weights(edge, weight.shape[1]) for edge, weight in zip(edges, magnitude, strict=True)]
    else:
        magnitude = [weight.sum(1) for weight in magnitude[:-1]]  # (out,) each
        information = [flow.float() for flow in _through(edges)]
    found = {
        name: (nif, size) for name, nif, size in zip(named, information, magnitude, strict=False) if nif is not None
    }
    if order == "random":
        return {name: torch.rand(size.shape, generator=random) for name, (_, size) in found.items()}
    if order == "magnitude":
        return {name: size for name, (_, size) in found.items()}
    sign = 1 if order == "nif" else -1
    return {name: sign * nif for name, (nif, _) in found.items()}


def pruned(network: nn.Module, scores: Scores, share: float) -> nn.Module:
    """A copy of the network without the given share of what has a score: the lowest scores are set to zero."""
    every = torch.cat([score.flatten() for score in scores.values()])
    gone = torch.zeros(len(every), dtype=torch.bool)
    gone[every.argsort(stable=True)[: round(share * len(every))]] = True
    smaller = copy.deepcopy(network)
    with torch.no_grad():
        parts = torch.split(gone, [score.numel() for score in scores.values()])
        for (name, score), part in zip(scores.items(), parts, strict=True):
            smaller.get_parameter(f"{name}.weight")[part.reshape(score.shape)] = 0.0
            if score.dim() == 1 and smaller.get_submodule(name).bias is not None:  # a whole neuron
                smaller.get_parameter(f"{name}.bias")[part] = 0.0
    return smaller


def curve(network: nn.Module, scores: Scores, x: Tensor, label: Tensor, shares: Sequence[float] = SHARES) -> Tensor:
    """Accuracy at each share of pruned weights or neurons, (shares,)."""
    return torch.tensor([accuracy(pruned(network, scores, share), x, label) for share in shares])


def area(curve: Tensor, shares: Sequence[float] = SHARES) -> float:
    """Mean accuracy over the shares (trapezium rule)."""
    return float(torch.trapezoid(curve, torch.tensor(shares)) / (shares[-1] - shares[0]))


def _of_weights(edge: Tensor, inputs: int) -> Tensor | None:
    """The information of each weight (out, in); a channel's link covers all its positions. None: no such link."""
    positions, rest = divmod(inputs, edge.shape[0])
    return None if rest else edge.float().T.repeat_interleave(positions, 1)


def _through(edges: Sequence[Tensor]) -> list[Tensor]:
    """The flow of all paths through each hidden neuron: what comes in along them times what goes on, (F,) a layer."""
    links = [edge.double().clamp(min=0) for edge in edges]
    into = accumulate((link for link in links[1:-1]), lambda flow, link: flow @ link, initial=links[0].sum(0))
    onward = accumulate((link for link in links[-2:0:-1]), lambda flow, link: link @ flow, initial=links[-1].sum(1))
    return [flow * rest for flow, rest in zip(into, reversed(list(onward)), strict=True)]
