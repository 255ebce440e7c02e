"""Truth: a control that shows the information that each cell is known to hold, on data that we made ourselves.

Cells become pixels as an explainer's grid does, so a metric that reads the map on cells reads the truth itself. Where
a metric cannot distinguish this map from a random one, the metric is blind. Like any explainer it explains the
given class: log p(c | x_S) is known for every class c (a class that a cell rules out has 1e-9 left of its
probability). `decision`, `total` and `redundant` are the data's, `marginal`, `conditional` and `additive` those that
maps are judged by: of the network itself, where the task knows what the network makes of hidden cells.
"""

from __future__ import annotations

from torch import Tensor

from mibench.information.pointwise import of_class
from mibench.plugins.contract import CLAIMS, Explanation, Known, MapSpec, Probe, Samples, Unsupported

OF_Z = ("decision", "total", "redundant")


class Truth(Known):
    """Pointwise information with the decision, with the representation, and with nothing that the decision needs."""

    name = "truth"
    title = "Planted truth"
    of_class = True
    maps = (
        MapSpec("decision", "decision", "nats", signed=True, claim="marginal"),
        MapSpec("total", "total", "nats", signed=True),
        MapSpec("redundant", "redundant", "nats"),
        *(MapSpec(claim, "decision", "nats", signed=True, claim=claim) for claim in CLAIMS),
    )

    def show(self, probe: Probe, samples: Samples, target: Tensor) -> Explanation:
        truth = samples.truth
        if truth is None or truth.beliefs is None or not set(OF_Z) <= set(truth.information):
            raise Unsupported("these data do not state how much information their cells hold")
        of_data, judged = of_class(truth.beliefs, target.cpu()), of_class(truth.judge, target.cpu())
        known = {name: truth.information[name] for name in ("total", "redundant")}
        known["decision"] = truth.placed(of_data["marginal"])
        known |= {claim: truth.placed(nats) for claim, nats in judged.items()}
        maps = {spec.name: probe.upsample(known[spec.name].float().to(probe.device)) for spec in self.maps}
        others = {name: each.float() for name, each in truth.information.items() if name not in maps}
        return Explanation(maps, signals=others)
