"""What the sources of a planted image reveal about its label: the exact probability of each label given any of them.

A *source* is a cell whose glyph depends on the label. Sources come in independent groups: given the label y, what one
group shows does not depend on the others, so that for any subset S of the sources

    p(y | x_S)  ~  p(y) product over groups b of  sum over g_b of  p(g_b | y)  product over k in S and b of p(x_k | g_k)

where p(x_k | g) is the likelihood of the cell's pixels: Gaussian noise of a known size around the drawn glyph, censored
where the image is clamped. Places, colours and backgrounds are taken as known. At the default noise the pixels leave no
doubt about the glyph and the likelihood is 1 for one glyph; along the dials `noise` and `contrast` it is not, and this
is the ideal observer. `suppressor` is a Gaussian pair instead (below).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mibench.information.pointwise import MAX_SOURCES


@dataclass(frozen=True)
class Sources:
    """The joint distribution of the label and the glyphs of all sources."""

    prior: Tensor  # (A,) p(y)
    groups: tuple[Tensor, ...]  # p(g_1 … g_m | y) as (A, A, …): one table a group, its sources in order

    @property
    def count(self) -> int:
        """K."""
        return sum(table.dim() - 1 for table in self.groups)

    @property
    def joint(self) -> Tensor:
        """p(y, g_1 … g_K), (A, A, …): A^(K + 1) numbers."""
        every = self.prior
        for table in self.groups:
            own = (len(table), *[1] * (every.dim() - 1), *table.shape[1:])
            every = every[(..., *[None] * (table.dim() - 1))] * table.reshape(own)
        return every

    def beliefs(self, likelihood: Tensor) -> Tensor:
        """p(y | x_S) for every subset S, (N, 2^K, A), from log p(x_k | g), (N, K, A); bit k is set if k is in S."""
        if self.count > MAX_SOURCES:
            raise ValueError(f"{self.count} sources have {2**self.count} subsets: choose at most {MAX_SOURCES}")
        scaled = (likelihood - likelihood.amax(2, keepdim=True)).exp()  # (N, K, A) at most 1
        evidence = torch.ones(len(likelihood), 1, len(self.prior), dtype=torch.float64)  # (N, subsets so far, A)
        first = 0
        for table in self.groups:
            last = first + table.dim() - 1
            part = _of_group(table, scaled[:, first:last])  # (N, 2^m, A)
            evidence = (part[:, :, None] * evidence[:, None]).flatten(1, 2)  # later sources are higher bits
            first = last
        weighted = self.prior * evidence
        return weighted / weighted.sum(2, keepdim=True)


def _of_group(table: Tensor, likelihood: Tensor) -> Tensor:
    """p(x_S | y) of every subset of one group, (N, 2^m, A), from its sources' likelihoods (N, m, A)."""
    subsets = []
    for number in range(2 ** likelihood.shape[1]):
        left = table.expand(len(likelihood), *table.shape)  # (N, A, A, …)
        for source in reversed(range(likelihood.shape[1])):  # the last axis is the last source's
            seen = likelihood[:, source] if number >> source & 1 else torch.ones_like(likelihood[:, source])
            left = (left * seen.reshape(len(seen), *[1] * (left.dim() - 2), -1)).sum(-1)
        subsets.append(left)
    return torch.stack(subsets, 1)


@cache
def sources(variant: str, alphabet: int, p: float, cells: int) -> Sources:
    """The distribution of a discrete variant; every group's table is p(glyphs | label)."""
    label = torch.eye(alphabet, dtype=torch.float64)  # (A, A) a glyph that is the label's
    prior = torch.full((alphabet,), 1 / alphabet, dtype=torch.float64)
    if variant == "base":
        return Sources(prior, (label,))
    if variant == "partial":
        return Sources(prior, (label, noisy(alphabet, p)))
    if variant == "graded":
        return Sources(prior, tuple(noisy(alphabet, each) for each in reliabilities(alphabet, cells)))
    if variant in ("shared", "copies"):
        shown = noisy(alphabet, p) if variant == "copies" else label
        return Sources(prior, (torch.diag_embed(shown),))  # (A, A, A) one glyph in two cells
    counts = torch.zeros(alphabet, alphabet, alphabet, dtype=torch.float64)  # of label and both glyphs
    for first, second in itertools.product(range(alphabet), repeat=2):
        answer = _label(variant, first, second, alphabet)
        if answer is not None:
            counts[answer, first, second] = 1
    size = counts.sum((1, 2))  # (A,)
    return Sources(size / size.sum(), (counts / size[:, None, None],))


def _label(variant: str, first: int, second: int, alphabet: int) -> int | None:
    """The label of two glyphs, all pairs that have one being equally likely."""
    if variant == "xor":
        return (first + second) % alphabet
    if variant == "and":
        return min(first, second)  # of two symbols: AND
    assert variant == "rdnxor"  # glyph = 2 * part + bit: both cells show the same part, and bits that are summed
    return 2 * (first // 2) + (first + second) % 2 if first // 2 == second // 2 else None


def noisy(alphabet: int, p: float) -> Tensor:
    """p(g | y) (A, A) of a glyph that is the label's with probability p and else any other one."""
    others = (1 - p) / (alphabet - 1)
    return torch.full((alphabet, alphabet), others, dtype=torch.float64).fill_diagonal_(p)


def reliabilities(alphabet: int, cells: int) -> list[float]:
    """How often each source of `graded` is right: from chance to .95 in equal steps, the last one best."""
    return torch.linspace(1 / alphabet if cells > 1 else 0.95, 0.95, cells, dtype=torch.float64).tolist()


@dataclass(frozen=True)
class Suppressed:
    """A signal s = c glyph_y + n + e_s and a suppressor u = n + e_u: each pixel's noises are independent Gaussians.

    Alone s has little information, for n is strong, and u none; together they have all, for n cancels. With t, a, b
    the standard deviations of n, e_s and e_u, given y: s ~ N(c glyph_y, t^2 + a^2), and s given u ~ N(c glyph_y + r u,
    v) with r = t^2 / (t^2 + b^2), v = t^2 + a^2 - r t^2.
    """

    glyphs: Tensor  # (A, P) c glyph_y
    common: float  # t
    noise: tuple[float, float]  # a, b

    def beliefs(self, signal: Tensor, suppressor: Tensor) -> Tensor:
        """p(y | x_S) for nothing, the signal (bit 0), the suppressor (bit 1) and both, (N, 4, A), from (N, P) each."""
        t2, a2, b2 = self.common**2, self.noise[0] ** 2, self.noise[1] ** 2
        r = t2 / (t2 + b2)
        alone = -self._squares(signal) / (2 * (t2 + a2))  # (N, A)
        both = -self._squares(signal - r * suppressor) / (2 * (t2 + a2 - r * t2))
        return torch.stack([0 * alone, alone, 0 * alone, both], 1).softmax(2)

    def _squares(self, seen: Tensor) -> Tensor:
        squares: Tensor = (seen.double()[:, None] - self.glyphs).square().sum(2)  # (N, A)
        return squares


def log_normal(x: Tensor, mean: Tensor, deviation: float, *, clamped: bool) -> Tensor:
    """log p(x) of Gaussian noise around `mean`, up to a constant; clamped to [0, 1], the ends hold all beyond them."""
    inside = -((x - mean) / deviation).square() / 2
    if not clamped:
        return inside
    constant = math.log(deviation * math.sqrt(2 * math.pi))
    below, above = (torch.special.log_ndtr(each / deviation) + constant for each in (-mean, mean - 1))
    return torch.where(x <= 0, below, torch.where(x >= 1, above, inside))


def certain(glyph: Tensor, alphabet: int) -> Tensor:
    """Likelihoods (N, K, A) of cells whose glyph (N, K) is seen beyond doubt."""
    return torch.nn.functional.one_hot(glyph, alphabet).double().log()
