"""Fashion-MNIST (Xiao et al., 2017): 70,000 grey pictures of garments of 28 x 28 pixels, in ten classes."""

from __future__ import annotations

from pathlib import Path

from mibench.data import seventy
from mibench.data.images import conform
from mibench.plugins.contract import Data, Samples, Split

DEBIAN = "/usr/share/datasets/fashion-mnist"
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class Fashion(Data):
    """`fashion` is Debian's dataset-fashion-mnist; `fashion:ROOT` a folder of its four files, or torchvision's root."""

    name = "fashion"
    title = "Fashion-MNIST"

    @property
    def folders(self) -> tuple[str, ...]:
        """Where the files may be."""
        root = Path(self.argument or DEBIAN)
        return (str(root), str(root / "FashionMNIST/raw")) if self.argument else (str(root),)

    @property
    def paths(self) -> tuple[str, ...]:
        """The folder that is named."""
        return (self.argument,) if self.argument else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten garments."""
        return CLASSES

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first samples of a split: the test images to score, five sixths of the others to train."""
        mend = "install Debian's dataset-fashion-mnist, or write fashion:ROOT with a folder of the four files"
        x, label, ids = seventy.load(self.folders, split, f"{self.name} ({mend})")
        return Samples(conform(x[:count].float() / 255, shape), label[:count], ids[:count])
