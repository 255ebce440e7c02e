"""PatternNet: the gradient's backward pass with each neuron's pattern in the place of its weights
(Kindermans et al. 2018, arXiv:1705.05598, section 5).

    s_L = y_c,    s_{l-1} = A_lᵀ [open] s_l,    A_l the patterns of layer l        (`_patterns`)

It shows the signal that the class was read from, and is a source signal without an offset: MIP-IN's S_0 has biases.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mibench.network.chain import walk
from mibench.network.gradients import channel_sum
from mibench.network.patterns import learn_patterns, propagate
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State


class PatternNet(FittedExplainer):
    """Channel sum of the signal; the signal itself is `source`."""

    name = "patternnet"
    title = "PatternNet"
    paper = "Kindermans et al. 2018, arXiv:1705.05598"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    @torch.no_grad()
    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        patterns = learn_patterns(walk(probe.model, probe.shape, "input"), calibration.x)
        return State({str(place): pattern.contiguous() for place, pattern in patterns.items()})

    def restore(self, probe: Probe, state: State) -> None:
        self._chain = walk(probe.model, probe.shape, "input")
        self._patterns = {int(place): pattern.to(probe.device) for place, pattern in state.tensors.items()}

    @torch.no_grad()
    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        x, target = x.to(probe.device), target.to(probe.device)
        values = self._chain.activations(x)
        explained = torch.nn.functional.one_hot(target, values[-1].shape[1])  # (B, classes)
        signal = propagate(self._chain, values, values[-1] * explained, self._patterns)
        return Explanation({"map": channel_sum(signal)}, signals={"source": signal})
