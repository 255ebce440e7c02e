"""What planted images may have behind their glyphs: nothing, 1/f noise, or a piece of a photograph.

1/f noise has the amplitude spectrum of natural images (Field 1987). The photographs are those that scikit-image's
package holds, a finite bank that needs no download. Both are grey, have mean 0, and are added to the image.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

Background = Literal["none", "1/f", "photographs"]
STRENGTH = 0.15  # standard deviation
BANK = ("astronaut", "chelsea", "coffee", "rocket", "brick", "grass", "gravel", "camera")


def background(kind: Background, side: int, seed: int) -> Tensor:
    """One image's background, (3, side, side); (0,) where there is none."""
    if kind == "none":
        return torch.zeros(0)
    generator = torch.Generator().manual_seed(seed)
    grey = _one_over_f(side, generator) if kind == "1/f" else _piece(side, generator)  # (side, side)
    grey = grey - grey.mean()
    return (STRENGTH * grey / grey.std().clamp_min(1e-3)).expand(3, -1, -1)


def _one_over_f(side: int, generator: torch.Generator) -> Tensor:
    """White noise whose amplitudes are divided by their frequency."""
    white = torch.fft.fft2(torch.randn(side, side, generator=generator))
    line = torch.fft.fftfreq(side)
    frequency = (line[:, None].square() + line.square()).sqrt()
    frequency[0, 0] = 1.0  # the mean is taken off anyway
    grey: Tensor = torch.fft.ifft2(white / frequency).real
    return grey


def _piece(side: int, generator: torch.Generator) -> Tensor:
    """A random square of a random photograph."""
    photograph = _bank()[int(torch.randint(len(BANK), (), generator=generator))]
    row, column = (int(torch.randint(size - side + 1, (), generator=generator)) for size in photograph.shape)
    return photograph[row : row + side, column : column + side]


@cache
def _bank() -> tuple[Tensor, ...]:
    """The photographs in grey, (H, W) each, at half their size: a glyph's cell then spans something to see."""
    import skimage.data  # slow to import, and seldom wanted

    images = [torch.as_tensor(getattr(skimage.data, name)()).float() / 255 for name in BANK]
    greys = [image.mean(2) if image.dim() == 3 else image for image in images]
    return tuple(torch.nn.functional.avg_pool2d(grey[None], 2)[0] for grey in greys)
