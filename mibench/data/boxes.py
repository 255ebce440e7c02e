"""Bounding boxes from XML files in Pascal VOC's form, as ImageNet's are: an `object` with a `name` and a `bndbox` each.

The files come from outside: one that declares a document type is refused, so that no entity is ever expanded. Boxes are
in the pixels of the `size` that the file states; a picture that was scaled since then has its boxes scaled too.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

from mibench.data.images import Box, opened
from mibench.errors import DataError
from mibench.files.reading import check_file

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LARGEST = 1 << 20  # bytes; ImageNet's have under a thousand
MAX_BOXES = 1000  # of one picture's class
FARTHEST = 1e9  # pixels


def box_file(folder: Path, picture: Path) -> Path:
    """The XML file of a picture: CLASS/NAME.xml, or NAME.xml."""
    name = f"{picture.stem}.xml"
    within = folder / picture.parent.name / name
    found = within if os.path.isfile(within) else folder / name
    if not os.path.isfile(found):
        raise DataError(f"{picture} has no boxes: there is neither {within} nor {found}; add one or leave it out")
    return found


def read_boxes(path: Path, picture: Path) -> list[Box]:
    """The boxes of the picture's class, which is its folder's name, in the picture's own pixels."""
    root = _parsed(path)
    objects = [(each.findtext("name", "").strip(), each) for each in root.iter("object")]
    own = [_box(path, each) for name, each in objects if name == picture.parent.name]
    if not own:
        names = ", ".join(sorted({name for name, _ in objects})) or "nothing"
        raise DataError(f"{path} has no box of {picture.parent.name!r}, the folder of its picture, but of {names}")
    if len(own) > MAX_BOXES:
        raise DataError(f"{path} has {len(own)} boxes of {picture.parent.name!r}, more than {MAX_BOXES}: merge some")
    across, down = _scale(path, root, picture)
    return [(left * across, top * down, width * across, height * down) for left, top, width, height in own]


class _Plain(ElementTree.TreeBuilder):
    """A tree without a document type, in which entities would be declared."""

    def doctype(self, *_: object) -> NoReturn:
        raise ValueError("it declares a document type, which is not read from foreign files")


def _parsed(path: Path) -> ElementTree.Element:
    check_file(path, LARGEST, DataError)
    try:
        return ElementTree.parse(path, ElementTree.XMLParser(target=_Plain())).getroot()
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
        raise DataError(
            f"{path} cannot be read as Pascal VOC's XML ({error}): mend it or leave its picture out"
        ) from error


def _number(path: Path, parent: ElementTree.Element, tag: str) -> float:
    text = parent.findtext(tag, "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= FARTHEST:
        raise DataError(f"{path} must have a number as <{tag}> of <{parent.tag}>, not {text!r}")
    return value


def _box(path: Path, each: ElementTree.Element) -> Box:
    bounds = each.find("bndbox")
    if bounds is None:
        raise DataError(f"{path} has an object without a <bndbox>: mend it or leave its picture out")
    left, top, right, bottom = (_number(path, bounds, tag) for tag in CORNERS)
    return left, top, right - left, bottom - top


def _scale(path: Path, root: ElementTree.Element, picture: Path) -> tuple[float, float]:
    """How much larger the picture is than when its boxes were drawn."""
    size = root.find("size")
    if size is None:
        return 1.0, 1.0
    width, height = _number(path, size, "width"), _number(path, size, "height")
    with opened(picture) as file:
        now = file.size
    if min(width, height) < 1 or abs(now[0] * height - now[1] * width) > max(*now, width, height):  # a pixel's rounding
        was = f"{width:g}x{height:g}"
        raise DataError(
            f"{path} has boxes for {was} pixels, but {picture} has {now[0]}x{now[1]}: it is another or cropped"
        )
    return now[0] / width, now[1] / height
