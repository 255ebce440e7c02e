"""A folder of pictures, one subfolder a class: `folder:PATH`, or `folder[boxes=FOLDER]:PATH` with XML files of boxes.

Classes are the subfolders in sorted order (ImageNet's WordNet ids so come in ImageNet's order). Pictures are made
upright RGB (or grey, for a network of one channel), scaled to leave a margin of 1/8 and cropped at their centre.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mibench.data.boxes import box_file, read_boxes
from mibench.data.images import box_mask, is_smaller, read
from mibench.data.splits import members
from mibench.errors import DataError
from mibench.files.reading import MIB, check_name, read_text
from mibench.plugins import contract
from mibench.plugins.contract import Data, DataNotice, P_co, Samples, Split

MAX_PICTURES = 2_000_000  # ImageNet's training set has 1.3 million
MAX_CLASSES = 50_000
MAX_LIST = 16 * MIB  # bytes of a file of classes
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jfif"}
)


class ClassFolders(Data[P_co]):
    """Class folders of pictures, dealt to the splits class by class."""

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder that holds the class folders."""

    @abstractmethod
    def masks(self, paths: Sequence[Path], shape: tuple[int, ...]) -> Tensor | None:
        """Where the class is in each picture, (N, H, W), if it is known."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The subfolders' names in order, or those of a file of classes."""
        return self.listed()[0]

    def listed(self) -> tuple[tuple[str, ...], list[Path], list[int]]:
        """Classes, picture files and their labels."""
        return listed(self.root)

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first pictures of a split, read and cropped."""
        return self.load_classes(split, None, count, shape)

    def load_classes(
        self, split: Split, labels: Collection[int] | None, count: int | None, shape: tuple[int, ...]
    ) -> Samples:
        """The first pictures of a split whose labels are among these (None: all); no other picture is read."""
        _, paths, every = self.listed()
        names = [path.relative_to(self.root).as_posix() for path in paths]
        chosen = [index for index in members(split, names, every) if labels is None or every[index] in labels][:count]
        x = torch.stack([read(paths[index], shape) for index in chosen] or [torch.zeros(shape)])  # (N, C, H, W)
        smaller = [paths[index] for index in chosen if is_smaller(paths[index], shape)]
        if smaller:
            what = f"{len(smaller)} of {len(chosen)} pictures (first {smaller[0]}) are smaller than the model's input"
            warnings.warn(f"{what} of {shape[-2]}x{shape[-1]} and were enlarged", DataNotice, stacklevel=2)
        label = torch.tensor([every[index] for index in chosen], dtype=torch.int64)
        ids = tuple(names[index] for index in chosen)
        return Samples(x[: len(chosen)], label, ids, self.masks([paths[index] for index in chosen], shape))


class Parameters(contract.Parameters):
    """The order of the classes, and where they are."""

    classes: str = ""  # a file that names the model's classes in order, one subfolder's name a line
    boxes: str = ""  # a folder of Pascal VOC's XML files (as ImageNet's): NAME.xml or CLASS/NAME.xml for each picture


class Folder(ClassFolders[Parameters]):
    """`folder:PATH`."""

    name = "folder"
    title = "Image folder"

    @property
    def paths(self) -> tuple[str, ...]:
        """The folder of pictures, the file of classes, and the folder of boxes."""
        return (str(self.root), *filter(None, [self.parameters.classes, self.parameters.boxes]))

    @property
    def root(self) -> Path:
        """The path as it was written."""
        if not self.argument:
            raise DataError("folder needs a path: write folder:PATH, with one subfolder of pictures a class")
        return Path(self.argument)

    def listed(self) -> tuple[tuple[str, ...], list[Path], list[int]]:
        """Classes (those of the file of classes, if there is one), picture files and their labels."""
        return listed(self.root, self.parameters.classes)

    def masks(self, paths: Sequence[Path], shape: tuple[int, ...]) -> Tensor | None:
        """The boxes of the picture's class, if there is a folder of them."""
        if not self.parameters.boxes or not paths:
            return None
        told = [box_file(Path(self.parameters.boxes), path) for path in paths]
        return torch.stack(
            [box_mask(path, read_boxes(file, path), shape, file) for path, file in zip(paths, told, strict=True)]
        )


@cache
def listed(root: Path, classes: str = "") -> tuple[tuple[str, ...], list[Path], list[int]]:
    """Classes, picture files and their labels."""
    folders = [path for path in _inside(root) if path.is_dir()]
    if not folders:
        raise DataError(f"{root} has no subfolders: put the pictures of each class into a folder of its own")
    names = _named(Path(classes)) if classes else tuple(folder.name for folder in folders)
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{root} has {len(names):,} classes, more than {MAX_CLASSES:,}: is it a folder of class folders?"
        )
    place = {name: label for label, name in enumerate(names)}
    paths: list[Path] = []
    labels: list[int] = []
    for folder in folders:
        if folder.name not in place:
            raise DataError(f"{folder} is not among the {len(names)} classes that {classes} names")
        found = [path for path in _inside(folder) if path.suffix.lower() in SUFFIXES]
        paths += found
        labels += [place[folder.name]] * len(found)
        if len(paths) > MAX_PICTURES:
            raise DataError(f"{root} has more than {MAX_PICTURES:,} pictures: leave some out")
    if not paths:
        raise DataError(f"{root} has subfolders but no pictures in them ({', '.join(sorted(SUFFIXES))})")
    return names, paths, labels


def _inside(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, in order, or the error that it cannot be listed or a name not be used."""
    check_name(folder, DataError)
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except NotADirectoryError as error:
        raise DataError(f"{folder} is not a folder: give the path of one") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{folder} is not a folder that can be read: {why}; give the path of one") from error
    for path in found:
        check_name(path, DataError)
    return found


def _named(path: Path) -> tuple[str, ...]:
    """The classes that a file lists."""
    names = tuple(line.strip() for line in read_text(path, MAX_LIST, DataError).splitlines() if line.strip())
    if len(set(names)) < len(names) or not names:
        raise DataError(f"{path} must name every class once, one a line")
    return names
