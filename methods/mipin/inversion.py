"""Going down through one layer of a chain: what the source above it reveals of the activation below it.

Learned from the data are the ways down through a dense layer, a convolution and a mean; max
pooling is undone by the explained sample's switches (eq. 8), batch norm by its own numbers, a rectifier by nothing:
what it had silenced is silenced again by the forward ReLU (eq. 9). (Deng et al. 2021, section 4.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.methods.mipin.filters import FilterSums, Windows
from mibench.methods.mipin.ridge import DenseSums, Inverse, Penalty, SpreadSums, lifted
from mibench.network.chain import Chain, Convolution, Dense, Layer, MaxPool, Mean, Rectifier, Reshape, Scale
from mibench.plugins.contract import Unsupported

Sums = DenseSums | FilterSums | SpreadSums
Inverses = Mapping[int, Inverse]  # by the layer's place in the chain


def is_learned(layer: Layer) -> bool:
    """Whether the way down through a layer is learned."""
    return isinstance(layer, Dense | Convolution | Mean)


def descend(
    chain: Chain,
    values: list[Tensor],
    start: Tensor,
    inverses: Inverses,
    *,
    down_to: int = 0,
    linear: bool = False,
    forward_relu: bool = True,
) -> Tensor:
    """The source of the activation values[down_to], from `start` (B, 1), a number at one logit; `linear`: no biases."""
    s = start
    for place in reversed(range(down_to, len(chain.layers))):
        below = values[place]
        s = undo(chain.layers[place], inverses.get(place), s, below, linear=linear)
        if forward_relu and (place > 0 or chain.base != "input"):
            s = s * (below != 0)  # eq. 9
    return s


def undo(layer: Layer, inverse: Inverse | None, s: Tensor, x: Tensor, *, linear: bool = False) -> Tensor:
    """The source below a layer, like the activation x below it, from the source s above it."""
    if inverse is None:
        return _given(layer, s, x, linear)
    if isinstance(layer, Dense):
        bias = None if linear else inverse.bias
        if inverse.basis is None:
            return F.linear(s, inverse.weight, bias)  # (B, G) -> (B, F)
        return F.linear(F.linear(s, inverse.weight), inverse.basis.T, bias)  # (B, G) -> (B, n) -> (B, F)
    if spreads(layer, s, x):
        spread = lifted(s) * inverse.weight  # (B, C, 1, 1) * (C, h, w)
        return spread if linear or inverse.bias is None else spread + inverse.bias
    return Windows.of(layer.run, s, x).rebuild(inverse, s, x, linear=linear)


def _given(layer: Layer, s: Tensor, x: Tensor, linear: bool) -> Tensor:
    """The way down through a layer where nothing is learned."""
    if isinstance(layer, Rectifier):
        return s
    if isinstance(layer, Reshape):
        return s.reshape(x.shape)
    if isinstance(layer, MaxPool):
        return unpool(layer.run, s, x)
    if isinstance(layer, Scale):
        scale, shift = affine(layer.run, x)
        if not bool(scale.all()):
            raise Unsupported(f"batch norm {layer.name!r} multiplies a channel by zero, which cannot be inverted")
        return s / scale if linear else (s - shift) / scale
    raise Unsupported(f"nothing was learned about the way down through layer {layer.name!r}")


def unpool(pool: Callable[..., Tensor], s: Tensor, x: Tensor) -> Tensor:
    """Each source at the place of its window's largest value (eq. 8), their mean where windows share a place.

    The switches are max pooling's own gradient, so that padding, dilation and overlap are as the layer has them.
    """
    with torch.enable_grad():
        below = x.detach().clone().requires_grad_()
        pooled = pool(below)
    (placed,) = torch.autograd.grad(pooled, below, s, retain_graph=True)
    (windows,) = torch.autograd.grad(pooled, below, torch.ones_like(s))
    return placed / windows.clamp(min=1)


def affine(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor]:
    """Batch norm in eval mode as x scale + shift, shaped to meet x."""
    shape = (1, -1, *[1] * (x.dim() - 2))
    zero = torch.zeros(norm.num_features).to(x).reshape(shape)
    shift = norm(zero)
    return norm(zero + 1) - shift, shift


def spreads(layer: Layer, s: Tensor, x: Tensor) -> bool:
    """Whether one number of each channel becomes all its cells."""
    return isinstance(layer, Mean) and x.dim() == 4 and s[0].numel() == x.shape[1]


def sums_for(layer: Layer, s: Tensor, x: Tensor, penalty: Penalty) -> Sums:
    """What will sum up sources like s above a learned layer and activations like x below it."""
    if isinstance(layer, Dense):
        if x.dim() != 2:
            raise Unsupported(f"dense layer {layer.name!r} works on {x.dim() - 1}-dimensional inputs, not on vectors")
        return DenseSums(penalty)
    return SpreadSums() if spreads(layer, s, x) else FilterSums(Windows.of(layer.run, s, x))
