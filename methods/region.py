"""Region: a control that shows where the explained class is known to be: a planted cell, a mosaic's tile."""

from __future__ import annotations

from mibench.plugins.contract import Explanation, Known, Probe, Samples, Unsupported


class Region(Known):
    """One inside, zero outside."""

    name = "region"
    title = "Known region"

    def show(self, probe: Probe, samples: Samples) -> Explanation:
        if samples.mask is None:
            raise Unsupported("nobody knows where the class is in these data")
        return Explanation({"map": samples.mask.float()})
