"""What fixed, committed tables show of each score: whether it has sight, the constants of the order, how seeds scatter.

Nothing of this follows from the rows of the run at hand, so that no row changes another's verdict. An entry that is
missing stays missing: without a prior one seed speaks of its own fit, without sight and constants a score orders
nobody.
"""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import Literal

from mibench.record.stored import Count, Finite, Line, Name, Part, Stored

FILE = Path(__file__).with_name("panel.json")
MEND = "restore the committed file"


class Prior(Part):
    """How seeds scatter: `mibench.statistics.seeds` has the model, `mibench.statistics.priors` the fit."""

    level: Finite  # s0^2 of one seed's mean, over the square of the score's range (or its variance over samples) …
    freedom: Finite  # … and its d0
    ratio: Finite = 0.0  # r of B and E with several seeds; 0: unknown …
    ratio_freedom: Finite = 0.0  # … and its d0
    samples: Count = 0  # on which r was measured
    rows: Count
    seeds: Count


class Entry(Part):
    """One score on one kind of data and network."""

    metric: Name
    version: Count
    truth: Name  # "planted" where it is known, else the kind of the samples
    network: Name  # its kind
    sight: bool | None = None  # None where the truth is not known
    reason: Line = ""
    random: Finite  # the order's constants: a score counts as (score - random) / (top - random)
    top: Finite
    top_is: Line  # whose score `top` is
    prior_fits: Prior | None = None  # of fits on one network
    prior_networks: Prior | None = None  # of networks, their fits included


class Limit(Part):
    """The limit of a check of maps, and its error rates on data that it was not chosen on."""

    check: Name
    truth: Name
    network: Name
    limit: Finite
    false_pass: Finite
    false_fail: Finite


class Panel(Stored):
    """All entries."""

    schema_number: Literal[1] = 1
    entries: tuple[Entry, ...] = ()
    limits: tuple[Limit, ...] = ()

    @cached_property
    def _entries(self) -> dict[tuple[str, int, str, str], Entry]:
        return {(each.metric, each.version, each.truth, each.network): each for each in self.entries}

    def entry(self, metric: str, version: int, truth: str, network: str) -> Entry | None:
        """What is known of a score there."""
        return self._entries.get((metric, version, truth, network))

    def limit(self, check: str, truth: str, network: str) -> Limit | None:
        """The limit of a check there."""
        wanted = check, truth, network
        return next((each for each in self.limits if (each.check, each.truth, each.network) == wanted), None)


@cache
def committed() -> Panel:
    """The package's own panel."""
    return Panel.read_file(FILE, MEND)
