"""What `doctor` reports of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Symptom:
    """One thing that was looked at."""

    name: str
    state: Literal["fine", "absent", "wrong"]  # absent: an option that is not there
    text: str
