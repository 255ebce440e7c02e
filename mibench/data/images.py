"""Pictures of any size and mode as tensors in [0, 1] at a network's input shape."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from mibench.errors import DataError
from mibench.files.reading import MIB, check_file
from mibench.plugins.contract import SMALLEST, DataNotice

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # pixels alone: Pillow starts a program for EPS
MAX_BYTES = 256 * MIB  # of a picture's file
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs; cameras have 50 million
ELONGATED = 64  # of longer pictures, so many lengths of the crop are kept along the long side before any is scaled
Box = tuple[float, float, float, float]  # left, top, width, height
MARGIN = 8 / 7  # a larger picture's shorter side is brought to this multiple of the input's, then cropped (256 / 224)
GREY = torch.tensor([0.299, 0.587, 0.114])  # luminance of red, green and blue
BRIGHTEST = {"I;16": 65_535, "I;16L": 65_535, "I;16B": 65_535, "I;16N": 65_535, "I": 65_535, "F": 1.0}


def read(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A picture file as (C, H, W): upright, its centre cropped, enlarged if it is smaller than the input."""
    channels, height, width = image_shape(shape)
    with opened(path) as file:
        picture = _upright(file)
    if min(picture.size) < SMALLEST:
        size = "x".join(map(str, picture.size))
        raise DataError(f"{path} has only {size} pixels: enlarge it or leave it out (at least {SMALLEST} a side)")
    cropped = np.asarray(_cropped(picture, height, width), dtype=np.float32) / 255
    return recoloured(torch.from_numpy(cropped).permute(2, 0, 1), channels)  # (H, W, 3) -> (C, H, W)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture's file, not yet decoded, after its kind and its sizes were checked; faults while it is open name it."""
    check_file(path, MAX_BYTES, DataError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what it warns of is refused below
            file = Image.open(path, formats=FORMATS)
        with file:
            if file.width * file.height > MAX_PIXELS:
                size = f"{file.width}x{file.height}"
                raise DataError(
                    f"{path} is too large to open safely ({size} pixels, at most {MAX_PIXELS:,}): shrink it"
                )
            yield file
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large to open safely: shrink it") from error
    except Exception as error:  # Pillow's readers fail in any way on what is damaged
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{path} cannot be read as an image ({reason}): repair it or leave it out; {', '.join(FORMATS)} are read"
        ) from error


def is_smaller(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a picture must be enlarged for this input."""
    with opened(path) as file:
        return min(file.size) < min(shape[-2:])


def box_mask(path: Path, boxes: Sequence[Box], shape: tuple[int, ...], origin: Path) -> Tensor:
    """Boxes in a picture's own pixels (see `origin`), as one mask (H, W) of what `read` gives of the picture."""
    with opened(path) as file:
        mask, turn = Image.new("L", file.size), file.getexif().get(ExifTags.Base.Orientation, 1)
    for left, top, width, height in boxes:
        right, bottom = min(mask.width, round(left + width)), min(mask.height, round(top + height))
        corner = max(0, round(left)), max(0, round(top))
        if corner[0] >= right or corner[1] >= bottom:
            box = f"{left:g}, {top:g} to {left + width:g}, {top + height:g}"
            size = f"{mask.width}x{mask.height}"
            raise DataError(f"{origin}: the box {box} of {path.name} is empty or outside of its {size} pixels; mend it")
        mask.paste(255, (*corner, right, bottom))
    mask.getexif()[ExifTags.Base.Orientation] = turn  # boxes are turned with their picture
    return torch.from_numpy(np.asarray(_cropped(ImageOps.exif_transpose(mask), shape[-2], shape[-1])) > 127)


def conform(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Images (N, C, H, W) at another shape: as many channels, then bilinearly resized."""
    channels, height, width = image_shape(shape)
    x = recoloured(x, channels)
    given = tuple(x.shape[-2:])
    if given == (height, width):
        return x
    if given[0] < height or given[1] < width:
        what = f"{len(x)} images of {given[0]}x{given[1]} are smaller than the model's input of {height}x{width}"
        warnings.warn(f"{what} and were enlarged", DataNotice, stacklevel=2)
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True).clamp(0.0, 1.0)


def recoloured(x: Tensor, channels: int) -> Tensor:
    """Images (…, C, H, W) with one channel (luminance) or three."""
    if x.shape[-3] == channels:
        return x
    if x.shape[-3] == 1 and channels == 3:
        return x.expand(*x.shape[:-3], 3, *x.shape[-2:]).contiguous()
    if x.shape[-3] == 3 and channels == 1:
        return (x * GREY[:, None, None]).sum(-3, keepdim=True)
    raise DataError(f"images of {x.shape[-3]} channels cannot be made into images of {channels}")


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape (C, H, W) itself, or the error that the model does not look at images."""
    if len(shape) != 3:
        raise DataError(f"these data are images, but the model wants a row of {shape[0]} numbers")
    return shape[0], shape[1], shape[2]


def _upright(file: Image.Image) -> Image.Image:
    """Any mode as RGB, turned as the camera was held; what is transparent shows white."""
    picture = ImageOps.exif_transpose(file)
    if picture.mode in BRIGHTEST:  # more than eight bits, which Pillow would cut off instead of scale
        scaled = np.asarray(picture, dtype=np.float64) * (255 / BRIGHTEST[picture.mode])
        return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _cropped(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The centre of the picture, scaled so that the crop leaves a margin where there is one to leave."""
    picture = _without_far_ends(picture, height, width)
    fit = max(height / picture.height, width / picture.width)  # fills the input exactly
    scale = min(1.0, fit * MARGIN) if fit < 1.0 else fit
    if scale != 1.0:
        size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _without_far_ends(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The picture itself, or its middle where it is so elongated that scaling the whole would need far more memory."""
    unit = min(picture.width / width, picture.height / height)  # its own pixels to one of the input's
    cut = [
        max(0, int(side - ELONGATED * unit * wanted) // 2)
        for side, wanted in ((picture.width, width), (picture.height, height))
    ]
    if not any(cut):
        return picture
    return picture.crop((cut[0], cut[1], picture.width - cut[0], picture.height - cut[1]))
