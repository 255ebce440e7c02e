"""Mutual information in closed form: what the estimators are tested against, and the truth of planted data.

    I(X; Z) = sum p(x, z) log p(x, z) / (p(x) p(z)),      Gaussian: I = 1/2 log( |S_x| |S_z| / |S| )

All values are in nats. The pointwise value is log p(x, z) / (p(x) p(z)) of one pair; its mean is the information.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NATS_PER_BIT = math.log(2.0)


def gaussian_pair(correlation: float, dimensions: int = 1) -> float:
    """Information of `dimensions` independent pairs of Gaussians, each with this correlation."""
    if not -1.0 < correlation < 1.0:
        raise ValueError(f"the correlation {correlation} is not inside (-1, 1), where the information is finite")
    return -0.5 * dimensions * math.log1p(-(correlation**2))


def gaussian(covariance: Tensor, split: int) -> float:
    """Information between the first `split` variables and the others of a Gaussian with this covariance."""
    _, joint = torch.linalg.slogdet(covariance.double())
    _, first = torch.linalg.slogdet(covariance[:split, :split].double())
    _, second = torch.linalg.slogdet(covariance[split:, split:].double())
    return float(first + second - joint) / 2


def gaussian_pointwise(x: Tensor, z: Tensor, correlation: float) -> Tensor:
    """log p(x, z) / (p(x) p(z)) of standard Gaussian pairs (N, D), whose coordinates are independent pairs; (N,)."""
    return gaussian_value(x, z, torch.tensor(correlation, dtype=torch.float64)).sum(-1)  # (N, D) -> (N,)


def gaussian_value(x: Tensor, z: Tensor, correlation: Tensor) -> Tensor:
    """The same of every pair of numbers, each of its own correlation; all three are broadcast."""
    rest = 1 - correlation.square()
    exponent = (correlation.square() * (x.square() + z.square()) - 2 * correlation * x * z) / (2 * rest)
    return -exponent - 0.5 * rest.log()


def discrete(joint: Tensor) -> float:
    """Information of two discrete variables with this table of joint probabilities or counts (A, B)."""
    probability = joint.double() / joint.double().sum()  # (A, B)
    return float((probability * discrete_pointwise(joint)).nansum())  # 0 log 0 = 0


def discrete_pointwise(joint: Tensor) -> Tensor:
    """log p(a, b) / (p(a) p(b)) for every entry of a table of probabilities or counts (A, B); -inf where p is 0."""
    probability = joint.double() / joint.double().sum()  # (A, B)
    return (probability / (probability.sum(1, keepdim=True) * probability.sum(0, keepdim=True))).log()


def entropy(probability: Tensor) -> float:
    """Entropy of a discrete distribution, given as probabilities or counts."""
    p = probability.double() / probability.double().sum()
    return float(-torch.special.xlogy(p, p).sum())
