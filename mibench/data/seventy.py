"""Four IDX files with 60,000 images to learn from and 10,000 to score, as MNIST and Fashion-MNIST have them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from torch import Tensor

from mibench.errors import DataError
from mibench.files import idx
from mibench.plugins.contract import Split

STEP = 6  # of the images to learn from, every sixth calibrates explainers and the others train networks
SUFFIXES = ("", ".gz")


@cache
def load(folders: tuple[str, ...], split: Split, what: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """(N, 1, 28, 28) bytes, labels and names of a split, from the first of some folders that has the files."""
    part = "t10k" if split == "scoring" else "train"
    images, label = (_file(folders, f"{part}-{kind}", what) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    x, y = idx.read(images), idx.read(label)
    if x.shape != (len(y), 28, 28) or not len(y) or int(y.max()) > 9:
        raise DataError(f"{images} and {label} are not one set of 28x28 images with labels from 0 to 9")
    every = range(len(y))
    chosen = [k for k in every if split == "scoring" or (k % STEP == STEP - 1) == (split == "calibration")]
    return x[chosen, None], y[chosen].long(), tuple(f"{part}-{k:05d}" for k in chosen)


def _file(folders: tuple[str, ...], name: str, what: str) -> Path:
    """One of the files, under its own name or a name that torchvision gives it (with a dot before idx)."""
    names = [spelt + suffix for spelt in (name, name.replace("-idx", ".idx")) for suffix in SUFFIXES]
    for folder in folders:
        for each in names:
            if (found := Path(folder) / each).is_file():
                return found
    raise DataError(f"{what}: there is no {name} (or {name}.gz) in {' or '.join(folders)}")
