"""What counts as a change between two runs, read from a TOML file: by family of metrics, with words for a wrong key."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mibench.errors import UsageError
from mibench.files.reading import MIB, read_text
from mibench.plugins.contract import Family

MAX_BYTES = MIB


class Effects(BaseModel):
    """The smallest change that matters: a share of a metric's range, or of its spread over samples if unbounded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: float = Field(default=0.02, ge=0)
    families: dict[Family, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)

    def effect(self, family: Family) -> float:
        """The smallest share that matters in a family."""
        return self.families.get(family, self.default)


class Scatter(Effects):
    """How far scores scatter for a reason that their samples do not show: a standard deviation, as shares likewise."""

    default: float = Field(default=0.05, ge=0)
    unbounded: float = Field(default=1.0, ge=0)  # for all metrics without bounds, whatever their family


class Redrawn(Scatter):
    """How far fits of one explainer scatter that differ in their seeds: at most so much."""

    default: float = Field(default=0.1, ge=0)
    unbounded: float = Field(default=3.0, ge=0)


class Retrained(Scatter):
    """How far networks of one recipe scatter: of a score's difference between two of them."""

    counts: float = Field(default=0.05, ge=0)  # the relative rise of a count: some depend on what was learned
    accuracy: float = Field(default=0.02, ge=0)  # two networks whose accuracy differs by more are not compared


class Thresholds(Effects):
    """What counts as a change."""

    level: float = Field(default=0.01, gt=0, lt=1)
    counts: float = Field(default=0.0, ge=0)  # the relative rise of a count
    flips: float = Field(default=0.01, ge=0, lt=1)  # the share of samples whose score rounding may flip
    forwards: float = Field(default=19.0, ge=0)  # of a multiple of a forward, whose rise must also be one forward
    redrawn: Redrawn = Field(default_factory=lambda: Redrawn())
    retrained: Retrained = Field(default_factory=lambda: Retrained())


def read_thresholds(path: Path | None = None) -> Thresholds:
    """The default thresholds of the package, overridden by those in a TOML file."""
    ours = resources.files("mibench.gate") / "thresholds.toml"
    tables: dict[str, Any] = {}
    for source in (ours, path) if path else (ours,):
        try:
            text = read_text(source, MAX_BYTES) if isinstance(source, Path) else source.read_text("utf-8")
            tables = _over(tables, tomllib.loads(text))
            found = Thresholds(**tables)
        except (ValueError, RecursionError) as error:  # of TOML, of pydantic, and of Python for endless numbers
            raise UsageError(f"{source}: the thresholds cannot be read: {' '.join(str(error).split())}") from error
    return found


def _over(tables: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Tables with others laid over them, key by key."""
    both = {key: _over(tables[key], more[key]) for key in tables.keys() & more.keys() if isinstance(more[key], dict)}
    return tables | more | both
