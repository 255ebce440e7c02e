"""Yann LeCun's IDX files, plain or gzipped: what MNIST and Fashion-MNIST come in.

torchvision reads plain ones alone and from its own folders alone; Debian's package has them gzipped in one folder.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mibench.errors import DataError
from mibench.files.reading import MIB, check_file, note

BYTES = 0x08  # the type code of unsigned bytes
MAX_BYTES = 512 * MIB  # unpacked


def read(path: Path) -> Tensor:
    """An array of unsigned bytes."""
    check_file(path, MAX_BYTES, DataError)
    note(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(MAX_BYTES)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}): download it again") from error
    dimensions = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * dimensions
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if content[:3] != bytes((0, 0, BYTES)) or len(content) - start != math.prod(sizes):
        raise DataError(f"{path} is not a whole IDX file of bytes: download it again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).copy()).reshape(sizes)
