"""Edges: how far the information of a network's links is from theory, in nats, where every edge is known.

An explainer that sees the network as a graph states its edges, link by link and row by row, as the signals `edges`
(the mutual information of two neurons) and `pointwise-edges` (its pointwise value at each explained sample). Data with
a network that is written down state the truth in the same order. With I_e the truth and E the number of edges,

    error = 1/E sum_e | estimate_e - I_e |

The first is a property of the estimate, the same for all samples, so that only seeds move it. Both are ours.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from mibench.metrics.sharing import RowMetric
from mibench.plugins.contract import Evidence, Scene, Unsupported


class OfEdges(RowMetric):
    """Mean absolute error over a network's edges."""

    family = "information"
    direction = "lower"
    range = (0.0, float("inf"))
    unit = "nats"
    default = False
    no_score = "the explainer states other edges than those that are known"

    @property
    @abstractmethod
    def signal(self) -> str:
        """Which statement of the explainer is judged."""

    @final
    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        if scene.truth is None or self.signal not in scene.truth.information:
            raise Unsupported("needs a network whose edges are known, such as linear-gaussian or planted-table")
        if self.signal not in row.signals:
            raise Unsupported("the explainer states no edges")
        truth, stated = scene.truth.information[self.signal], row.signals[self.signal]  # (B, E)
        if stated.shape != truth.shape:
            return torch.full((len(truth),), torch.nan)
        return (stated.double() - truth.double()).abs().flatten(1).mean(1)


class EdgeError(OfEdges):
    """Of the mutual information of neurons."""

    name = "edge-error"
    title = "Error of the information between neurons, edge by edge"
    needs = frozenset({"truth", "signals:edges"})
    signal = "edges"


class PointwiseEdgeError(OfEdges):
    """Of the pointwise information of neurons at the explained samples."""

    name = "pointwise-edge-error"
    title = "Error of the pointwise information between neurons, edge by edge"
    needs = frozenset({"truth", "signals:pointwise-edges"})
    signal = "pointwise-edges"
