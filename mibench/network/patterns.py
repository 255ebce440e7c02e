"""Patterns: the direction in a layer's input of a neuron's signal (Kindermans et al. 2018, section 4).

A neuron y = w x reads its signal s out of x = s + d, although the distractor d is there. With E_+ over the samples, and
for convolutions the places, for which the neuron's rectifier is open (eq. 10):

    a = (E_+[x y] - E_+[x] E[y]) / (w E_+[x y] - w E_+[x] E[y])                                               (1)

Without a rectifier E_+ is E, and a is Cov(x, y) / Var(y): MIP-IN's inverse of a single neuron. Always w a = 1. The sums
are the gradients of a layer's weights for made-up gradients of its output, [open] y and [open].
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mibench.network.chain import Chain, Convolution, Dense, Rectifier
from mibench.plugins.contract import Unsupported

BATCH = 64  # samples in one forward
Patterns = dict[int, Tensor]  # by the layer's place in the chain, like the layer's weights


def linear_layers(chain: Chain) -> dict[int, Dense | Convolution]:
    """The layers that have patterns, by place."""
    return {place: layer for place, layer in enumerate(chain.layers) if isinstance(layer, Dense | Convolution)}


def learn_patterns(chain: Chain, x: Tensor) -> Patterns:
    """The pattern of every neuron, from samples x."""
    linear = linear_layers(chain)
    sums: dict[int, list[Tensor]] = {}
    for batch in torch.split(x, BATCH):
        values = chain.activations(batch)
        for place, layer in linear.items():
            rectified = isinstance(chain.layers[min(place + 1, len(chain.layers) - 1)], Rectifier)
            new = _sums(layer, values[place].double(), rectified)
            sums[place] = [a + b for a, b in zip(sums[place], new, strict=True)] if place in sums else new
    return {place: _pattern(layer.run.weight, *sums[place]) for place, layer in linear.items()}


def _sums(layer: Dense | Convolution, x: Tensor, rectified: bool) -> list[Tensor]:
    """Sums over a batch: x y and x where each neuron is open; how often it is there at all, and y."""
    if isinstance(layer, Dense) and x.dim() != 2:
        raise Unsupported(f"dense layer {layer.name!r} works on {x.dim() - 1}-dimensional inputs, not on vectors")
    weight = layer.run.weight.detach().double().requires_grad_()
    with torch.enable_grad():
        y = through(layer, weight, x)  # (B, C) or (B, C, h, w), without bias
    each = (-1, *[1] * (y.dim() - 2))
    bias = 0.0 if layer.run.bias is None else layer.run.bias.double().reshape(each)
    is_open = (y + bias > 0).double() if rectified else torch.ones_like(y)

    def of_weights(g: Tensor) -> Tensor:
        """The sum of g x over samples and places: the weights' gradient where g is the output's."""
        return torch.autograd.grad(y, weight, g, retain_graph=True)[0]

    return [of_weights(is_open * y.detach()), of_weights(is_open), _total(torch.ones_like(y)), _total(y)]


def through(layer: Dense | Convolution, weight: Tensor, x: Tensor) -> Tensor:
    """What a layer makes of x with other weights and without biases."""
    if isinstance(layer, Dense):
        return F.linear(x, weight)
    run = layer.run
    return F.conv2d(x, weight, None, run.stride, run.padding, run.dilation, run.groups)


def _total(values: Tensor) -> Tensor:
    """The sum over samples and places, by neuron (C)."""
    return values.detach().transpose(0, 1).flatten(1).sum(1)


def _pattern(weight: Tensor, xy: Tensor, x: Tensor, present: Tensor, y: Tensor) -> Tensor:
    """(1); zero for a neuron that is never open, or never changes."""
    each = (-1, *[1] * (weight.dim() - 1))
    covariance = xy - x * (y / present).reshape(each)  # times how often it is open, which cancels out
    read = (weight * covariance).flatten(1).sum(1).reshape(each)
    scale = (weight * xy).flatten(1).sum(1).reshape(each).abs()
    return torch.where(read.abs() > 1e-12 * scale, covariance / read, 0.0).float()


def propagate(chain: Chain, values: list[Tensor], start: Tensor, weights: Patterns) -> Tensor:
    """The gradient's way down a chain from `start` (B, classes), with other weights in the layers that have some."""
    s = start
    for place in reversed(range(len(chain.layers))):
        layer = chain.layers[place]
        run = partial(through, layer, weights[place]) if isinstance(layer, Dense | Convolution) else layer.run
        with torch.enable_grad():
            below = values[place].detach().requires_grad_()
            above = run(below.clone())  # it may work in place
        (s,) = torch.autograd.grad(above, below, s)
    return s
