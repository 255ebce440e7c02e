"""NIF by the weakest link (ours): a path carries no more than its narrowest edge lets through.

    A(i, c) = max over paths from input i to class c of the least edge of the path        instead of NIF's (3)

Data processing bounds the information that passes along a chain by its weakest link; it does not bound products. The
edges are those of `nif`, and the map stays in nats: it is the width of the widest path.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from torch import Tensor

from mibench.methods.nif import nif
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State


class Parameters(nif.Parameters):
    """`nif`'s, with the weakest link."""

    compose: Literal["min"] = "min"


class NIFMin(FittedExplainer[Parameters]):
    """`nif[compose=min]` as a row of its own, because its map has a unit."""

    name = "nif-min"
    title = "NIF by the weakest link (ours)"
    paper = nif.NIF.paper
    maps = (MapSpec("attribution", unit="nats", signed=True),)

    @cached_property
    def inner(self) -> nif.NIF:
        """NIF with the same parameters."""
        return nif.NIF(self.parameters)

    @property
    def learner(self) -> nif.NIF:
        """As NIF."""
        return self.inner.learner

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """As NIF."""
        return self.inner.learn(probe, calibration, seed)

    def restore(self, probe: Probe, state: State) -> None:
        """As NIF."""
        self.inner.restore(probe, state)

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        """As NIF, with the widest path for the sum over paths."""
        return self.inner.explain(probe, x, target, seeds)
