"""Tensors with a few facts as the bytes of a safetensors file, and back. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a report reads arrays, and needs no torch
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

ABOUT = "about"  # the one entry of the metadata: several have no order of their own, and bytes must not vary
LENGTH = 8  # bytes that hold the header's length


def pack(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """The same tensors and facts give the same bytes."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(plain, {ABOUT: json.dumps(about)})


def unpack(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was packed; a ValueError where the bytes are something else."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        header = json.loads(content[LENGTH : LENGTH + int.from_bytes(content[:LENGTH], "little")])
        about = json.loads(header.get("__metadata__", {}).get(ABOUT, "{}"))
    except (SafetensorError, RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(about, dict):
        raise ValueError("its facts are not a mapping")
    return tensors, about


def unpack_arrays(content: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors of what was packed, for whoever does not compute with torch."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(content))
    except (SafetensorError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(str(error)) from error
