"""Metrics that give the share of the map in its first row, and misbehave in the way that their parameter names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mibench.plugins.contract import Evidence, Metric, Parameters, Scene

from .deeds import ANYWHERE

Scores = dict[str, Tensor]


class HostileMetric(Metric):
    """Misbehaves while it scores."""

    name = "hostile-metric"
    title = "Misbehaves while it scores"
    family = "complexity"
    direction = "lower"
    range = (0.0, 1.0)
    default = False

    class Parameters(Parameters):
        does: str = ""

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        does = self.parameters.does
        good = {name: row.map.abs()[:, 0].sum(1) / row.map.abs().sum((1, 2)) for name, row in rows.items()}
        if does in ANSWERS:
            return ANSWERS[does](good)
        if does in INPUTS:
            INPUTS[does](scene, rows)
        elif does:
            ANYWHERE[does]()
        return good


class HostileNeeds(Metric):
    """Needs what nobody gives."""

    name = "hostile-needs"
    title = "Needs what nobody gives"
    family = "complexity"
    direction = "lower"
    range = (0.0, 1.0)
    default = False
    needs = frozenset({"moonlight"})

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        return {name: torch.zeros(len(row.map)) for name, row in rows.items()}


def for_each(change: Callable[[Tensor], Any]) -> Callable[[Scores], Any]:
    """Every row's scores changed."""
    return lambda good: {name: change(scores) for name, scores in good.items()}


def silence_maps(scene: Scene, rows: Mapping[str, Evidence]) -> None:
    for row in rows.values():
        row.map.zero_()
        row.raw.zero_()


ANSWERS: Mapping[str, Callable[[Scores], Any]] = {
    "shape": for_each(lambda scores: scores[:, None]),
    "nan": for_each(lambda scores: scores * torch.nan),
    "range": for_each(lambda scores: scores + 7),
    "huge": for_each(lambda scores: torch.zeros(1).expand(10**9)),
    "list": for_each(Tensor.tolist),
    "returnnone": lambda good: None,
    "missing": lambda good: {},
    "extra": lambda good: good | {f"row {number}": torch.zeros(8) for number in range(10**4)},
}
INPUTS: Mapping[str, Callable[[Scene, Mapping[str, Evidence]], object]] = {
    "mutatex": lambda scene, rows: scene.x.zero_(),
    "mutatet": lambda scene, rows: scene.target.zero_(),
    "mutatemap": silence_maps,
    "mutatew": lambda scene, rows: next(scene.probe.model.parameters()).data.add_(1),
    "mutatebase": lambda scene, rows: scene.baselines["mean"].zero_(),
}
