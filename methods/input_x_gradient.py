"""Input x gradient: what each input adds to the explained logit, were the network linear (Shrikumar et al. 2016).

    M = sum_channels x * dS_c / dx

By captum. Signed: a negative value speaks against the class.
"""

from __future__ import annotations

from collections.abc import Sequence

import captum.attr
from torch import Tensor

from mibench.network.gradients import channel_sum, explained_sum, tracked
from mibench.plugins.contract import Explainer, Explanation, MapSpec, Probe


class InputXGradient(Explainer):
    """The linear term of the logit at the sample."""

    name = "input-x-gradient"
    title = "Input x gradient"
    paper = "Shrikumar et al. 2016, arXiv:1605.01713"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        derived = captum.attr.InputXGradient(explained_sum(probe))
        product = derived.attribute(tracked(x), additional_forward_args=target)
        return Explanation({"map": channel_sum(product).detach()})
