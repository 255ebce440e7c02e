"""Mosaics of 2 x 2 images, in which it is known where the explained class is: `mosaic:DATA` (Arias-Duart et al. 2022).

Mosaic i is made of the images 4i to 4i + 3 of the other data's split at half the size, in a drawn order. The explained
class is that of the image whose label is rarest among the four; every quadrant with that label is in the mask.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from mibench.data.images import image_shape
from mibench.errors import DataError
from mibench.plugins import registry
from mibench.plugins.contract import Data, Samples, Split


class Mosaic(Data):
    """Four images in one; the mask is where the explained one is."""

    name = "mosaic"
    title = "Mosaics"
    targets = "label"

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of the images."""
        return self._source().paths

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the images."""
        return self._source().classes

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first mosaics of a split."""
        channels, height, width = image_shape(shape)
        if height % 2 or width % 2:
            raise DataError(f"mosaics need an even number of pixels, but the model wants {height}x{width}")
        parts = self._source().load(split, None if count is None else 4 * count, (channels, height // 2, width // 2))
        made = len(parts) // 4
        if made == 0:
            raise DataError(f"{self.argument} has only {len(parts)} images in its {split} split; a mosaic needs four")
        labels = parts.label[: 4 * made].reshape(made, 4)  # (M, 4)
        repeats = (labels[:, :, None] == labels[:, None]).sum(2)  # (M, 4)
        label = labels.gather(1, repeats.argmin(1, keepdim=True))  # (M, 1)
        places = torch.stack([_places(split, index) for index in range(made)])  # (M, 4) which image is where
        shown = (labels == label).gather(1, places)  # (M, 4) in the order of the quadrants
        mask = _assembled(shown[..., None, None, None].expand(-1, -1, 1, height // 2, width // 2))
        x = _assembled(parts.x[places + 4 * torch.arange(made)[:, None]])
        ids = tuple(f"mosaic-{split}-{index:05d}" for index in range(made))
        return Samples(x, label[:, 0], ids, mask[:, 0])

    def _source(self) -> Data:
        if not self.argument:
            raise DataError("mosaic needs data to make mosaics of: write mosaic:mnist or mosaic:folder:PATH")
        return registry.data(self.argument)


def _assembled(quadrants: Tensor) -> Tensor:
    """Four images a mosaic (M, 4, C, h, w), in row-major order, as (M, C, 2h, 2w)."""
    upper, lower = torch.cat([quadrants[:, 0], quadrants[:, 1]], 3), torch.cat([quadrants[:, 2], quadrants[:, 3]], 3)
    return torch.cat([upper, lower], 2)


def _places(split: Split, index: int) -> Tensor:
    """An order of four images that depends on the mosaic alone."""
    digest = hashlib.blake2b(f"mosaic/{split}/{index}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.randperm(4, generator=generator)
