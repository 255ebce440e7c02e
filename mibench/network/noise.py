"""Noise, by one rule on every device: drawn on the processor, each sample's from its own seed, then moved.

So a sample's noise is the same alone and in any batch, on a processor and on any GPU, and a map computed elsewhere
differs by rounding alone. The price: a core takes about 6 ns for a normal number, and a GPU may wait for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

RADIUS = 0.2  # the most by which they differ from x, in the model's normalised space


def perturbed(x: Tensor, seeds: Sequence[int], variant: str) -> Tensor:
    """Inputs (B, …) with uniform noise within RADIUS, drawn for each sample and variant, for all methods alike."""
    noisy = []
    for one, seed in zip(x, seeds, strict=True):
        digest = hashlib.blake2b(f"{variant} {seed}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        noise = RADIUS * (2 * torch.rand(one.shape, generator=generator) - 1)
        noisy.append(one + noise.to(one))
    return torch.stack(noisy)


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator a sample."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(sources: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Standard normal noise shaped like `like` (B, …), each sample's from its own generator."""
    return torch.stack([torch.randn(like.shape[1:], generator=source) for source in sources]).to(like)
