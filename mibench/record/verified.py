"""What was found when a sample of a run's scores was computed again by Quantus; the record keeps it for its board."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from mibench.errors import MibenchError
from mibench.record import fingerprint
from mibench.record.store import Store
from mibench.record.stored import Count, Digest, Finite, Line, Name, Part, Stored

FILE = "verified.json"
MEND = "run mibench verify again, which writes it"
LIMIT = 1e-5  # of a score's range: what rounding in single precision may do


class Checked(Part):
    """One metric, whose original has a name in Quantus."""

    metric: Name
    original: Name
    scores: Count  # that were compared
    without: Count  # scores of ours for which Quantus has no comparable number
    deviation: Finite  # the largest, as a share of the range; of a row's largest distance from its one end
    seconds: Finite
    reason: Line = ""  # why nothing could be compared
    exception: Line = ""  # why it may differ by more than rounding

    @property
    def agrees(self) -> bool:
        """Whether every score that was compared is Quantus', or the difference has a name."""
        return self.deviation <= LIMIT or bool(self.exception)


class Verified(Stored):
    """All that the file holds."""

    schema_number: Literal[1] = 1
    of: Digest  # of the scores that were looked at
    quantus: Line  # its version
    date: Line
    samples: Count  # of each task
    metrics: tuple[Checked, ...]

    @property
    def compared(self) -> tuple[Checked, ...]:
        """The metrics of which at least one score was compared."""
        return tuple(each for each in self.metrics if each.scores)

    @property
    def wrong(self) -> tuple[Checked, ...]:
        """The metrics that differ by more than rounding."""
        return tuple(each for each in self.metrics if not each.agrees)

    def __str__(self) -> str:
        """The line of a board: the metrics that agree and their largest deviation, then those that do not."""
        right = [each for each in self.compared if each.deviation <= LIMIT]
        largest = max((each.deviation for each in right), default=0.0)
        parts = [f"against Quantus {self.quantus}: {len(right)} metrics, {largest:.0e}"]
        if named := [each.metric for each in self.compared if each.agrees and each.deviation > LIMIT]:
            parts.append(f"with a named exception {', '.join(named)}")
        if self.wrong:
            parts.append(f"NOT {', '.join(f'{each.metric} ({each.deviation:.0e})' for each in self.wrong)}")
        return "; ".join(parts)


def state(store: Store, metrics: Iterable[str]) -> str:
    """A digest of all planned scores by some metrics: what was verified holds as long as it is the same."""
    wanted = set(metrics)
    return fingerprint.digest(sorted((each.key, each.scores) for each in store.cells("score") if each.metric in wanted))


def current(store: Store) -> Verified | None:
    """What was verified of the scores as they are now; None where nothing was, or they have changed since."""
    if not store.digest(FILE):
        return None
    try:
        found = Verified.read(store.read_text(FILE), store.folder / FILE, MEND)
    except MibenchError:
        return None  # damaged, or by another version: it is a look at the scores, not one of them
    return found if found.of == state(store, [each.metric for each in found.metrics]) else None
