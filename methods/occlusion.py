"""Occlusion: how far the explained logit falls when a window of the input is covered (Zeiler & Fergus 2014, section 4).

    M_p = mean over the windows w that cover p of  S_c(x) - S_c(x with the calibration data's mean in w)

Every window is tried, so this is slow and hard to fool: the map that a metric ought to prefer to noise. By captum.
"""

from __future__ import annotations

from collections.abc import Sequence

import captum.attr
import torch
from pydantic import Field
from torch import Tensor

from mibench.network.devices import together
from mibench.network.gradients import channel_sum
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State

AT_ONCE = 256  # covered inputs that go through the network together on a processor


class Parameters(contract.Parameters):
    """The window and its way."""

    window: int | None = Field(None, ge=1, description="pixels along a side; an eighth of the image, at least 8")
    stride: int | None = Field(None, ge=1, description="pixels from window to window; half a window")


class Occlusion(FittedExplainer[Parameters]):
    """Signed: covering what speaks against the class raises its logit."""

    name = "occlusion"
    title = "Occlusion"
    paper = "Zeiler & Fergus 2014, arXiv:1311.2901"
    maps = (MapSpec("map", signed=True),)
    seeded = False

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Take the mean of each channel, or of each column of a table."""
        x = calibration.x
        return State({"mean": x.mean((0, 2, 3)) if x.dim() == 4 else x.mean(0)})

    def restore(self, probe: Probe, state: State) -> None:
        self.mean = state.tensors["mean"].to(probe.device)

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        window, stride = self.extent(x)
        mean = self.mean.reshape(-1, *[1] * (x.dim() - 2)).expand(x.shape[1:])[None]  # (1, C, H, W) or (1, F)
        with torch.no_grad():
            fall = captum.attr.Occlusion(probe.logits).attribute(
                x,
                sliding_window_shapes=window,
                strides=stride,
                baselines=mean,
                target=target,
                perturbations_per_eval=max(1, together(probe, AT_ONCE) // len(x)),
            )
        return Explanation({"map": channel_sum(fall) / (x.shape[1] if x.dim() == 4 else 1)})

    def extent(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The window's shape and the steps it takes; the columns of a table go one by one."""
        if x.dim() != 4:
            return (1,), (1,)
        channels, height, width = x.shape[1:]
        side = self.parameters.window or max(8, min(height, width) // 8)
        step = self.parameters.stride or max(1, side // 2)
        window = min(side, height), min(side, width)
        return (channels, *window), (channels, *(min(step, each) for each in window))
