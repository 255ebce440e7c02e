"""Dose: a control that shows the truth with a known share of noise in it, by which scores are judged.

A score that sees must fall as the share grows, from the truth (none) to a random map (all). The truth is the network's
own additive one, over its largest magnitude; the noise is uniform on [0, 1] and the sample's own, the same for every
share. `mixed` adds both, cell by cell: (1 - noise) truth + noise u. `swapped` shows u in a drawn share of the cells
and the truth in the others.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mibench.information.pointwise import of_class
from mibench.network.noise import generators
from mibench.network.seeds import seed_of
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, Known, MapSpec, Probe, Samples, Unsupported


class Parameters(contract.Parameters):
    """How much of the truth is lost, and how."""

    noise: float = Field(0.5, ge=0, le=1)
    kind: Literal["mixed", "swapped"] = "mixed"


class Dose(Known[Parameters]):
    """The additive truth, diluted."""

    name = "dose"
    title = "Planted truth with noise"
    of_class = True
    maps = (MapSpec("decision", "decision", signed=True),)

    def show(self, probe: Probe, samples: Samples, target: Tensor) -> Explanation:
        truth = samples.truth
        if truth is None or truth.beliefs is None:
            raise Unsupported("these data do not state how much information their cells hold")
        cells = truth.placed(of_class(truth.judge, target.cpu())["additive"]).float()  # (N, h, w)
        cells = cells / cells.abs().amax((1, 2), keepdim=True).clamp(min=1e-9)
        drawn = [
            (torch.rand(truth.grid, generator=source), torch.rand(truth.grid, generator=source))
            for source in generators([seed_of(f"dose/{name}") for name in samples.ids])
        ]
        noise, which = (torch.stack(each) for each in zip(*drawn, strict=True))
        share = self.parameters.noise
        if self.parameters.kind == "mixed":
            shown = (1 - share) * cells + share * noise
        else:
            place = which.flatten(1).argsort(1).argsort(1).reshape(which.shape)  # (N, h, w)
            shown = torch.where(place < round(share * which[0].numel()), noise, cells)
        return Explanation({"decision": probe.upsample(shown.to(probe.device))})
