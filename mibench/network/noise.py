"""Inputs with a little noise, the same for all methods: what robustness metrics compare a method's maps on."""

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
