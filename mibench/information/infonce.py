"""InfoNCE: how much better a representation knows its own local features than those of other samples.

    i(n, k) = f(z_n, x_nk) - log( 1/(N K) sum_{m,j} exp f(z_n, x_mj) ),     f(z, x) = <q(z), g(x)>     (1)

The mean of i over pairs is a lower bound of I(Z, X), tight for f = log p(x|z) / p(x) + c(z), and never above its
ceiling log(N K) (van den Oord et al. 2018; MIRE eq. 2 with the erratum that z_n stays fixed in the sum; MI-LR eq. 3).

The scores are one matrix product. They are never held whole: the normaliser is streamed over the negatives, forward
and backward, so memory is O(N chunk + N K D) where the score tensor would take N^2 K.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

CHUNK = 16_384  # negatives at a time
SATURATION = 0.1  # an estimate within this share of its ceiling reflects the ceiling more than the information


def ceiling(negatives: int) -> float:
    """The value that no estimate with so many negatives (N K, the pair itself among them) can exceed."""
    return math.log(negatives)


def saturated(estimate: Tensor, limit: Tensor | float) -> Tensor:
    """Where an estimate is so near its ceiling that it must be read as "at least"."""
    return estimate > (1 - SATURATION) * limit


class _StreamedLogSumExp(torch.autograd.Function):
    """log sum_m exp <query_n, key_m>, scores computed chunk by chunk and once more on the way back."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, chunk: int) -> Tensor:
        total = torch.full((len(query),), -math.inf, device=query.device)  # (N,)
        for start in range(0, len(keys), chunk):
            scores = (query @ keys[start : start + chunk].T).float()  # (N, chunk)
            total = torch.logaddexp(total, scores.logsumexp(1))
        ctx.save_for_backward(query, keys, total)
        ctx.chunk = chunk
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        query, keys, total = ctx.saved_tensors
        for_query, for_keys = torch.zeros_like(query, dtype=torch.float32), torch.empty_like(keys)
        for start in range(0, len(keys), ctx.chunk):
            part = keys[start : start + ctx.chunk]
            weights = ((query @ part.T).float() - total[:, None]).exp_() * gradients[0][:, None]  # (N, chunk)
            weights = weights.to(query.dtype)
            for_query += weights @ part
            for_keys[start : start + ctx.chunk] = weights.T @ query
        return for_query.to(query.dtype), for_keys, None


def log_partition(query: Tensor, keys: Tensor, *, dtype: torch.dtype = torch.float32, chunk: int = CHUNK) -> Tensor:
    """log( 1/M sum_m exp <query_n, key_m> ) for queries (N, D) and keys (M, D); only the products are in `dtype`."""
    total = cast(Tensor, _StreamedLogSumExp.apply(query.to(dtype), keys.to(dtype), chunk))
    return total - math.log(len(keys))


def scores(query: Tensor, keys: Tensor) -> Tensor:
    """f(z_n, x_nk) of the pairs that belong together: queries (N, D), keys (N, K, D), result (N, K)."""
    return torch.einsum("nd,nkd->nk", query, keys)


def pointwise(query: Tensor, keys: Tensor, *, dtype: torch.dtype = torch.float32, chunk: int = CHUNK) -> Tensor:
    """i(n, k) of (1): queries (N, D) and keys (N, K, D) of one batch, whose own cells are the negatives; (N, K)."""
    return scores(query, keys) - log_partition(query, keys.flatten(0, 1), dtype=dtype, chunk=chunk)[:, None]


def pointwise_against(query: Tensor, keys: Tensor, reference: Tensor) -> Tensor:
    """i(n, k) of new samples: the negatives are the reference keys (R, D) and the sample's own K, whatever its batch.

    So a sample's value does not depend on the samples that are explained with it; the ceiling is log(R + K).
    """
    own = scores(query, keys)  # (N, K)
    others = log_partition(query, reference) + math.log(len(reference))  # (N,)
    both = torch.logaddexp(own.logsumexp(1), others) - math.log(len(reference) + keys.shape[1])
    return own - both[:, None]
