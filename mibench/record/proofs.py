"""What was found when devices of this machine were compared with the processor, kept in the cache for `doctor`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mibench.record import environment, fingerprint


def path(device: str) -> Path:
    """Where it is kept what was found on a kind of device."""
    return environment.cache_folder() / "devices" / f"{fingerprint.digest(device)[:12]}.json"


def proofs() -> list[dict[str, Any]]:
    """All that was found on this machine's devices; a file that cannot be read counts for nothing."""
    found = []
    for file in sorted((environment.cache_folder() / "devices").glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            found.append(dict(json.loads(file.read_text())))
    return found


def in_words(told: Mapping[str, Any]) -> str:
    """What was found on a device, in a sentence."""
    outcome = (
        f"{told['failed']} of {told['compared']} differ, first {told['first failure']}"
        if told["failed"]
        else (
            f"{told['compared']} maps and scores of tiny networks are the processor's "
            f"(to {told['largest difference']:.0e} of the largest)"
        )
    )
    return f"{told['device']}, {told['date']}, torch {told['torch']}: {outcome}"


def code() -> str:
    """A digest of what decides whether a device's numbers are right: methods, metrics and what they are built on."""
    root = Path(__file__).parent.parent
    files = [file for room in ("methods", "metrics", "network", "information") for file in (root / room).rglob("*.py")]
    return fingerprint.contents(file.read_text() for file in sorted(files))
