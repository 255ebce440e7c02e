"""How much of a simulation a test does: all of it with --slow, a tenth otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TENTH = 0.1


@dataclass(frozen=True)
class Effort:
    """A part of a simulation's draws, and how surely a share that was found among them can be judged."""

    share: float

    def of(self, draws: int) -> int:
        """How many of so many draws."""
        return round(self.share * draws)

    def within(self, found: npt.ArrayLike, low: float = 0.0, high: float = 1.0) -> bool:
        """Whether the share of True lies within bounds; a part of the draws may miss them by three standard errors."""
        share, count = float(np.mean(found)), np.size(found)
        slack = 3 * np.sqrt(max(share * (1 - share), 1 / count) / count) if self.share < 1 else 0.0
        return bool(low - slack <= share <= high + slack)
