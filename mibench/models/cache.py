"""Trained networks between runs: weights with their facts in one safetensors file that carries its own SHA-256.

The digest is in the file itself, so there is no second file that could be older than the first, and it travels with
the weights to other machines. The JSON next to it holds the same facts for people and is never read.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mibench.errors import Damaged, ModelError, NotWritten
from mibench.files import writing
from mibench.files.reading import note
from mibench.files.tensors import pack, unpack

DIGEST = "sha256"


def make_folder(folder: Path) -> None:
    """Make the cache's folder before any time is spent on training, and remove what killed processes left there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        raise ModelError(f"{folder} cannot be written: set MIBENCH_CACHE to a folder that can, for trained networks")
    writing.sweep(folder)


def keep(network: nn.Module, path: Path, facts: Mapping[str, Any]) -> None:
    """Write weights with their facts, then the same facts as JSON for people."""
    tensors = network.state_dict()
    note(path)
    try:
        writing.write(path, pack(tensors, {**facts, DIGEST: digest(tensors, facts)}))
        writing.write(path.with_suffix(".json"), (json.dumps(facts, indent=2) + "\n").encode())
    except NotWritten as error:
        raise NotWritten(f"{error}, or set MIBENCH_CACHE to another folder") from error


def restore(network: nn.Module, path: Path) -> float | None:
    """Load cached weights into the network: its accuracy, or None where there are none or they are damaged."""
    writing.sweep(path.parent)
    if not path.exists():
        return None
    try:
        tensors, facts = read(path)
        network.load_state_dict(tensors)
        note(path)
        return float(facts["accuracy"])
    except (Damaged, RuntimeError, KeyError, ValueError, TypeError) as error:
        why = error if isinstance(error, Damaged) else f"{path} does not fit its network"
        warnings.warn(f"{why}; the network is trained again", stacklevel=2)
        return None


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and facts of a cached network, if they are what was written."""
    try:
        tensors, facts = unpack(path.read_bytes())
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Damaged(f"{path} is damaged ({error})") from error
    if DIGEST not in facts:
        raise Damaged(f"{path} carries no SHA-256, because another version wrote it")
    if facts.pop(DIGEST) != digest(tensors, facts):
        raise Damaged(f"{path} is damaged: its SHA-256 is not the one that it carries")
    return tensors, facts


def digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Over everything that the file holds: names, types, shapes and numbers, and the facts."""
    return hashlib.sha256(pack(tensors, facts)).hexdigest()
