"""Region: a control that shows where the explained class is known to be: a planted cell, a mosaic's tile."""

from __future__ import annotations

from torch import Tensor

from mibench.plugins.contract import Explanation, Known, Probe, Samples, Unsupported


class Region(Known):
    """One inside, zero outside."""

    name = "region"
    title = "Known region"

    def show(self, probe: Probe, samples: Samples, target: Tensor) -> Explanation:
        if samples.mask is None:
            raise Unsupported("these data have no localisation mask")
        return Explanation({"map": samples.mask.float()})
