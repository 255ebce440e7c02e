"""What a board must know of its rows and columns, so that a report needs no plug-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mibench.plugins.contract import Direction, Family


@dataclass(frozen=True)
class MetricCard:
    """A metric's description of itself; `name` is its column on the board, parameters included."""

    name: str
    title: str
    family: Family
    direction: Direction
    range: tuple[float, float]
    unit: str = ""
    gate: bool = False
    paper: str = ""
    about: str = ""  # one plain sentence: what the number means
    version: int = 1  # scores of two versions are not compared
    limit: float = 0.9  # of a gate that is a similarity: up to here it is passed …
    fails: float | None = None  # … and from here on failed; None: there is nothing between
    judged: Literal["limit", "panel", "never"] = "limit"  # by that, by the panel's limit, or only shown
    chance: float | None = None  # the expected score of a random map, where it is known

    @property
    def plain(self) -> str:
        """The name without parameters."""
        return self.name.partition("[")[0]

    @property
    def sign(self) -> int:
        """What a value is multiplied by so that higher is better."""
        return 1 if self.direction == "higher" else -1


@dataclass(frozen=True)
class MethodCard:
    """A row's description of itself; `name` is its label on the board: `mire`, `mire.total`, `iba[steps=50]`."""

    name: str
    title: str
    control: bool = False
    unit: str = "none"
    signed: bool = False
    paper: str = ""
    of_class: bool = True  # False: the same map whatever the class
    seeded: bool = True  # False: one seed is run, for all give the same

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader must know to compare the row with others."""
        return ("of no class",) * (not self.of_class) + ("needs no seed",) * (not self.seeded)
