"""Constant: a control that says the same of every pixel. A metric that gives it a score has been caught."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mibench.plugins.contract import Explainer, Explanation, Probe


class Constant(Explainer):
    """One everywhere."""

    name = "constant"
    title = "Constant map"
    control = True
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        return Explanation({"map": x.new_ones(len(x), *probe.pixels)})
