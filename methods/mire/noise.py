"""MIRE with noise: the same decomposition through a mask that takes information away. Ours, not published.

MIRE's mask multiplies by lambda > 0, which an observer can undo; here x'_k = lambda_k x_k + (1 - lambda_k) eps, the
masked features have a critic of their own, and the mask answers to the decision and to beta alone (equation 5 of the
paper), not to the critic. The cost is a mean over the cells, so that beta keeps its meaning when K changes, the mask
preserves the network's decision, right or wrong, and a wide z is narrowed for speed. Everything else is `mire`, and
every parameter is `mire`'s. Noise and beta were chosen on planted images that are never scored:
leaderboards/studies/mire_beta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from mibench.methods.mire import mire
from mibench.methods.mire.masks import Blend
from mibench.plugins.contract import Explanation, FittedExplainer, Probe, Samples, State


class Parameters(mire.Parameters):
    """`mire`'s, with other defaults."""

    beta: float = 2.0
    noise: float = 0.25
    mask: Blend = "noise"
    reward: Literal["mask", "none"] = "none"
    separate_critic: bool = True
    mask_cost: Literal["mean", "sum"] = "mean"
    keep: Literal["prediction", "label"] = "prediction"
    joint: int = 64


class MireNoise(FittedExplainer[Parameters]):
    """MIRE with a noisy mask, a critic for what it leaves, and a beta chosen on planted truth."""

    name = "mire-noise"
    title = "MIRE with noise (ours)"
    paper = mire.Mire.paper
    maps = mire.Mire.maps
    of_class = False

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Train critics and mask on the calibration samples."""
        return mire.Mire(self.parameters).learn(probe, calibration, seed)

    def restore(self, probe: Probe, state: State) -> None:
        """Rebuild critics and mask from what `learn` returned."""
        self.mire = mire.Mire(self.parameters)
        self.mire.restore(probe, state)

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        """The four maps."""
        return self.mire.explain(probe, x, target, seeds)
