"""Weights from files that hold nothing but tensors, checked before any of them reaches a network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mibench.errors import ModelError
from mibench.files.reading import MIB, check_file, note

MAX_BYTES = 64 * 1024 * MIB  # of a file of weights
MAX_WRAPPINGS = 4  # of one in another: a checkpoint may hold itself

WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network", "model_state", "weights")  # keys of scripts
PREFIXES = ("module.", "_orig_mod.")  # what data parallelism and torch.compile put before every name
PARTS = ("model.", "net.", "network.")  # what a Lightning module, which holds more than the network, calls it


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a checkpoint that torch can open without running any code."""
    check_file(path, MAX_BYTES, ModelError)
    note(path)
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds code or objects besides tensors and was not opened, because opening it would run them: "
            "save the state_dict alone, best with safetensors"
        ) from error
    except Exception as error:  # a file that is something else makes the readers fail in any way
        raise ModelError(f"{path} cannot be read as weights ({_line(error)}): load an intact file") from error
    for _ in range(MAX_WRAPPINGS):
        keys = [key for key in WRAPPINGS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        if not keys:
            break
        found = found[keys[0]]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path} holds no state_dict: a mapping from names to tensors is wanted")
    return {_plain(str(key)): value for key, value in found.items()}


def fill(network: nn.Module, path: Path) -> None:
    """Put a file's weights into a network, all of them in their places."""
    wanted = network.state_dict()
    weights = _part(read(path), wanted)
    for name, tensor in weights.items():
        check_finite(tensor, name, str(path))
    missing = _missing(weights, wanted)
    extra = [name for name in weights if name not in wanted]
    if missing or extra:
        faults = [f"no {missing[0]!r}" if missing else "", f"{extra[0]!r} besides" if extra else ""]
        raise ModelError(
            f"{path} does not fit the network: it has {' and '.join(filter(None, faults))} "
            f"({len(missing)} weights missing, {len(extra)} too many); choose the checkpoint of this architecture"
        )
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            here, there = tuple(tensor.shape), tuple(wanted[name].shape)
            raise ModelError(f"{path} does not fit the network: {name!r} is {here} in the file and {there} in it")
    network.load_state_dict(weights, strict=False)  # only counters of batches may be missing


def _part(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights of the network's part of a file, if the file as a whole does not have them."""
    if _missing(weights, wanted):
        for part in PARTS:
            own = {_plain(name.removeprefix(part)): each for name, each in weights.items() if name.startswith(part)}
            if own and not _missing(own, wanted):
                return own
    return weights


def _missing(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """The wanted weights that are not there; counters of batches may be missing."""
    return [name for name in wanted if name not in weights and not name.endswith("num_batches_tracked")]


def check_finite(tensor: Tensor, name: str, origin: str) -> None:
    """Refuse a weight that is NaN or infinite."""
    if tensor.is_floating_point() and not tensor.isfinite().all():
        bad = int((~tensor.isfinite()).sum())
        raise ModelError(f"{origin}: {bad} of the weights in {name!r} are NaN or infinite; load an intact checkpoint")


def _plain(name: str) -> str:
    while prefix := next((each for each in PREFIXES if name.startswith(each)), None):
        name = name.removeprefix(prefix)
    return name


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]
