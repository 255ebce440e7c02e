"""Tensors with a few facts as the bytes of a safetensors file, and back. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

ABOUT = "about"  # the one entry of the metadata: several have no order of their own, and bytes must not vary
LENGTH = 8  # bytes that hold the header's length


def pack(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """The same tensors and facts give the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(plain, {ABOUT: json.dumps(about)})


def unpack(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was packed; a ValueError where the bytes are something else."""
    try:
        tensors = load(content)
        header = json.loads(content[LENGTH : LENGTH + int.from_bytes(content[:LENGTH], "little")])
        about = json.loads(header.get("__metadata__", {}).get(ABOUT, "{}"))
    except (SafetensorError, RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(about, dict):
        raise ValueError("its facts are no mapping")
    return tensors, about
