"""A folder of pictures gives what a network can look at, or one clear error that names the file and the mend."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import center_crop, to_tensor

from mibench.data.images import conform, read
from mibench.errors import DataError
from mibench.plugins import registry
from mibench.plugins.contract import Samples

SHAPE = (3, 32, 32)
RED = (220, 30, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten pictures in plain colours."""
    for label, name in enumerate(("apple", "pear")):
        (tmp_path / name).mkdir()
        for index in range(10):
            Image.new("RGB", (48, 40), (20 * index, 100 * label, 90)).save(tmp_path / name / f"{index}.png")
    return tmp_path


def load(path: Path, split: str = "scoring", count: int | None = None) -> Samples:
    return registry.data(f"folder:{path}").load(split, count, SHAPE)  # type: ignore[arg-type]


def everything(folder: Path) -> Tensor:
    return torch.cat([load(folder, split).x for split in ("training", "calibration", "scoring")])


def saved(picture: Image.Image, path: Path) -> Path:
    picture.save(path)
    return path


def test_classes_are_the_sorted_subfolders_and_splits_are_disjoint(folder: Path) -> None:
    assert registry.data(f"folder:{folder}").classes == ("apple", "pear")
    ids = {split: load(folder, split).ids for split in ("training", "calibration", "scoring")}
    assert {split: len(names) for split, names in ids.items()} == {"training": 8, "calibration": 8, "scoring": 4}
    assert len({name for names in ids.values() for name in names}) == 20


def test_labels_are_those_of_the_subfolders(folder: Path) -> None:
    samples = load(folder)
    assert [name.startswith("pear") for name in samples.ids] == [bool(label) for label in samples.label]


def test_a_sample_does_not_depend_on_how_many_are_asked_for(folder: Path) -> None:
    few, many = load(folder, "training", 3), load(folder, "training")
    assert few.ids == many.ids[:3]
    assert torch.equal(few.x, many.x[:3])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "YCbCr"])
def test_every_mode_of_a_white_picture_is_white(mode: str, tmp_path: Path) -> None:
    suffix = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
    x = read(saved(Image.new("RGB", (40, 40), "white").convert(mode), tmp_path / f"x.{suffix}"), SHAPE)
    assert x.shape == SHAPE
    assert x.min() > 0.97


def test_colours_survive_cmyk_and_palettes(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 40), RED)
    for name, mode in (("cmyk.tif", "CMYK"), ("palette.gif", "P")):
        x = read(saved(picture.convert(mode), tmp_path / name), SHAPE)
        assert torch.allclose(x.mean((1, 2)), torch.tensor(RED) / 255, atol=0.03), mode


def test_grey_pictures_have_equal_channels_and_colour_becomes_luminance(tmp_path: Path) -> None:
    grey = read(saved(Image.new("L", (40, 40), 128), tmp_path / "grey.png"), SHAPE)
    assert torch.equal(grey[0], grey[2])
    red = read(saved(Image.new("RGB", (40, 40), (255, 0, 0)), tmp_path / "red.png"), (1, 32, 32))
    assert red.shape == (1, 32, 32)
    assert red.mean() == pytest.approx(0.299, abs=0.01)


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65_535, 40 * 40).reshape(40, 40).astype(np.uint16)
    x = read(saved(Image.fromarray(ramp), tmp_path / "deep.png"), SHAPE)
    assert x.mean() == pytest.approx(0.5, abs=0.02)


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    assert read(saved(Image.new("RGBA", (40, 40), (0, 0, 0, 0)), tmp_path / "clear.png"), SHAPE).min() == 1.0


def test_a_picture_is_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 40), "black")
    picture.paste((255, 255, 255), (0, 0, 40, 20))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: the white half comes to the right
    picture.save(tmp_path / "turned.png", exif=exif)
    x = read(tmp_path / "turned.png", SHAPE)
    assert x[:, :, 20:].min() == 1.0
    assert x[:, :, :12].max() == 0.0


def _ramp(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))


@pytest.mark.parametrize(("width", "left"), [(32, 0.0), (256, 1 / 16), (34, 1 / 34)])
def test_only_a_larger_picture_loses_a_sixteenth_at_each_side(width: int, left: float, tmp_path: Path) -> None:
    x = read(saved(_ramp(width, width), tmp_path / "ramp.png"), SHAPE)
    assert float(x[0, 0, 0]) == pytest.approx(left, abs=0.03)  # an odd pixel goes to one side
    assert float(x[0, 0, -1]) == pytest.approx(1 - left, abs=0.04)


def test_the_crop_of_224_from_256_is_that_of_torchvision(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8))
    x = read(saved(picture, tmp_path / "noise.png"), (3, 224, 224))
    assert torch.equal(x, center_crop(to_tensor(picture), [224, 224]))


def test_small_pictures_are_enlarged_with_one_warning(folder: Path) -> None:
    for path in (folder / "apple").iterdir():
        Image.new("RGB", (16, 12), RED).save(path)
    message = r"4 of 8 pictures \(first .*\.png\) are smaller than the model's input of 32x32 and were enlarged"
    with pytest.warns(UserWarning, match=message) as caught:
        samples = load(folder, "training")
    assert len(caught) == 1
    assert torch.allclose(samples.x[samples.label == 0].mean((0, 2, 3)), torch.tensor(RED) / 255, atol=1e-3)


def test_no_warning_without_small_pictures(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(folder)


def test_a_picture_of_a_few_pixels_is_refused(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (100, 3)), tmp_path / "thin.png")
    with pytest.raises(DataError, match=r"thin\.png has only 100x3 pixels"):
        read(path, SHAPE)


def test_an_unreadable_picture_is_named_with_the_mend(folder: Path) -> None:
    broken = folder / "apple" / "3.png"
    broken.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"3\.png cannot be read as an image .*repair it or leave it out"):
        everything(folder)


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    whole = saved(Image.effect_noise((200, 200), 50).convert("RGB"), tmp_path / "cut.jpg")
    whole.write_bytes(whole.read_bytes()[:2_000])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be read"):
        read(whole, SHAPE)


def test_a_picture_of_enormous_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("L", (300, 300)), tmp_path / "huge.png")
    monkeypatch.setattr("mibench.data.images.MAX_PIXELS", 1_000)
    with pytest.raises(DataError, match=r"huge\.png is too large"):
        read(path, SHAPE)


def test_other_files_are_left_out(folder: Path) -> None:
    (folder / "apple" / "notes.txt").write_text("not a picture")
    (folder / "apple" / ".hidden.png").write_bytes(b"")
    (folder / "readme.txt").write_text("no class")
    assert len(everything(folder)) == 20


@pytest.mark.parametrize(
    ("made", "message"),
    [((), "has no subfolders"), (("apple",), "no pictures in them"), (None, "is not a folder")],
)
def test_an_empty_folder_says_what_is_missing(made: tuple[str, ...] | None, message: str, tmp_path: Path) -> None:
    for name in made or ():
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=message):
        load(tmp_path if made is not None else tmp_path / "nowhere")


def test_a_folder_without_a_path_says_how_to_write_one() -> None:
    with pytest.raises(DataError, match="folder:PATH"):
        registry.data("folder").load("scoring", 1, SHAPE)


def test_a_folder_of_one_picture_has_it_scored_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "only" / "one.png")
    assert [len(load(tmp_path, split)) for split in ("training", "calibration", "scoring")] == [0, 0, 1]


def test_a_file_of_classes_gives_the_labels(folder: Path) -> None:
    (folder / "names.txt").write_text("quince\npear\nmedlar\napple\n")
    data = registry.data(f"folder[classes={folder / 'names.txt'}]:{folder}")
    samples = data.load("scoring", None, SHAPE)
    assert data.classes == ("quince", "pear", "medlar", "apple")
    assert set(samples.label.tolist()) == {1, 3}


def test_a_subfolder_outside_of_the_file_of_classes_is_refused(folder: Path) -> None:
    (folder / "names.txt").write_text("apple\n")
    with pytest.raises(DataError, match="pear is not among the 1 classes"):
        registry.data(f"folder[classes={folder / 'names.txt'}]:{folder}").load("scoring", 1, SHAPE)


def test_a_table_model_is_told_that_these_are_images(folder: Path) -> None:
    with pytest.raises(DataError, match="a row of 4 numbers"):
        registry.data(f"folder:{folder}").load("scoring", 1, (4,))


def test_images_change_their_size_and_channels() -> None:
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert conform(x, (1, 28, 28)) is x
    larger = conform(x, (3, 56, 56))
    assert larger.shape == (2, 3, 56, 56)
    assert larger.mean() == pytest.approx(float(x.mean()), abs=0.02)
    with pytest.raises(DataError, match="2 channels"):
        conform(torch.zeros(1, 2, 8, 8), (3, 8, 8))


@pytest.mark.parametrize("across", [True, False])
def test_an_elongated_picture_shows_its_middle_as_if_it_were_scaled_whole(across: bool, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 20_000), dtype=np.uint8)
    path = saved(Image.fromarray(noise if across else noise.T.copy()), tmp_path / "long.png")
    x = read(path, SHAPE)
    whole = Image.fromarray(noise).resize((80_000, 32), Image.Resampling.BILINEAR).crop((39_984, 0, 40_016, 32))
    expected = torch.from_numpy(np.asarray(whole, dtype=np.float32) / 255)
    assert torch.allclose(x[0] if across else x[0].T, expected, atol=1.1 / 255)
