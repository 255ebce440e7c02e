"""What the committed panel knows of the variance between fits of one explainer on one network, by row."""

from __future__ import annotations

from mibench.gate.scored import Priors
from mibench.gate.side import Row
from mibench.gate.significance import Prior
from mibench.record.identity import Identity
from mibench.record.panel import Panel


def priors(panel: Panel, identity: Identity) -> Priors:
    """The prior of each row of a side; None where the panel lacks the metric, or such samples or networks."""

    def prior(row: Row) -> Prior | None:
        task, metric = identity.tasks.get(row.task), identity.metrics.get(row.metric)
        entry = panel.entry(row.metric, metric.version, task.truth, task.network) if task and metric else None
        found = entry.prior_fits if entry else None
        return Prior(found.level, found.freedom) if found else None

    return prior
