"""Random numbers that follow from names alone, and resamples of samples."""

from __future__ import annotations

import hashlib

import numpy as np

from mibench.statistics.arrays import Array, Counts

DRAWS = 2000


def generator(*names: str | bytes) -> np.random.Generator:
    """Random numbers that depend on the names alone, so that a board comes out the same to the byte."""
    joined = b"\0".join(name.encode() if isinstance(name, str) else name for name in names)
    return np.random.default_rng(int.from_bytes(hashlib.sha256(joined).digest()[:16], "big"))


def resamples(samples: int, rng: np.random.Generator, draws: int = DRAWS) -> Counts:
    """How often each sample is in each resample, (draws, samples); shared by all metrics of a task."""
    weights = np.empty((draws, samples), np.uint8)
    for row in weights:
        row[:] = np.bincount(rng.integers(max(samples, 1), size=samples), minlength=samples)
    return weights


def resampled(values: Array, weights: Counts) -> Array:
    """The resamples' means of (K, N) values, (B, K), less each mean; NaN is no score."""
    there = np.isfinite(values)
    mean = np.where(there, values, 0).sum(1, keepdims=True) / np.maximum(there.sum(1, keepdims=True), 1)
    moved = np.where(there, values - mean, 0).T  # (N, K)
    blocks = np.array_split(weights, max(1, weights.size >> 22))
    above = np.concatenate([block.astype(float) @ moved for block in blocks])
    if there.all():
        return np.asarray(above / np.maximum(weights.sum(1, keepdims=True, dtype=float), 1))
    below = np.concatenate([block.astype(float) @ there.T.astype(float) for block in blocks])
    return np.asarray(above / np.maximum(below, 1))  # zero where a small subset was never drawn
