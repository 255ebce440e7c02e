"""CUB-200-2011, 11,788 birds of 200 species, as the archive unpacks: `cub:PATH`, with the bounding boxes as masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mibench.data.folder import ClassFolders
from mibench.data.images import Box, box_mask
from mibench.errors import DataError
from mibench.files.reading import MIB, read_text

MAX_LIST = 16 * MIB  # bytes of one of the archive's lists, which have 11,788 lines
FARTHEST = 1e9  # pixels


class Cub(ClassFolders):
    """The folder that holds `images/`, `images.txt` and `bounding_boxes.txt`; the latter two may be missing."""

    name = "cub"
    title = "CUB-200-2011"

    @property
    def paths(self) -> tuple[str, ...]:
        """The folder of the class folders."""
        return (str(self.root),)

    @property
    def root(self) -> Path:
        """The class folders are in `images`."""
        if not self.argument:
            raise DataError("cub needs a path: write cub:PATH, the folder CUB_200_2011 that the archive unpacks to")
        root = Path(self.argument) / "images"
        if not os.path.isdir(root):
            raise DataError(f"{self.argument} is not CUB-200-2011: it has no folder 'images'")
        return root

    def masks(self, paths: Sequence[Path], shape: tuple[int, ...]) -> Tensor | None:
        """The bird's bounding box."""
        boxes = _boxes(self.root.parent)
        if not boxes or not paths:
            return None
        file = self.root.parent / "bounding_boxes.txt"
        names = [path.relative_to(self.root).as_posix() for path in paths]
        missing = [name for name in names if name not in boxes]
        if missing:
            raise DataError(f"{file} has no box for {missing[0]}: unpack it again")
        return torch.stack(
            [box_mask(path, [boxes[name]], shape, file) for path, name in zip(paths, names, strict=True)]
        )


@cache
def _boxes(folder: Path) -> dict[str, Box]:
    """Left, top, width and height by the picture's name; nothing where the archive's two lists are not there."""
    lists = [folder / name for name in ("images.txt", "bounding_boxes.txt")]
    if not all(map(os.path.isfile, lists)):
        return {}
    try:
        names, numbers = (dict(line.split(maxsplit=1) for line in _lines(path)) for path in lists)
        boxes = {key: tuple(map(float, numbers[key].split())) for key in names}
        if not all(abs(number) <= FARTHEST for box in boxes.values() for number in box):
            raise ValueError("a figure is not finite or too large")
        return {names[key].strip(): (left, top, width, height) for key, (left, top, width, height) in boxes.items()}
    except (ValueError, KeyError) as error:
        raise DataError(f"{lists[1]} does not list a number and four figures a picture of {lists[0]}") from error


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path, MAX_LIST, DataError).splitlines() if line.strip()]
