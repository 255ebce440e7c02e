"""The arrays of this room, and what is done to them everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]
Counts = npt.NDArray[np.uint8]

LEVEL = 0.95
NIL = 1e-10  # relative to its operands, a variance this small counts as zero
ROUNDING = 1e-6  # of a score's range: a difference this small is float32's noise


def ratio(above: Array, below: Array, otherwise: float = 0.0) -> Array:
    shape = np.broadcast_shapes(np.shape(above), np.shape(below))
    return np.asarray(np.divide(above, below, out=np.full(shape, otherwise), where=np.asarray(below) > 0))


def square(values: Array, methods: int, diagonal: float, mirrored: int = 1) -> Array:
    matrix = np.full((methods, methods), diagonal)
    i, j = np.triu_indices(methods, 1)
    matrix[i, j], matrix[j, i] = values, mirrored * values
    return matrix
