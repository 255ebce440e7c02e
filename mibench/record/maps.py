"""What explaining leaves on disk: maps, facts and signals of some samples, and what fitting learned. Never pickle.

A file appears whole or not at all, under the hash that is its cell's key: no name given by a person becomes a path.
Whoever writes a file gets its SHA-256, and whoever reads it must know that: so nothing but what was written is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mibench.errors import Damaged
from mibench.files import writing
from mibench.files.tensors import pack, unpack, unpack_arrays
from mibench.plugins.contract import Explanation, State

if TYPE_CHECKING:  # looking up where a file is needs neither
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor


Content = TypeVar("Content")


@dataclass(frozen=True)
class Saved:
    """An explanation as it is kept: the reasons are of the samples whose maps cannot be used."""

    explanation: Explanation
    reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)  # map -> one a sample, empty where it is fine


@dataclass(frozen=True)
class Source:
    """A file of the record, and what must be in it."""

    file: Path
    digest: str  # its SHA-256
    key: str = ""  # of the cell that it belongs to


def path(folder: Path, key: str) -> Path:
    """Where a cell's tensors are."""
    return folder / "maps" / f"{key}.safetensors"


def source(folder: Path, key: str, digests: Mapping[str, str]) -> Source:
    """A cell's file with the digest that is recorded for it."""
    if not digests.get(key):
        raise Damaged(f"{path(folder, key)} cannot be checked: no SHA-256 is recorded for it", key)
    return Source(path(folder, key), digests[key], key)


def write(file: Path, saved: Saved) -> str:
    """Keep an explanation; the file's SHA-256."""
    explanation = saved.explanation
    groups = {"map": explanation.maps, "fact": explanation.facts, "signal": explanation.signals}
    tensors = {f"{group}:{name}": tensor for group, each in groups.items() for name, tensor in each.items()}
    reasons = {name: list(reasons) for name, reasons in saved.reasons.items()}
    return writing.write(file, pack(tensors, {"reasons": reasons}))


def read(sources: Sequence[Source]) -> Saved:
    """The explanation of samples that may be spread over several files."""
    import torch

    parts = [_read(each) for each in sources]
    groups: dict[str, dict[str, Tensor]] = {"map": {}, "fact": {}, "signal": {}}
    for name in parts[0][0]:
        group, _, each = name.partition(":")
        groups[group][each] = torch.cat([tensors[name] for tensors, _ in parts])
    reasons = {
        name: [reason for _, about in parts for reason in about["reasons"][name]] for name in parts[0][1]["reasons"]
    }
    return Saved(Explanation(groups["map"], groups["fact"], groups["signal"]), reasons)


def read_arrays(sources: Sequence[Source], group: str) -> dict[str, npt.NDArray[np.float32]]:
    """The maps, facts or signals of samples that may be spread over several files, without torch."""
    import numpy as np

    parts = [_unpacked(each, unpack_arrays) for each in sources]
    names = [name for name in parts[0] if name.startswith(f"{group}:")]
    return {name.partition(":")[2]: np.concatenate([part[name] for part in parts]) for name in names}


def write_state(file: Path, state: State) -> str:
    """Keep what fitting learned; the file's SHA-256."""
    return writing.write(file, pack(state.tensors, dict(state.facts)))


def read_state(source: Source) -> State:
    """What fitting learned."""
    return State(*_read(source))


def _read(source: Source) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return _unpacked(source, unpack)


def _unpacked(source: Source, unpacked: Callable[[bytes], Content]) -> Content:
    content = writing.read(source.file, source.digest, source.key)
    try:
        return unpacked(content)
    except ValueError as error:
        raise Damaged(f"{source.file} holds no tensors ({error}); the same run makes it again", source.key) from error
