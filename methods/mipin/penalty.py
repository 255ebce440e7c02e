"""A ridge's penalty p chosen from its own samples by generalised cross-validation (Golub, Heath and Wahba 1979).

Leaving a sample out and rebuilding it costs its residual over one minus its leverage; with the mean leverage h_p / n in
the place of each sample's own, the error is a function of sums alone, and no sample outside of fitting is seen:

    GCV(p) = E_p / (1 - h_p / n)^2,    E_p = rest + sum_j q_j (p / (d_j + p))^2,    h_p = 1 + sum_j d_j / (d_j + p)

with d the eigenvalues of the source's covariance, q_j how much of the target's variance direction j explains without a
penalty, `rest` what none explains, and 1 for the offset.
"""

from __future__ import annotations

import torch
from torch import Tensor

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # from the paper's upwards


def cross_validated(spectrum: Tensor, explained: Tensor, rest: Tensor, count: int) -> Tensor:
    """The best of PENALTIES (…) for d (…, G), q (…, G) and the rest (…) of `count` samples; among equals, the least."""
    d, q = spectrum.clamp(min=0), explained.clamp(min=0)
    scores = []
    for penalty in PENALTIES:
        error = rest + (q * (penalty / (d + penalty)).square()).sum(-1)  # (…) E_p
        leverage = 1 + (d / (d + penalty)).sum(-1)  # (…) h_p
        scores.append(error / (1 - leverage / count).square())
    return spectrum.new_tensor(PENALTIES)[torch.stack(scores).argmin(0)]


def of_covariances(covariance: Tensor, cross: Tensor, variance: Tensor, count: int) -> Tensor:
    """The same from Cov(S) (G, G), Cov(S, X) (G, F) and the sum of X's variances."""
    d, directions = torch.linalg.eigh(covariance)
    reach = (directions.mT @ cross).square().sum(-1)  # (G)
    q = torch.where(d > 1e-12 * d[-1], reach / d, 0.0)
    return cross_validated(d, q, (variance - q.sum()).clamp(min=0), count)


def of_rows(kernel: Tensor, target: Tensor) -> Tensor:
    """The same from the centred rows' S̄ S̄ᵀ (n, n) and X̄ (n, F), where they are fewer than the unknowns."""
    count = len(target)
    d, directions = torch.linalg.eigh(kernel / count)
    q = (directions.mT @ target).square().sum(-1) / count  # (n)
    return cross_validated(d, q, q.new_zeros(()), count)
