"""Pictures inside the page: samples and their maps as PNG in data URIs, and where quality meets cost."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image

LARGEST = 112  # pixels on a side; what is larger is made smaller
COLOURS = 64
MIX = 0.6  # a map's share where it is laid over its image
Floats = npt.NDArray[np.floating]


def picture(image: npt.NDArray[np.float32]) -> str:
    """A sample in [0, 1] as a data URI."""
    small = np.stack([_shrunk(channel) for channel in np.moveaxis(np.atleast_3d(image), -1, 0)], -1)  # (h, w, C)
    pixels = (np.clip(small, 0, 1) * 255).round().astype(np.uint8)
    return _uri(Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0]))


def heatmap(values: npt.NDArray[np.float32]) -> str:
    """A map as a data URI: white to dark from 0 up, or blue through white to red where it goes below 0."""
    scaled, colours = _scaled(_shrunk(np.nan_to_num(values)))
    levels = (scaled * (COLOURS - 1)).round().astype(np.uint8)
    image = Image.fromarray(levels, mode="P")
    image.putpalette(_palette(colours))
    return _uri(image)


def shown(values: npt.NDArray[Any] | str, *, is_map: bool = False) -> str:
    """A sample, a mask or a map as a data URI, if it is not drawn yet."""
    if isinstance(values, str):
        return values
    return heatmap(values) if is_map else picture(values.astype(np.float32))


def heat(values: Floats, scale: float = 0.0) -> Floats:
    """A map (H, W) as colours (H, W, 3) in [0, 1]; with a scale from -scale to scale, else to its own largest value."""
    scaled, colours = _scaled(values, scale)
    return np.asarray(colormaps[colours](scaled)[..., :3])


def overlay(image: Floats, heat: Floats) -> Floats:
    """A map's colours (H, W, 3) over a grey copy of its image, (H, W) or (H, W, 3)."""
    grey = image if image.ndim == 2 else image.mean(-1)
    return np.asarray((1 - MIX) * grey[..., None] + MIX * heat)


def _scaled(values: Floats, scale: float = 0.0) -> tuple[Floats, str]:
    """Values in [0, 1] and their colours: blue speaks against and red for; unsigned maps go from dark to bright."""
    largest = scale or float(np.abs(values).max()) or 1.0
    if scale or (values < 0).any():
        return np.clip((values / largest + 1) / 2, 0, 1), "RdBu_r"
    return values / largest, "magma"


@cache
def _palette(name: str) -> bytes:
    colours = colormaps[name](np.linspace(0, 1, COLOURS))[:, :3]
    return (colours * 255).round().astype(np.uint8).tobytes()


def _shrunk(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The same picture at no more than LARGEST pixels on a side."""
    factor = max(values.shape) / LARGEST
    if factor <= 1:
        return np.asarray(values, np.float32)
    size = max(1, round(values.shape[1] / factor)), max(1, round(values.shape[0] / factor))
    return np.asarray(Image.fromarray(np.asarray(values, np.float32)).resize(size, Image.Resampling.BOX))


def _uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")


@dataclass(frozen=True)
class Point:
    """One row where its quality meets its cost."""

    name: str
    cost: float  # above 0
    value: float  # standing, with its interval
    low: float
    high: float


@dataclass(frozen=True)
class Mark:
    """A point as drawn, in pixels."""

    name: str
    x: float
    y: float
    whisker: tuple[float, float] | None  # both ends, where there is an interval
    front: bool
    label: tuple[float, float, str]  # x, y, anchor


@dataclass(frozen=True)
class Tradeoff:
    """Quality against cost: cheaper to the left, better to the top, nothing better and cheaper than the front."""

    width: int
    height: int
    marks: tuple[Mark, ...]
    front: str  # the points of a polyline
    across: tuple[tuple[float, str], ...]  # ticks
    up: tuple[tuple[float, str], ...]


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 380, 44, 24, 18, 40


def tradeoff(points: Sequence[Point]) -> Tradeoff:
    """Compute the layout of the picture of quality against cost."""
    logs = np.log10([point.cost for point in points])
    first, last = np.floor(logs.min() - 0.05), np.ceil(logs.max() + 0.05)
    reached = np.array([[point.value, point.low, point.high] for point in points])
    bottom, top = float(np.nanmin(reached)), float(np.nanmax(reached))
    step = next(
        step
        for power in range(-3, 9)
        for step in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if top - bottom <= 8 * step
    )
    bottom, top = (np.floor(bottom / step) - 0.1) * step, (np.ceil(top / step) + 0.1) * step

    def x(cost: float) -> float:
        return float(round(LEFT + (np.log10(cost) - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1))

    def y(value: float) -> float:
        return float(round(TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1))

    best = _front(points)
    taken = [(x(point.cost) - 5, y(point.value) - 5, x(point.cost) + 5, y(point.value) + 5) for point in points]
    marks = []
    for point in sorted(points, key=lambda point: (point not in best, -point.value, point.name)):
        label = _label(point.name, x(point.cost), y(point.value), taken)
        whisker = (y(point.low), y(point.high)) if np.isfinite([point.low, point.high]).all() else None
        marks.append(Mark(point.name, x(point.cost), y(point.value), whisker, point in best, label))
    steps = [(point.cost, point.value) for point in best]
    for before, after in pairwise(best):
        steps.append((after.cost, before.value))
    line = " ".join(f"{x(cost)},{y(value)}" for cost, value in sorted(steps, key=lambda step: step))
    up = [(y(k * step), f"{k * step:g}") for k in range(round(bottom / step), round(top / step) + 1)]
    across = [(x(10.0**power), f"{10.0**power:g}") for power in range(int(first), int(last) + 1)]
    return Tradeoff(WIDTH, HEIGHT, tuple(marks), line, tuple(across), tuple(up))


def _front(points: Iterable[Point]) -> list[Point]:
    """Points that no other beats in cost and in standing, cheapest first (the Pareto front)."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.value, point.name)):
        if not front or point.value > front[-1].value:
            front.append(point)
    return front


Box = tuple[float, float, float, float]


def _label(name: str, x: float, y: float, taken: list[Box]) -> tuple[float, float, str]:
    """A position for a name next to its point where it overlaps nothing, or least; added to `taken`."""
    wide = 6.2 * len(name)
    places = [(x + 8, y + 4, "start"), (x - 8, y + 4, "end")]
    places += [
        (x + across, y + down, anchor) for down in (-9, 17, -20, 28) for across, anchor in ((4, "start"), (-4, "end"))
    ]

    def box(place: tuple[float, float, str]) -> Box:
        left = place[0] if place[2] == "start" else place[0] - wide
        return left, place[1] - 10, left + wide, place[1] + 3

    def cost(place: tuple[float, float, str]) -> float:
        left, top, right, bottom = box(place)
        outside = max(0.0, LEFT - left) + max(0.0, right - WIDTH) + max(0.0, bottom - HEIGHT + BOTTOM)
        overlaps = (min(right, two) - max(left, one) for one, t, two, b in taken if t < bottom and b > top)
        return outside * 3 + sum(max(0.0, overlap) for overlap in overlaps)

    chosen = min(places, key=cost)
    taken.append(box(chosen))
    return round(chosen[0], 1), round(chosen[1], 1), chosen[2]
