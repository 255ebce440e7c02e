"""Completeness of a source signal: does the network still give the class its logit (Deng et al. 2021, section 5)?

    APC            |y_c(x) - y_c(S)| / |y_c(x)|                                                          (eq. 10)
    positive APC   max(0, y_c(x) - y_c(S)) / |y_c(x)|      a logit that rises costs nothing                  (eq. 11)

in per cent, S the signal `source` that an explainer gives in input space. The paper averages classes, then their means;
a board averages samples, which is the same where classes are equally frequent.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from mibench.metrics.sharing import RowMetric, once
from mibench.plugins.contract import Evidence, Scene


class Completeness(RowMetric):
    """A relative change of the explained logit from the input to its source signal."""

    family = "completeness"
    cost = "forwards"
    direction = "lower"
    range = (0.0, float("inf"))
    unit = "%"
    paper = "Deng et al. 2021, arXiv:2104.06629"
    needs = frozenset({"signals:source"})
    no_score = "the source signal is not finite, or the explained logit is zero"

    @abstractmethod
    def loss(self, fall: Tensor) -> Tensor:
        """What counts of the logits' falls (B,)."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        source = row.signals["source"].reshape(scene.x.shape)
        finite = source.flatten(1).isfinite().all(1)
        there, left = explained(scene, scene), explained(scene, row)
        score = 100 * self.loss(there - left) / there.abs()
        return torch.where(finite & (there != 0), score, torch.nan)


class Apc(Completeness):
    """Any change counts."""

    name = "apc"
    title = "Average percentage change of the logit from the input to its source signal"

    def loss(self, fall: Tensor) -> Tensor:
        return fall.abs()


class PositiveApc(Completeness):
    """Only a fall counts."""

    name = "positive-apc"
    title = "Average percentage fall of the logit from the input to its source signal"

    def loss(self, fall: Tensor) -> Tensor:
        return fall.clamp(min=0)


@once
def explained(scene: Scene, shown: Scene | Evidence) -> Tensor:
    """The explained logits (B,) of the scene's inputs, or of a row's source signals."""
    x = shown.x if isinstance(shown, Scene) else shown.signals["source"].reshape(scene.x.shape).nan_to_num()
    return scene.predict(x).gather(1, scene.target[:, None])[:, 0].double()
