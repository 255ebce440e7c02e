"""Fashion-MNIST is read from plain and gzipped files, in splits that share no picture, and damage is one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from mibench.data.fashion import CLASSES
from mibench.errors import DataError
from mibench.plugins import registry

SHAPE = (1, 28, 28)


def idx(array: np.ndarray) -> bytes:
    """An array as an IDX file of bytes."""
    head = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture(params=["plain", "gzipped", "torchvision"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "FashionMNIST/raw" if request.param == "torchvision" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 24), ("t10k", 6)):
        images = rng.integers(0, 256, (count, 28, 28))
        images[:, 0, 0] = np.arange(count)  # names the picture
        for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            content, name = idx(array), f"{part}-{kind}-ubyte"
            if request.param == "gzipped":
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return tmp_path


def test_the_test_images_are_scored_and_every_sixth_other_calibrates(root: Path) -> None:
    data = registry.data(f"fashion:{root}")
    loaded = {split: data.load(split, None, SHAPE) for split in ("training", "calibration", "scoring")}
    assert {split: len(each) for split, each in loaded.items()} == {"training": 20, "calibration": 4, "scoring": 6}
    named = {split: (each.x[:, 0, 0, 0] * 255).round().int().tolist() for split, each in loaded.items()}
    assert named["calibration"] == [5, 11, 17, 23]
    assert not set(named["training"]) & set(named["calibration"])
    assert loaded["scoring"].ids[0] == "t10k-00000"
    assert data.classes == CLASSES


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("train-images-idx3-ubyte", b"", "not a whole IDX file"),
        ("train-labels-idx1-ubyte", idx(np.zeros(3)), "not one set of 28x28 images"),
        ("train-labels-idx1-ubyte", idx(np.full(24, 12)), "labels from 0 to 9"),
        ("train-images-idx3-ubyte.gz", b"no gzip", "cannot be read"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    for kind, array in (("images-idx3", np.zeros((24, 28, 28))), ("labels-idx1", np.zeros(24))):
        if not name.startswith(f"train-{kind}"):
            (tmp_path / f"train-{kind}-ubyte").write_bytes(idx(array))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=why):
        registry.data(f"fashion:{tmp_path}").load("training", None, SHAPE)


def test_where_there_is_no_data_set_the_mend_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"install Debian's dataset-fashion-mnist, or write fashion:ROOT"):
        registry.data(f"fashion:{tmp_path}").load("scoring", 1, SHAPE)
