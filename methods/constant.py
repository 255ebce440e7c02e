"""Constant: a control whose map has the same value everywhere. A metric that gives it a score is faulty."""

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
