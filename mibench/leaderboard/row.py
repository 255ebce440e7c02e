"""A row of a board's table, the long form in which boards are kept as CSV."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Row:
    """One row of the long-form table."""

    suite: str
    data: str
    model: str
    method: str
    metric: str
    family: str
    direction: str
    unit: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    samples: int = 0
    coverage: float = math.nan
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    tie: str = ""
    status: str = "ok"
    reason: str = ""


COLUMNS = tuple(field.name for field in fields(Row))
