"""Trained weights that come with the package: some of each small network, numbered, which a run's seeds take in turn.

Each is a safetensors file that carries its own SHA-256 and what its recipe came to. Large matrices are in half
precision, which is half the size and moves no accuracy by a digit that is shown.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

FOLDER = Path(__file__).with_name("shipped")
LARGE = 2**16  # numbers of a matrix that is kept in half precision


def path(name: str, number: int) -> Path:
    """The file of a network, by its spec, and which of its weights."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
    return FOLDER / f"{plain}.{number}.safetensors"


def count(name: str) -> int:
    """How many weights of a network there are."""
    return next(number for number in itertools.count() if not path(name, number).exists())
