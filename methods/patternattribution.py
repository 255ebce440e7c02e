"""PatternAttribution: the gradient's backward pass with each weight times its pattern in the place of the weight
(Kindermans et al. 2018, arXiv:1705.05598, section 5).

    r_L = y_c,    r_{l-1} = (W_l * A_l)ᵀ [open] r_l,    A_l the patterns of layer l        (`_patterns`)

Where patterns have w a = 1, a layer hands down what it was given: the relevance sums to the logit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mibench.network.chain import walk
from mibench.network.gradients import channel_sum
from mibench.network.patterns import learn_patterns, linear_layers, propagate
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State


class PatternAttribution(FittedExplainer):
    """Channel sum of the relevance."""

    name = "patternattribution"
    title = "PatternAttribution"
    paper = "Kindermans et al. 2018, arXiv:1705.05598"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    @torch.no_grad()
    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        chain = walk(probe.model, probe.shape, "input")
        patterns = learn_patterns(chain, calibration.x)
        shares = {place: layer.run.weight * patterns[place] for place, layer in linear_layers(chain).items()}
        return State({str(place): share.contiguous() for place, share in shares.items()})

    def restore(self, probe: Probe, state: State) -> None:
        self._chain = walk(probe.model, probe.shape, "input")
        self._shares = {int(place): share.to(probe.device) for place, share in state.tensors.items()}

    @torch.no_grad()
    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        x, target = x.to(probe.device), target.to(probe.device)
        values = self._chain.activations(x)
        explained = torch.nn.functional.one_hot(target, values[-1].shape[1])  # (B, classes)
        return Explanation({"map": channel_sum(propagate(self._chain, values, values[-1] * explained, self._shares))})
