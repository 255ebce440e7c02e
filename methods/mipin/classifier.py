"""A classifier on pooled features, inverted for all of its classes in one pass over the samples.

From the logit y_c the pooled features Z are rebuilt, and from those every cell X_k of their channels:

    S = [Z != 0] (w_c y_c + b_c),    w_c = Cov(Z, y_c) / (Var y_c + penalty)                                  (1)
    weight of cell k = Cov(X_k, S) / Var S                                                                    (2)

With M = [Z != 0] the sums in (2) are products of matrices over the samples, once w_c and b_c are taken out of them:

    sum S = w_c (yᵀM) + b_c (1ᵀM),    sum S X_k = w_c (yᵀ(M X_k)) + b_c (1ᵀ(M X_k)),    sum S^2 likewise       (3)

so that a thousand classes are one matrix product a batch, not a thousand trainings. It gives what learning class by
class gives. In memory: classes x channels x cells single-precision numbers, and a batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mibench.methods.mipin.inversion import spreads
from mibench.methods.mipin.penalty import cross_validated
from mibench.methods.mipin.ridge import Inverse, Penalty, lifted, slope
from mibench.network.chain import Chain, Dense, Reshape

AT_A_TIME = 32  # classes


def is_classifier(chain: Chain, values: list[Tensor]) -> bool:
    """Whether a chain, here with its activations, is one dense layer on what gives one number a channel."""
    *below, top = chain.layers
    pools = [place for place, layer in enumerate(below) if not isinstance(layer, Reshape)]
    return isinstance(top, Dense) and (not pools or (pools == [0] and spreads(below[0], values[1], values[0])))


def invert_classifier(
    chain: Chain, batches: Iterable[Tensor], *, penalty: Penalty, forward_relu: bool
) -> dict[int, Inverse]:
    """By place in the chain, the inverses of all classes: each weight and bias with a first dimension for the class."""
    top, cells = _Logits(), _Cells()
    origin: Tensor | None = None
    for batch in batches:
        *below, y = chain.activations(batch)
        x, z = below[0], below[-1]  # (B, …), (B, F)
        origin = y.mean(0) if origin is None else origin  # sums that start near the mean lose fewer digits
        top.add(y - origin, z)
        if x.dim() > 2 and x[0].numel() > z.shape[1]:
            cells.add(y - origin, (z != 0).float() if forward_relu else torch.ones_like(z), x)
    assert origin is not None
    weight, bias = top.solve(penalty)  # (classes, F), from y - origin
    place = len(chain.layers) - 1
    inverses = {place: Inverse(weight[..., None].float(), (bias - weight * origin[:, None]).float())}
    return {0: cells.solve(weight, bias)} | inverses if cells.count else inverses


class _Sums:
    """Sums over samples, by name."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, Tensor] = {}

    def increase(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.double()

    def mean(self, name: str) -> Tensor:
        return self.sums[name] / self.count


class _Logits(_Sums):
    """The sums for (1)."""

    def add(self, y: Tensor, z: Tensor) -> None:
        self.count += len(y)
        self.increase(y=y.double().sum(0), yy=y.double().square().sum(0), yz=y.T @ z)
        self.increase(z=z.double().sum(0), zz=z.double().square().sum(0))

    def solve(self, penalty: Penalty) -> tuple[Tensor, Tensor]:
        """w and b, (classes, F)."""
        y, z = self.mean("y")[:, None], self.mean("z")  # (classes, 1), (F)
        covariance, variance = self.mean("yz") - y * z, self.mean("yy")[:, None] - y.square()
        if penalty == "auto":
            explained = slope(covariance.square().sum(1, keepdim=True), variance, variance)  # (classes, 1)
            rest = (self.mean("zz") - z.square()).sum() - explained[:, 0]
            variance = variance + cross_validated(variance, explained, rest, self.count)[:, None]
        else:
            variance = variance + penalty
        weight = slope(covariance, variance, variance)
        return weight, z - weight * y


class _Cells(_Sums):
    """The sums for (3)."""

    def add(self, y: Tensor, m: Tensor, x: Tensor) -> None:
        self.count += len(y)
        seen = lifted(m) * x  # (B, C, h, w)
        self.increase(m=m.sum(0), ym=y.T @ m, yym=y.square().T @ m, x=x.double().sum(0), mx=seen.double().sum(0))
        if self.count == len(y):
            self.ymx = seen.new_zeros((y.shape[1], seen[0].numel()))
        self.ymx.addmm_(y.T, seen.flatten(1))  # in place and in single precision, for its size

    def solve(self, weight: Tensor, bias: Tensor) -> Inverse:
        """(2) for all classes, (classes, C, h, w); no biases, which nobody needs at the base."""
        x, mx = self.mean("x"), self.mean("mx")
        m, ym, yym = self.mean("m"), self.mean("ym"), self.mean("yym")
        source = weight * ym + bias * m  # (classes, C): E S
        square = weight.square() * yym + 2 * weight * bias * ym + bias.square() * m  # E S^2
        found = self.ymx.reshape(-1, *x.shape)
        for some in torch.split(torch.arange(len(weight), device=x.device), AT_A_TIME):
            w, b, s, ss = (lifted(part[some]) for part in (weight, bias, source, square))
            covariance = w * found[some].double() / self.count + b * mx - s * x
            found[some] = slope(covariance, ss - s.square(), ss).float()
        return Inverse(found, None)
