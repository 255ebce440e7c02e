"""The information of one sample's sources about a class, by three definitions.

K sources x_1 … x_K of one sample and a class c; everything follows from v(S) = log p(c | x_S), the logarithm of the
class's probability for an observer who sees the sources S alone. In nats, for source k:

    marginal     i(x_k; c) = v({k}) - v(∅)                    its information alone
    conditional  i(x_k; c | x_others) = v(all) - v(all \\ k)   its information given the others
    additive     sum over S without k of |S|! (K - |S| - 1)! / K! (v(S + k) - v(S)), the Shapley value (1953)

The additive values are the only ones that add up, to v(all) - v(∅) = i(x_1 … x_K; c). The three agree where there is
one source, and differ where sources are redundant or synergistic: for a label that two cells show alike they are
(log A, 0, log A / 2) at each, for a label that is the sum of two cells (0, log A, log A / 2).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

ROUNDING = 1e-6  # nats; what is less is none
MAX_SOURCES = 8  # 2^K subsets of them
FLOOR = 1e-9  # the least probability of which a logarithm is taken: a class that a cell rules out has -20.7 nats left


def pointwise(values: Tensor) -> dict[str, Tensor]:
    """The three, (N, K) each, from v (N, 2^K): bit k of a column's number is 1 where source k is seen."""
    sources = sources_of(values)
    everything, each = 2**sources - 1, 2 ** torch.arange(sources)  # (K,)
    return {
        "marginal": values[:, each] - values[:, :1],
        "conditional": values[:, everything:] - values[:, everything - each],
        "additive": values @ shapley(sources).to(values),
    }


def shapley(sources: int) -> Tensor:
    """The weights (2^K, K) of v in the Shapley values."""
    if not 1 <= sources <= MAX_SOURCES:
        raise ValueError(f"Shapley values of {sources} sources need all {sources} bits: choose 1 to {MAX_SOURCES}")
    weights = torch.zeros(2**sources, sources, dtype=torch.float64)
    for subset, source in itertools.product(range(2**sources), range(sources)):
        if not subset >> source & 1:
            size = subset.bit_count()
            weight = math.factorial(size) * math.factorial(sources - size - 1) / math.factorial(sources)
            weights[subset, source] -= weight
            weights[subset | 1 << source, source] += weight
    return weights


def sources_of(values: Tensor) -> int:
    """K of values (N, 2^K, …)."""
    sources = values.shape[1].bit_length() - 1
    if values.shape[1] != 2**sources:
        raise ValueError(f"{values.shape[1]} values are not one for every subset of some sources")
    return sources


def of_class(beliefs: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The three, (N, K) each, for one class of each sample (N,), from p(c | x_S) of every class (N, 2^K, C)."""
    chosen = beliefs.gather(2, target.view(-1, 1, 1).expand(-1, beliefs.shape[1], 1))[..., 0]  # (N, 2^K)
    nats = pointwise(chosen.double().clamp_min(FLOOR).log())
    return {claim: torch.where(each.abs() < ROUNDING, 0.0, each) for claim, each in nats.items()}


def agreement(ideal: Tensor, network: Tensor, errors: Tensor, outside: Tensor, target: Tensor) -> dict[str, float]:
    """A network's own truth compared with an ideal observer's, in nats.

    `ideal` and `network` are p(c | x_S) (N, 2^K, C), `errors` the standard errors of the second, and `outside` (N, C)
    the network's mean probability over all cells that are not sources. For each claim: mean and largest difference;
    95th percentile and the largest standard error of a value. And what the network takes from cells without
    information: the mean and the largest |log p_net(c | x) - log p_net(c | sources)|.
    """
    mine, yours = of_class(ideal, target), of_class(network, target)
    each = target.view(-1, 1, 1).expand(-1, network.shape[1], 1)
    chosen = network.double().gather(2, each)[..., 0].clamp_min(FLOOR)  # (N, 2^K)
    variance = (errors.double().gather(2, each)[..., 0] / chosen).square()  # of log p, to first order
    spread = _errors(variance)  # claim -> (N, K)
    figures: dict[str, float] = {}
    for claim in mine:
        gap = (mine[claim] - yours[claim]).abs()
        figures |= {f"{claim} gap": float(gap.mean()), f"{claim} largest gap": float(gap.max())}
        figures[f"{claim} error in 95 %"] = float(spread[claim].flatten().quantile(0.95))
        figures[f"{claim} largest error"] = float(spread[claim].max())
    without = outside.double().gather(1, target[:, None])[:, 0].clamp_min(FLOOR)
    leak = (chosen[:, -1].log() - without.log()).abs()
    return {**figures, "leak": float(leak.mean()), "largest leak": float(leak.max())}


def _errors(variance: Tensor) -> dict[str, Tensor]:
    """Standard errors of the three (N, K) from independent variances of v (N, 2^K)."""
    sources = sources_of(variance)
    everything, each = 2**sources - 1, 2 ** torch.arange(sources)  # (K,)
    return {
        "marginal": (variance[:, each] + variance[:, :1]).sqrt(),
        "conditional": (variance[:, everything:] + variance[:, everything - each]).sqrt(),
        "additive": (variance @ shapley(sources).square()).sqrt(),
    }
