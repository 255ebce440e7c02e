"""Truth: a control that shows the information that each cell is known to hold, on data that we made ourselves.

Cells become pixels as an explainer's grid does, so a metric that reads the map on cells reads the truth itself. Where
a metric cannot tell this map from a random one, it is the metric that is blind.
"""

from __future__ import annotations

from typing import get_args

from mibench.plugins.contract import Explanation, Known, MapSpec, Probe, Role, Samples, Unsupported


class Truth(Known):
    """Pointwise information with the decision, with the representation, and with nothing that the decision needs."""

    name = "truth"
    title = "Planted truth"
    maps = (
        MapSpec("decision", "decision", "nats"),
        MapSpec("total", "total", "nats"),
        MapSpec("redundant", "redundant", "nats"),
    )

    def show(self, probe: Probe, samples: Samples) -> Explanation:
        if samples.truth is None or not {spec.name for spec in self.maps} <= set(samples.truth.information):
            raise Unsupported("nobody knows how much information the cells of these data hold")
        known = {name: each.float() for name, each in samples.truth.information.items()}
        maps = {spec.name: probe.upsample(known[spec.name].to(probe.device)) for spec in self.maps}
        return Explanation(maps, signals={name: known[name] for name in known.keys() - {*get_args(Role)}})
