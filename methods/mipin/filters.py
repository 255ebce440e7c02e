"""The bank of transposed filters that best rebuilds a convolution's input X from a source S (Deng et al. 2021, eq. 7):

    min ||X - g * S||^2        linear in the filters' k^2 C_out numbers for each channel of X, so solved like a ridge

A place of X sees S in a window of k x k taps, and the sums are over all places. No window is ever unfolded: tap a sees
the source's cells R_a (those from which it falls inside X), and two taps meet at a fixed lag, so that the windows'
Gram matrix is made of blocks

    G_ab = sum_i P_a(i) P_b(i + lag)ᵀ,    P_a(i) = S(i) where i is in R_a, else 0                               (1)

Written in one row with zeros between its rows, P moved by a lag is P read from further on. Where the layer does not
pad, all P are S, and (2k - 1)^2 / 2 blocks make up the k^4 / 2 pairs of taps. A mean over windows is the same, with a
group for each channel. In memory: PART samples in float64, and (k^2 C_out)^2 numbers for each group.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.methods.mipin.ridge import Inverse, ridge
from mibench.plugins.contract import Unsupported

Key = TypeVar("Key", bound=Hashable)
Reach = tuple[tuple[int, int], tuple[int, int]]  # rows from … to …, columns from … to …
PART = 16  # samples that are summed at a time: the sums are fastest where these fit into a processor's cache


class Block(NamedTuple):
    """One block of the Gram matrix: (1) for taps of these reaches at this lag."""

    reach: Reach
    other: Reach
    down: int
    right: int


@dataclass(frozen=True)
class Windows:
    """How a layer's windows are placed on its input, for rows and columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, run: Callable[..., Tensor], s: Tensor, x: Tensor) -> Windows:
        """Those of a convolution, or of a mean that makes s (B, C, h, w) of x (B, C, H, W), by channel."""
        if isinstance(run, nn.Conv2d):
            assert not isinstance(run.padding, str)
            kernel, stride, padding = _pair(run.kernel_size), _pair(run.stride), _pair(run.padding)
            return cls(kernel, stride, padding, _pair(run.dilation), run.groups)
        if isinstance(run, nn.AvgPool2d):
            return cls(_pair(run.kernel_size), _pair(run.stride), _pair(run.padding), (1, 1), x.shape[1])
        if s.dim() != 4 or x.shape[2] % s.shape[2] or x.shape[3] % s.shape[3]:
            raise Unsupported(f"the means that make {tuple(s.shape[1:])} of {tuple(x.shape[1:])} have no one window")
        window = x.shape[2] // s.shape[2], x.shape[3] // s.shape[3]
        return cls(window, window, (0, 0), (1, 1), x.shape[1])

    def rebuild(self, inverse: Inverse, s: Tensor, x: Tensor, *, linear: bool = False) -> Tensor:
        """Transposed filters on s (B, C_out, h, w), of the size of x (B, C_in, H, W)."""
        reached = [
            (cells - 1) * self.stride[axis] - 2 * self.padding[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
            for axis, cells in enumerate(s.shape[2:])
        ]
        beyond = [side - reach for side, reach in zip(x.shape[2:], reached, strict=True)]  # what no window sees
        bias = None if linear else inverse.bias
        return F.conv_transpose2d(
            s, inverse.weight, bias, self.stride, self.padding, beyond, self.groups, self.dilation
        )

    def reach(self, axis: int, tap: int, cells: int, side: int) -> tuple[int, int]:
        """The range of the source's cells for which this tap falls inside X."""
        offset, stride = self.padding[axis] - tap * self.dilation[axis], self.stride[axis]
        first = max(0, -(-offset // stride))
        return first, max(first, min(cells, (side - 1 + offset) // stride + 1))

    def lag(self, axis: int, tap: int, other: int) -> int | None:
        """How far from a cell the one is whose other tap sees the place that its tap sees; None if there is none."""
        lag, rest = divmod((tap - other) * self.dilation[axis], self.stride[axis])
        return None if rest else lag

    def lags(self, axis: int) -> int:
        """The largest lag."""
        return (self.kernel[axis] - 1) * self.dilation[axis] // self.stride[axis]


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class FilterSums:
    """Everything that the regression needs, summed by group (g) over batches."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.taps = list(product(range(windows.kernel[0]), range(windows.kernel[1])))
        self.count = 0
        self.target: dict[None, Tensor] = {}  # (g, C_in)
        self.source: dict[int, Tensor] = {}  # tap -> (g, C_out)
        self.cross: dict[int, Tensor] = {}  # tap -> (g, C_out, C_in)
        self.blocks: dict[Block, Tensor] = {}  # -> (g, C_out, C_out)
        self.pairs: dict[tuple[int, int], Block] = {}  # taps a >= b -> the block that is G_ab

    def add(self, s: Tensor, x: Tensor) -> None:
        """Sources (B, C_out, h, w) and the activations below them (B, C_in, H, W)."""
        self.pairs = self._pairs(s.shape[2:], x.shape[2:])
        for some, below in zip(torch.split(s, PART), torch.split(x, PART), strict=True):
            self._add(some, below)

    def _pairs(self, cells: Sequence[int], sides: Sequence[int]) -> dict[tuple[int, int], Block]:
        """For every pair of taps that ever meet, in which reaches and at which lag."""
        w, pairs = self.windows, {}
        reach = [(w.reach(0, a, cells[0], sides[0]), w.reach(1, b, cells[1], sides[1])) for a, b in self.taps]
        for tap, (row, column) in enumerate(self.taps):
            for other, (other_row, other_column) in enumerate(self.taps[: tap + 1]):
                down, right = w.lag(0, row, other_row), w.lag(1, column, other_column)
                if down is not None and right is not None:
                    pairs[tap, other] = Block(reach[tap], reach[other], down, right)
        return pairs

    def _add(self, s: Tensor, x: Tensor) -> None:
        w = self.windows
        self.count += x[:, 0].numel()
        s, x = _grouped(s, w.groups), _grouped(x, w.groups)  # (g, C, B, …)
        _increase(self.target, None, x.sum((2, 3, 4)))
        lags, stride = (w.lags(0), w.lags(1)), w.stride
        spaced = F.pad(s, (0, lags[1], 0, lags[0]))  # (g, C_out, B, h + lags, w + lags)
        rows, columns = spaced.shape[3:]
        seen = {reach: _within(spaced, reach) for reach in {block.reach for block in self.pairs.values()}}  # P_a
        totals = {reach: p.sum(2) for reach, p in seen.items()}
        ends = [w.padding[axis] + lags[axis] * stride[axis] for axis in range(2)]
        x = F.pad(x, (w.padding[1], ends[1], w.padding[0], ends[0]))
        for tap, (a, b) in enumerate(self.taps):
            reach = self.pairs[tap, tap].reach
            down, right = a * w.dilation[0], b * w.dilation[1]
            places = x[..., down :: stride[0], right :: stride[1]][..., :rows, :columns].flatten(2)  # (g, C_in, M)
            _increase(self.source, tap, totals[reach])
            _increase(self.cross, tap, seen[reach] @ places.mT)
        for block in set(self.pairs.values()):
            further = block.down * columns + block.right
            here, there = seen[block.reach], seen[block.other]
            _increase(self.blocks, block, here[..., : here.shape[2] - further] @ there[..., further:].mT)  # (1)

    def solve(self) -> Inverse:
        """The filters of least squared error, as conv_transpose2d takes them."""
        taps, (groups, out) = len(self.taps), self.source[0].shape
        gram = self.source[0].new_zeros((groups, taps, out, taps, out))
        for (tap, other), block in self.pairs.items():
            gram[:, tap, :, other], gram[:, other, :, tap] = self.blocks[block], self.blocks[block].mT
        source = torch.stack([self.source[tap] for tap in range(taps)], 1).flatten(1)  # (g, k k C_out)
        cross = torch.stack([self.cross[tap] for tap in range(taps)], 1).flatten(1, 2)  # (g, k k C_out, C_in)
        gram = gram.flatten(3).flatten(1, 2)  # (g, k k C_out, k k C_out)
        weight, bias = ridge(self.count, 0.0, source, self.target[None], gram, cross)
        weight = weight.reshape(groups, -1, *self.windows.kernel, out)  # (g, C_in, k, k, C_out)
        return Inverse(weight.permute(0, 4, 1, 2, 3).flatten(0, 1).float(), bias.flatten().float())


def _grouped(x: Tensor, groups: int) -> Tensor:
    """(B, g C, h, w) -> (g, C, B, h, w) in float64."""
    return x.double().reshape(len(x), groups, -1, *x.shape[2:]).permute(1, 2, 0, 3, 4)


def _increase(sums: dict[Key, Tensor], key: Key, value: Tensor) -> None:
    sums[key] = sums[key] + value if key in sums else value


def _within(spaced: Tensor, reach: Reach) -> Tensor:
    """P_a: a source within the cells that its tap reaches, 0 elsewhere; in one row for each group and channel."""
    (top, bottom), (left, right) = reach
    kept = torch.zeros_like(spaced)
    kept[..., top:bottom, left:right] = spaced[..., top:bottom, left:right]
    return kept.flatten(2)


def descended(
    windows: Windows, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], epochs: int, generator: torch.Generator
) -> Inverse:
    """The filters by stochastic gradient descent on the squared error, as the paper has it; for comparison."""
    s, x = next(iter(batches()))
    shape = (s.shape[1], x.shape[1] // windows.groups, *windows.kernel)
    spread = (s.shape[1] // windows.groups * windows.kernel[0] * windows.kernel[1]) ** -0.5
    weight = (torch.randn(shape, generator=generator) * spread).to(s).requires_grad_()
    bias = torch.zeros(x.shape[1]).to(s).requires_grad_()
    optimiser = torch.optim.Adam([weight, bias])
    for _ in range(epochs):
        for s, x in batches():
            with torch.enable_grad():
                loss = (x - windows.rebuild(Inverse(weight, bias), s, x)).square().mean()
            weight.grad, bias.grad = torch.autograd.grad(loss, (weight, bias))
            optimiser.step()
    return Inverse(weight.detach(), bias.detach())
