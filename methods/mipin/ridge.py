"""Ridge regression from sums that are streamed over batches: the linear map that best rebuilds X from a source S.

    W = Cov(X, S) (Cov(S) + penalty I)^{-1},    b = E X - W E S                              (Deng et al. 2021, eq. 6)

Everything is summed and solved in float64. No more than a batch and the sums are in memory: G^2 + G F numbers for a
vector of F from a source of G; four times the cells for a map from one number a channel. `penalty="auto"` needs the
eigenvalues of the covariance, in the same memory (`_penalty`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mibench.methods.mipin.penalty import of_covariances, of_rows

Penalty = float | Literal["auto"]  # auto: by cross-validation within the samples
FLOOR = 1e-7  # of a covariance's mean eigenvalue: over single precision's noise, and it makes a singular one solvable


@dataclass(frozen=True)
class Inverse:
    """A learned map from a source to the activation below its layer."""

    weight: Tensor  # dense (F, G); filters (C_out, C_in / groups, k, k); mean (C, h, w)
    bias: Tensor | None  # (F); (C_in); (C, h, w); None where only the linear part is needed
    basis: Tensor | None = None  # (n, F): a dense map in its dual form is basisᵀ weight, with weight (n, G)

    def multiplied_out(self) -> Inverse:
        """The same map, not in its dual form."""
        return self if self.basis is None else Inverse(self.basis.T @ self.weight, self.bias)


def ridge(
    count: int,
    penalty: Penalty,
    source: Tensor,
    target: Tensor,
    gram: Tensor,
    cross: Tensor,
    square: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """W (…, F, G) and b (…, F) from sums over rows: source (…, G), target (…, F), gram (…, G, G), cross (…, G, F).

    A penalty of "auto", for one regression at a time, also needs the sum of the targets' squares.
    """
    s, x = source / count, target / count
    covariance = gram / count - s[..., :, None] * s[..., None, :]
    cross = cross / count - s[..., :, None] * x[..., None, :]
    if penalty == "auto":
        assert square is not None
        penalty = float(of_covariances(covariance, cross, square / count - x.square().sum(), count))
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(-1, keepdim=True)
    diagonal += torch.where(mean > 0, FLOOR * mean, 1.0) + penalty
    weight = torch.cholesky_solve(cross, torch.linalg.cholesky(covariance)).mT
    return weight, x - (weight @ s[..., None])[..., 0]


class DenseSums:
    """A vector from a vector. Rows are kept while they are fewer than the unknowns, for then the dual is smaller:

    W = X̄ᵀ (S̄ S̄ᵀ + n penalty I)^{-1} S̄        n x n instead of G x G; X̄ and S̄ are the centred rows
    """

    def __init__(self, penalty: Penalty) -> None:
        self.penalty, self.count = penalty, 0
        self.rows: list[tuple[Tensor, Tensor]] = []
        self.sums: list[Tensor] = []

    def add(self, s: Tensor, x: Tensor) -> None:
        """Sources (B, G) and the activations below them (B, F)."""
        self.count += len(s)
        self.rows.append((s, x))
        if self.count >= s.shape[1]:
            self._fold()

    def _fold(self) -> None:
        for s, x in self.rows:
            s, x = s.double(), x.double()
            new = s.sum(0), x.sum(0), s.T @ s, s.T @ x, x.square().sum()
            self.sums = [a + b for a, b in zip(self.sums, new, strict=True)] if self.sums else list(new)
        self.rows = []

    def solve(self) -> Inverse:
        """The map of least squared error plus the penalty times its squared norm."""
        if self.sums:
            weight, bias = ridge(self.count, self.penalty, *self.sums)
            return Inverse(weight.float(), bias.float())
        s, x = (torch.cat(part).double() for part in zip(*self.rows, strict=True))  # (n, G), (n, F)
        s_mean, x_mean = s.mean(0), x.mean(0)
        s, x = s - s_mean, x - x_mean
        kernel = s @ s.T  # (n, n)
        penalty = float(of_rows(kernel, x)) if self.penalty == "auto" else self.penalty
        mean = kernel.diagonal().mean()
        kernel.diagonal().add_(torch.where(mean > 0, FLOOR * mean, 1.0) + self.count * penalty)
        weight = torch.cholesky_solve(s, torch.linalg.cholesky(kernel))  # (n, G)
        return Inverse(weight.float(), (x_mean - x.T @ (weight @ s_mean)).float(), x.float())


class SpreadSums:
    """Every cell of a channel from that channel's one number: a regression for each, from scalar to scalar."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: list[Tensor] = []

    def add(self, s: Tensor, x: Tensor) -> None:
        """Sources (B, C) and the activations below them (B, C, h, w)."""
        self.count += len(s)
        s, x = lifted(s).double(), x.double()
        new = s.sum(0), s.square().sum(0), x.sum(0), (s * x).sum(0)
        self.sums = [a + b for a, b in zip(self.sums, new, strict=True)] if self.sums else list(new)

    def solve(self) -> Inverse:
        """The weights of least squared error; where the source never changes, its weight is 0."""
        s, square, x, product = (part / self.count for part in self.sums)
        weight = slope(product - s * x, square - s.square(), square)
        return Inverse(weight.float(), (x - weight * s).float())


def lifted(s: Tensor) -> Tensor:
    """One number a channel, (B, C) or (B, C, 1, 1), shaped to meet cells (B, C, h, w)."""
    return s.reshape(len(s), -1, 1, 1)


def slope(covariance: Tensor, variance: Tensor, square: Tensor) -> Tensor:
    """Covariance over variance, 0 where the variance is negligible against the mean square it came from."""
    return torch.where(variance > 1e-12 * square, covariance / variance, 0.0)
