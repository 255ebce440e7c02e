"""Boxes from XML files and from CUB become masks of what the network sees, or one clear error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image

from mibench.data.images import box_mask, read
from mibench.errors import DataError
from mibench.plugins import registry
from mibench.plugins.contract import Samples

SHAPE = (3, 80, 80)
CLASSES = ("n01440764", "n01443537")
VOC = """<annotation>
  <folder>val</folder><filename>{stem}</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size><segmented>0</segmented>
{objects}</annotation>
"""
OBJECT = """  <object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>
"""


def voc(stem: str, *boxes: tuple[float, ...], name: str = CLASSES[0], size: tuple[int, int] = (100, 80)) -> str:
    """The text of an annotation."""
    objects = "".join(OBJECT.format(*box, name=name) for box in boxes)
    return VOC.format(stem=stem, width=size[0], height=size[1], objects=objects)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five black pictures with a white thing each, and its box, in ImageNet's flat layout."""
    (tmp_path / "boxes").mkdir()
    for label, name in enumerate(CLASSES):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(5):
            stem = f"ILSVRC2012_val_{label}{index}"
            box = (20 + 5 * index, 10, 50 + 5 * index, 40)
            picture = Image.new("RGB", (100, 80))
            picture.paste((255, 255, 255), box)
            picture.save(tmp_path / "pictures" / name / f"{stem}.png")
            (tmp_path / "boxes" / f"{stem}.xml").write_text(voc(stem, box, name=name))
    return tmp_path


def load(folder: Path, count: int | None = None) -> Samples:
    spec = f"folder[boxes={folder / 'boxes'}]:{folder / 'pictures'}"
    return registry.data(spec).load("calibration", count, SHAPE)


def first(folder: Path) -> Path:
    """The annotation of the first picture that is loaded."""
    return folder / "boxes" / f"{Path(load(folder, 1).ids[0]).stem}.xml"


def refused(folder: Path, path: Path, text: str, message: str) -> None:
    """An annotation with this text is refused with this message, and named."""
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        load(folder)
    assert path.name in str(error.value)


def test_imagenet_s_boxes_are_masks(folder: Path) -> None:
    samples = load(folder)
    assert samples.mask is not None
    assert samples.mask.shape == (4, 80, 80)
    assert torch.equal(samples.mask, samples.x[:, 0] > 0.5)


def test_boxes_may_lie_in_a_folder_for_each_class(folder: Path) -> None:
    expected = load(folder).mask
    for path in list((folder / "boxes").iterdir()):
        home = folder / "boxes" / CLASSES[int(path.stem[-2])]
        home.mkdir(exist_ok=True)
        path.rename(home / path.name)
    assert torch.equal(load(folder).mask, expected)  # type: ignore[arg-type]


def test_several_boxes_of_the_class_are_united_and_others_left_out(folder: Path) -> None:
    path, name = first(folder), load(folder, 1).ids[0].split("/")[0]
    own = voc("x", (10, 0, 30, 20), (60, 40, 90, 80), name=name)
    path.write_text(own.replace("</annotation>", OBJECT.format(0, 0, 100, 80, name="n99") + "</annotation>"))
    mask = load(folder, 1).mask
    assert mask is not None
    assert int(mask.sum()) == 20 * 20 + 30 * 40


def test_boxes_of_a_picture_that_was_scaled_are_scaled_too(folder: Path) -> None:
    path = first(folder)
    expected = load(folder, 1).mask
    name, box = path.stem, (2 * (20 + 5 * int(path.stem[-1])), 20, 2 * (50 + 5 * int(path.stem[-1])), 80)
    path.write_text(voc(name, box, name=CLASSES[int(path.stem[-2])], size=(200, 160)))
    assert torch.equal(load(folder, 1).mask, expected)  # type: ignore[arg-type]


def test_a_turned_picture_has_its_box_turned(tmp_path: Path) -> None:
    picture, path = Image.new("RGB", (40, 40)), tmp_path / "turned.png"
    picture.paste((255, 255, 255), (0, 0, 20, 10))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture.save(path, exif=exif)
    mask = box_mask(path, [(0, 0, 20, 10)], (3, 40, 40), path)
    assert torch.equal(mask, read(path, (3, 40, 40))[0] > 0.5)
    assert bool(mask[0, -1])


def test_a_picture_without_boxes_is_named_with_its_possible_files(folder: Path) -> None:
    path = first(folder)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path.stem}\.png has no boxes: there is neither .*{CLASSES[0][:3]}.*xml"):
        load(folder)


def test_boxes_are_cut_at_the_picture_and_one_outside_of_it_is_refused(folder: Path) -> None:
    path = first(folder)
    name = CLASSES[int(path.stem[-2])]
    path.write_text(voc("x", (-5, 70, 30, 200), name=name))
    assert int(load(folder, 1).mask.sum()) == 20 * 10  # type: ignore[union-attr]  # ten columns are cropped
    for box in ((100, 10, 130, 40), (10, 90, 20, 95), (50, 10, 20, 40), (10, 10, 10, 40)):
        refused(folder, path, voc("x", box, name=name), "is empty or outside of its 100x80 pixels")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", "cannot be read as Pascal VOC's XML"),
        ("<annotation>", "not XML <annotation>", "cannot be read as Pascal VOC's XML"),
        ("<ymax>40</ymax>", "<ymax>forty</ymax>", "must have a number as <ymax> of <bndbox>, not 'forty'"),
        ("<ymax>40</ymax>", "<ymax>inf</ymax>", "must have a number as <ymax>"),
        ("<xmin>", "<x>", "cannot be read"),
        ("bndbox", "box", "an object without a <bndbox>"),
        ("n0144", "n7777", "has no box of 'n0144.*the folder of its picture, but of n7777"),
        ("<width>100</width>", "<width>80</width>", "boxes for 80x80 pixels, but .*png has 100x80"),
        ("<width>100</width>", "<width>0</width>", "boxes for 0x80 pixels"),
    ],
)
def test_a_broken_annotation_is_named(old: str, new: str, message: str, folder: Path) -> None:
    path = first(folder)
    refused(folder, path, path.read_text().replace(old, new), message)


def test_no_entity_of_a_foreign_file_is_expanded(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("40")
    many = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    path = first(folder)
    whole = path.read_text()
    for entities, name in (('<!ENTITY e0 "4">' + many, "e11"), (f'<!ENTITY from SYSTEM "{secret}">', "from")):
        text = f"<!DOCTYPE annotation [{entities}]>" + whole.replace("<ymax>40<", f"<ymax>&{name};<")
        refused(folder, path, text, "it declares a document type")


def test_an_enormous_annotation_is_not_read(folder: Path) -> None:
    path = first(folder)
    refused(folder, path, path.read_text() + " " * (1 << 20), "more than the 1,048,576")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 90.0 10.0 20.0 20.0\n", r"the box 90, 10 to 110, 30 of a\.png is empty or outside"),
        ("1 nan 10.0 20.0 20.0\n", "does not list a number and four figures"),
        ("2 10.0 10.0 20.0 20.0\n", "does not list a number and four figures"),
    ],
)
def test_a_bird_s_box_outside_of_its_picture_or_missing_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "images" / "001.Bird").mkdir(parents=True)
    Image.new("RGB", (90, 90)).save(tmp_path / "images" / "001.Bird" / "a.png")
    (tmp_path / "images.txt").write_text("1 001.Bird/a.png\n")
    (tmp_path / "bounding_boxes.txt").write_text(text)
    with pytest.raises(DataError, match=rf"bounding_boxes\.txt.*{message}"):
        registry.data(f"cub:{tmp_path}").load("scoring", 1, SHAPE)
