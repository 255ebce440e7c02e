"""Deep Taylor decomposition: relevance handed down along what excites a neuron, never along what inhibits it
(Montavon et al. 2017, the z+ rule; LRP with alpha = 1 and beta = 0, Bach et al. 2015, equation 60).

    R_i = sum_j (a_i w_ij)^+ / sum_i' (a_i' w_i'j)^+ R_j

The explained logit starts with 1, so that the map gives shares of it whatever its sign; never negative. By zennit, on a
canonical copy of the network; in a residual sum, too, only positive terms get a share.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from zennit.core import BasicHook
from zennit.rules import AlphaBeta, NoMod

from mibench.network.gradients import channel_sum
from mibench.network.relevance import relevance
from mibench.plugins.contract import Explainer, Explanation, Probe


class DeepTaylor(Explainer):
    """Where the evidence for the class is."""

    name = "deep-taylor"
    title = "Deep Taylor (LRP alpha-1 beta-0)"
    paper = "Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008"
    seeded = False

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        down = relevance(probe, x, target, excitation, positive_terms, share=True)
        return Explanation({"map": channel_sum(down)})


def excitation() -> AlphaBeta:
    """The z+ rule for a linear layer: biases get no share."""
    return AlphaBeta(alpha=1, beta=0, zero_params=["bias"])


def positive_terms() -> BasicHook:
    """The z+ rule for a sum or a mean, which has no weights."""
    return BasicHook(input_modifiers=[lambda a: a.clamp(min=0)], param_modifiers=[NoMod(param_keys=[])])
