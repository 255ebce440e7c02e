"""VIB: an upper bound of I(X, Z) from a Gaussian guess of z given x (Alemi et al. 2017; MI-LR eq. 8).

    I(X, Z) = E KL( p(z|x) || p(z) ) <= E KL( p(z|x) || q(z) ),      p(z|x) = N(mu(x), sigma^2(x)),  q = N(0, I)

The inequality holds for the true p(z|x) alone, so mu and sigma are learned by maximum likelihood; for standardised
z with independent coordinates q is p(z) and the bound is tight. Where the coordinates of z depend on each other the
bound counts them as if they did not, and claims too much.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mibench.information.critic import initialise

LOG_VARIANCE = (-10.0, 4.0)  # the range of log sigma^2: likelihood has no maximum where x fixes z


class GaussianHead(nn.Module):
    """mu(x) and log sigma^2(x) of p(z|x), from a two-layer perceptron."""

    def __init__(self, channels: int, dimensions: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * dimensions))
        initialise(self, generator)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (..., D) each, from local features (..., C)."""
        mean, log_variance = self.layers(x).chunk(2, -1)
        return mean, log_variance.clamp(*LOG_VARIANCE)


def kl_to_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL( N(mu, sigma^2) || N(0, I) ), summed over the last axis, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def negative_log_likelihood(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log p(z|x), summed over the last axis."""
    squared = (z - mean).square() * (-log_variance).exp()
    return 0.5 * (squared + log_variance + math.log(2 * math.pi)).sum(-1)
