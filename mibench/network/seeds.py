"""Seeds from names: what is drawn for a sample depends on its name, and on nothing else in the batch or in the run."""

from __future__ import annotations

import hashlib

import torch


def seed_of(text: str) -> int:
    """A seed of 56 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


def drawing(seed: int, purpose: str) -> torch.Generator:
    """A generator of one sample's own for one purpose, so that no draw depends on another purpose's."""
    return torch.Generator().manual_seed(seed_of(f"{purpose} {seed}"))
