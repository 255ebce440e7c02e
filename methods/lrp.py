"""LRP-epsilon: the logit, handed down layer by layer in the shares in which it came about (Bach et al. 2015, eq. 58).

    R_i = sum_j a_i w_ij / (z_j + epsilon sign z_j) R_j,    z_j = sum_i a_i w_ij + b_j

Here epsilon is a share of the layer's root mean square, as Montavon et al. 2019 (section 10.2) advise: with an absolute
epsilon near zero the map of a ReLU network is that of input x gradient (Ancona et al. 2018), which has its own row.
Signed. By zennit, on a canonical copy of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor
from zennit.core import Stabilizer
from zennit.rules import Epsilon, Norm

from mibench.network.gradients import channel_sum
from mibench.network.relevance import relevance
from mibench.plugins import contract
from mibench.plugins.contract import Explainer, Explanation, MapSpec, Probe


class Parameters(contract.Parameters):
    """How much is absorbed."""

    epsilon: float = Field(0.25, gt=0, description="share of the layer's root mean square")


class LrpEpsilon(Explainer[Parameters]):
    """Weak and contradictory contributions are absorbed by epsilon."""

    name = "lrp"
    title = "LRP-epsilon"
    paper = "Bach et al. 2015, doi:10.1371/journal.pone.0130140"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        absorb = Stabilizer(self.parameters.epsilon, norm_scale=True)
        down = relevance(probe, x, target, lambda: Epsilon(absorb), lambda: Norm(absorb), share=False)
        return Explanation({"map": channel_sum(down)})
