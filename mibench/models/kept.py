"""Tensors that cost time and follow from a trained network are kept as networks are: in one file with its SHA-256."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from torch import Tensor

from mibench.errors import Damaged, NotWritten
from mibench.files import writing
from mibench.files.tensors import pack
from mibench.models import cache
from mibench.record.environment import cache_folder


def kept(name: str, make: Callable[[], dict[str, Tensor] | None]) -> dict[str, Tensor] | None:
    """What `make` makes, from the cache if it is there; `name` holds a digest of all that decides it."""
    path = cache_folder() / "truth" / f"{name}.safetensors"
    if path.exists():
        try:
            return cache.read(path)[0]
        except Damaged as error:
            warnings.warn(f"{error}; it is computed again", stacklevel=2)
    tensors = make()
    if tensors is None:
        return None
    cache.make_folder(path.parent)
    try:
        writing.write(path, pack(tensors, {cache.DIGEST: cache.digest(tensors, {})}))
    except NotWritten as error:
        raise NotWritten(f"{error}, or set MIBENCH_CACHE to another folder") from error
    return tensors
