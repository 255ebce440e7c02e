"""MINE: the Donsker-Varadhan bound, with one normaliser for all representations (Belghazi et al. 2018, eq. 10).

    I(Z, X) >= mean_{n,k} f(z_n, x_nk) - log( mean_{n, m != n, j} exp f(z_n, x_mj) )

Unlike InfoNCE's, the bound has no ceiling, and its price is variance: one rare large score rules the normaliser.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mibench.information.infonce import CHUNK, log_partition, scores


def log_normaliser(query: Tensor, keys: Tensor, *, dtype: torch.dtype = torch.float32, chunk: int = CHUNK) -> Tensor:
    """log of the mean exp f of a representation with another sample's cells: queries (N, D), keys (N, K, D)."""
    count, cells, _ = keys.shape
    if count < 2:
        raise ValueError("MINE pairs each representation with other samples' features, and there is only one sample")
    everything = log_partition(query, keys.flatten(0, 1), dtype=dtype, chunk=chunk) + math.log(count * cells)  # (N,)
    own = scores(query.to(dtype).float(), keys.to(dtype).float()).logsumexp(1)  # (N,)
    share = (own - everything).clamp(max=-1e-6)  # rounding must not make the others' part negative
    others = everything + torch.log1p(-share.exp())  # log( e^everything - e^own )
    return others.logsumexp(0) - math.log(count * (count - 1) * cells)


def pointwise(query: Tensor, keys: Tensor, *, dtype: torch.dtype = torch.float32, chunk: int = CHUNK) -> Tensor:
    """f(z_n, x_nk) minus the batch's log normaliser: queries (N, D), keys (N, K, D), result (N, K)."""
    return scores(query, keys) - log_normaliser(query, keys, dtype=dtype, chunk=chunk)


def pointwise_against(query: Tensor, keys: Tensor, normaliser: Tensor) -> Tensor:
    """The same for new samples, with the log normaliser that calibration left behind."""
    return scores(query, keys) - normaliser
