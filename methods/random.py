"""Random: a control that knows nothing. Whatever does not beat it has not explained anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mibench.network.noise import generators
from mibench.plugins.contract import Explainer, Explanation, Probe


class Random(Explainer):
    """Uniform noise, each sample's from its own seed."""

    name = "random"
    title = "Random map"
    control = True

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        maps = [torch.rand(probe.pixels, generator=source) for source in generators(seeds)]
        return Explanation({"map": torch.stack(maps).to(x.device)})
