"""What explaining leaves on disk: maps, facts and signals of some samples, and what fitting learned. Never pickle.

A file appears whole or not at all, under the hash that is its cell's key: no name given by a person becomes a path.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mibench.contract import Explanation, State
from mibench.errors import RecordError


@dataclass(frozen=True)
class Saved:
    """An explanation as it is kept: the reasons say which samples' maps cannot be used."""

    explanation: Explanation
    reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)  # map -> one a sample, empty where it is fine


def path(folder: Path, key: str) -> Path:
    """Where a cell's tensors are."""
    return folder / "maps" / f"{key}.safetensors"


def check(file: Path) -> None:
    """Refuse a file that is not there whole."""
    with _opened(file):
        pass


def whole(file: Path) -> bool:
    """Whether a file is there, and can be read to its end."""
    try:
        check(file)
    except (OSError, RecordError):
        return False
    return True


def write(file: Path, saved: Saved) -> None:
    """Keep an explanation."""
    explanation = saved.explanation
    groups = {"map": explanation.maps, "fact": explanation.facts, "signal": explanation.signals}
    tensors = {f"{group}:{name}": tensor for group, each in groups.items() for name, tensor in each.items()}
    _write(file, tensors, {"reasons": {name: list(reasons) for name, reasons in saved.reasons.items()}})


def read(files: Sequence[Path]) -> Saved:
    """The explanation of samples that may be spread over several files."""
    parts = [_read(file) for file in files]
    groups: dict[str, dict[str, Tensor]] = {"map": {}, "fact": {}, "signal": {}}
    for name in parts[0][0]:
        group, _, each = name.partition(":")
        groups[group][each] = torch.cat([tensors[name] for tensors, _ in parts])
    reasons = {
        name: [reason for _, about in parts for reason in about["reasons"][name]] for name in parts[0][1]["reasons"]
    }
    return Saved(Explanation(groups["map"], groups["fact"], groups["signal"]), reasons)


def write_state(file: Path, state: State) -> None:
    """Keep what fitting learned."""
    _write(file, state.tensors, dict(state.facts))


def read_state(file: Path) -> State:
    """What fitting learned."""
    tensors, facts = _read(file)
    return State(tensors, facts)


def _write(file: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write beside the place, then move: whoever reads finds the whole file or none."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    beside = file.with_suffix(f".{os.getpid()}.part")
    try:
        beside.write_bytes(save(plain, {"about": json.dumps(about)}))
        os.replace(beside, file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with _opened(file) as tensors:
        about = json.loads((tensors.metadata() or {}).get("about", "{}"))
        return {name: tensors.get_tensor(name) for name in tensors.keys()}, about  # noqa: SIM118 - it is no mapping


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(str(file), framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise RecordError(f"{file} is damaged ({error}); the same run again makes it anew") from error
