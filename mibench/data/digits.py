"""Handwritten digits of 8 x 8 pixels, as they come with scikit-learn."""

from __future__ import annotations

import torch

from mibench.data.images import conform
from mibench.data.splits import members
from mibench.plugins.contract import Data, Samples, Split


class Digits(Data):
    """The 1,797 digits of scikit-learn, resized to the model's input."""

    name = "digits"
    title = "scikit-learn digits"

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple("0123456789")

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first samples of a split."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        chosen = members(split, [str(index) for index in range(len(labels))], labels.tolist())[:count]
        x = torch.from_numpy(images[chosen]).float().reshape(-1, 1, 8, 8) / 16  # (N, 1, 8, 8)
        ids = tuple(f"digits-{index:04d}" for index in chosen)
        return Samples(conform(x, shape), torch.from_numpy(labels[chosen]).long(), ids)
