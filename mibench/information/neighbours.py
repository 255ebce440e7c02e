"""The nearest neighbours of every sample for many pairs of neurons, compiled: what `pairwise.KSG` counts with.

A neuron's samples are sorted once and cut into stripes of equally many; two neurons' stripes make a grid of cells, on
which neighbours are found by growing a box:

    (1) samples with the same two values become one point with a weight, so the atoms of a ReLU cost nothing;
    (2) the box starts as the sample's cell and grows on its nearest side until nothing outside it can be nearer than
        the k-th nearest inside it, whose distance is rho;
    (3) the box also bounds the two counts. They compare differences with rho: looking up x + rho and x - rho in the
        sorted values instead rounds, and is wrong by 0.02 nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Function = TypeVar("Function", bound=Callable[..., Any])

CELL = 2.0  # samples in a cell of the grid if the two neurons are independent; as fast from 1 to 4
SAME = float(np.nextafter(0.0, 1.0))  # only what is in the same place is nearer than this


def compiled(function: Function) -> Function:
    """Compiled once for all processes, or for this one alone where no folder can be written."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(Function, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba found no folder for its cache
        return cast(Function, numba.njit(**options)(function))


class Layer(NamedTuple):
    """The neurons of a layer, each sorted and cut into stripes."""

    values: Floats  # (F, N) in ascending order
    sample: Indices  # (F, N) the sample with that value
    place: Indices  # (F, N) of each sample: where its value begins in `values`
    stripe: Indices  # (F, N) of each sample
    begin: Indices  # (F, stripes + 1) where each stripe begins in `values`
    tied: npt.NDArray[np.bool_]  # (F,) whether any value comes twice


class Axis(NamedTuple):
    """One neuron of a layer."""

    values: Floats
    sample: Indices
    place: Indices
    stripe: Indices
    begin: Indices
    tied: bool


class Grid(NamedTuple):
    """The distinct points of a pair of neurons, ordered by cell, and room to work in."""

    x: Floats  # (N,)
    y: Floats  # (N,)
    weight: Indices  # (N,) how many samples are at this point
    begin: Indices  # (cells + 2,) where each cell's points begin
    point: Indices  # (N,) of each sample
    sample: Indices  # (N,) one of each point's samples
    cell: Indices  # (N,)
    cursor: Indices  # (N,)
    value: Floats  # (N,) pointwise information of each point
    nearest: Floats  # (k,) distances in ascending order


def sort_layer(columns: Floats) -> Layer:
    """Sort a layer (N, F) and cut it into stripes; equal values are in one stripe."""
    rows = np.ascontiguousarray(columns.T)  # (F, N)
    samples = rows.shape[1]
    sample = np.argsort(rows, axis=1, kind="stable").astype(np.int32)
    values = np.take_along_axis(rows, sample, 1)
    new = np.ones(values.shape, bool)
    new[:, 1:] = values[:, 1:] != values[:, :-1]
    first = np.maximum.accumulate(np.where(new, np.arange(samples, dtype=np.int32), 0), axis=1)
    place = np.empty_like(first)
    np.put_along_axis(place, sample, first, 1)
    stripes = math.ceil(math.sqrt(samples / CELL))
    width = np.int32(-(-samples // stripes))
    begin = np.stack([np.searchsorted(row, np.arange(stripes + 1)) for row in first // width])
    return Layer(values, sample, place, place // width, begin.astype(np.int32), np.asarray(~new.all(1)))


@compiled
def _axis(layer: Layer, neuron: int) -> Axis:
    return Axis(
        layer.values[neuron],
        layer.sample[neuron],
        layer.place[neuron],
        layer.stripe[neuron],
        layer.begin[neuron],
        layer.tied[neuron],
    )


@compiled
def _fill(x: Axis, y: Axis, grid: Grid) -> int:
    """(1): put the distinct points of a pair into the grid; returns how many there are."""
    samples, stripes = len(x.values), len(x.begin) - 1
    begin, cursor, point = grid.begin, grid.cursor, grid.point
    tied = x.tied and y.tied
    if tied:  # sort by x, then by y: every value of x owns the places from its first on
        for r in range(samples):
            cursor[r] = r
        for r in range(samples):
            s = y.sample[r]
            grid.sample[cursor[x.place[s]]] = s
            cursor[x.place[s]] += 1
    begin[:] = 0
    points, last_x, last_y = -1, -1, -1
    for r in range(samples):
        s = grid.sample[r] if tied else r
        if not tied or x.place[s] != last_x or y.place[s] != last_y:
            points += 1
            last_x, last_y = x.place[s], y.place[s]
            grid.cell[points] = x.stripe[s] * stripes + y.stripe[s]
            begin[grid.cell[points] + 2] += 1
        point[s] = points
    points += 1
    for c in range(stripes * stripes):
        begin[c + 2] += begin[c + 1]
    for p in range(points):  # begin[c + 1] moves from the beginning of cell c to its end
        cursor[p] = begin[grid.cell[p] + 1]
        begin[grid.cell[p] + 1] += 1
        grid.weight[p] = 0
    for s in range(samples):
        p = cursor[point[s]]
        point[s] = p
        grid.sample[p] = s
        grid.weight[p] += 1
        grid.x[p], grid.y[p] = x.values[x.place[s]], y.values[y.place[s]]
    return points


@compiled
def _scan(grid: Grid, first_cell: int, last_cell: int, x: float, y: float, own: int, rho: float) -> float:
    """Put the points of some cells among the k nearest; a sample is not its own neighbour, at the point `own`."""
    nearest, last = grid.nearest, len(grid.nearest) - 1
    for p in range(grid.begin[first_cell], grid.begin[last_cell + 1]):
        distance = max(abs(grid.x[p] - x), abs(grid.y[p] - y))
        copies = grid.weight[p] - (p == own)
        while distance < rho and copies > 0:
            at = last
            while at > 0 and nearest[at - 1] > distance:
                nearest[at] = nearest[at - 1]
                at -= 1
            nearest[at] = distance
            rho = nearest[last]
            copies -= 1
    return rho


@compiled
def _before(axis: Axis, stripe: int, x: float) -> float:
    """How far the values before a stripe are, at least."""
    begin = axis.begin[stripe]
    return x - axis.values[begin - 1] if begin > 0 else np.inf


@compiled
def _after(axis: Axis, stripe: int, x: float) -> float:
    """How far the values after a stripe are, at least."""
    end = axis.begin[stripe + 1]
    return axis.values[end] - x if end < len(axis.values) else np.inf


@compiled
def _nearer(axis: Axis, first: int, last: int, x: float, rho: float) -> int:
    """(3): how many values in the stripes first..last are strictly nearer to x than rho."""
    values = axis.values[axis.begin[first] : axis.begin[last + 1]]
    number = 0
    for index in range(len(values)):
        number += abs(values[index] - x) < rho
    return number


@compiled
def _value(
    first: Axis, second: Axis, grid: Grid, x: float, y: float, column: int, row: int, own: int, mixed: bool,
    psi: Floats, count: Floats,
) -> float:  # fmt: skip
    """psi(k) - psi(a + 1) - psi(b + 1) of a sample in a cell; `own` is its point, or -1 for a new sample."""
    stripes = len(first.begin) - 1
    grid.nearest[:] = np.inf
    left, right, below, above = column, column, row, row
    home = column * stripes + row
    rho = _scan(grid, home, home, x, y, own, np.inf)
    to_left, to_right = _before(first, left, x), _after(first, right, x)
    to_below, to_above = _before(second, below, y), _after(second, above, y)
    while True:  # (2)
        side = min(min(to_left, to_right), min(to_below, to_above))
        if side >= rho:
            break
        if side == to_left:
            left -= 1
            to_left = _before(first, left, x)
            rho = _scan(grid, left * stripes + below, left * stripes + above, x, y, own, rho)
        elif side == to_right:
            right += 1
            to_right = _after(first, right, x)
            rho = _scan(grid, right * stripes + below, right * stripes + above, x, y, own, rho)
        elif side == to_below:
            below -= 1
            to_below = _before(second, below, y)
            for c in range(left, right + 1):
                rho = _scan(grid, c * stripes + below, c * stripes + below, x, y, own, rho)
        else:
            above += 1
            to_above = _after(second, above, y)
            for c in range(left, right + 1):
                rho = _scan(grid, c * stripes + above, c * stripes + above, x, y, own, rho)
    k = len(grid.nearest)
    if rho == 0.0:
        rho = SAME
        if mixed:
            k = int(own < 0)
            for p in range(grid.begin[home], grid.begin[home + 1]):
                k += grid.weight[p] * (grid.x[p] == x and grid.y[p] == y)
    a = _nearer(first, left, right, x, rho) + (own < 0)  # with the sample itself: a + 1
    b = _nearer(second, below, above, y, rho) + (own < 0)
    return float(psi[k] - count[a] - count[b])


@compiled
def _stripe(axis: Axis, x: float) -> int:
    """The stripe of a new value: that of the first value not below it."""
    place = min(int(np.searchsorted(axis.values, x)), len(axis.values) - 1)
    return int(axis.stripe[axis.sample[place]])


@compiled
def pointwise_of_pairs(
    first: Layer, second: Layer, pairs: Indices, new_first: Floats, new_second: Floats, k: int, mixed: bool,
    psi: Floats, count: Floats, constant: float, mean: bool, out: Floats,
) -> None:  # fmt: skip
    """Fill a row of `out` for each pair; a constant neuron knows nothing."""
    samples, stripes = first.values.shape[1], first.begin.shape[1] - 1
    integers = np.empty((5, samples), np.int32)
    floats = np.empty((3, samples))
    begin = np.empty(stripes * stripes + 2, np.int32)
    grid = Grid(
        floats[0], floats[1], integers[0], begin, integers[1], integers[2], integers[3], integers[4], floats[2],
        np.empty(k),
    )  # fmt: skip
    for number in range(len(pairs)):
        i, j = pairs[number]
        x, y = _axis(first, i), _axis(second, j)
        if x.values[0] == x.values[-1] or y.values[0] == y.values[-1]:
            continue
        points = _fill(x, y, grid)
        if new_first.size:
            for q in range(new_first.shape[1]):
                u, v = new_first[i, q], new_second[j, q]
                out[number, q] = constant + _value(
                    x, y, grid, u, v, _stripe(x, u), _stripe(y, v), -1, mixed, psi, count
                )
            continue
        for p in range(points):
            s = grid.sample[p]
            grid.value[p] = constant + _value(
                x, y, grid, grid.x[p], grid.y[p], x.stripe[s], y.stripe[s], p, mixed, psi, count
            )
        if mean:
            for s in range(samples):
                out[number, 0] += grid.value[grid.point[s]] / samples
        else:
            for s in range(samples):
                out[number, s] = grid.value[grid.point[s]]
