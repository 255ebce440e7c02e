"""Scoring maps at hand: the scene and the evidence that a run would build from its files, and its judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mibench.api.maps import Maps
from mibench.errors import DataError, MibenchError
from mibench.network.probe import OpenProbe
from mibench.plugins import contract, registry
from mibench.plugins.contract import Evidence, Explanation, MapSpec, Metric, Scene, Unsupported
from mibench.record.cells import Cell, Outcome
from mibench.record.maps import Saved
from mibench.run.explaining import fault
from mibench.run.scoring import evidence_of, judge, predictor
from mibench.run.task import baselines_of, normalised

Seen = tuple[Evidence, list[str]]  # what a metric may see of one row, and why samples of it cannot be scored


def scene_of(
    probe: OpenProbe,
    x: Tensor,
    target: Tensor,
    reference: Tensor,
    mask: Tensor | None,
    seeds: tuple[int, ...],
    mean: Sequence[float],
    std: Sequence[float],
) -> Scene:
    """What all rows are scored on, on the CPU as in a run; what is explained counts as the label, too."""
    if mask is not None and mask.shape != (len(x), *probe.pixels):
        raise DataError(f"the mask has the shape {tuple(mask.shape)}, not {(len(x), *probe.pixels)}")
    x, reference = (each.detach().cpu().float() for each in (x, reference))
    return Scene(
        x=x,
        label=target,
        target=target,
        predict=predictor(probe, 0),
        probe=probe,
        baselines=baselines_of(x, reference, normalised(torch.zeros_like(x), mean, std)),
        seeds=seeds,
        mask=None if mask is None else mask.detach().cpu().bool(),
    )


def seen(map: Tensor | contract.Maps, scene: Scene) -> Seen:
    """What a metric may see of maps: of an explanation its first map with all else that it states."""
    pixels = (len(scene.x), *scene.probe.pixels)
    if isinstance(map, Maps):
        explanation, spec = Explanation(map.maps, map.facts, map.signals), map.specs[0]
    elif isinstance(map, Tensor):
        values = map.detach().cpu().float()
        explanation, spec = Explanation({"map": values}), MapSpec("map", signed=bool((values < 0).any()))
    else:
        raise DataError(f"the map is {type(map).__name__}: write a tensor (B, H, W) or the maps of an explainer")
    if explanation.maps[spec.name].shape != pixels:
        raise DataError(f"the map has the shape {tuple(explanation.maps[spec.name].shape)}, not {pixels}")
    reasons = {name: [fault(one) for one in each] for name, each in explanation.maps.items()}
    return evidence_of(Saved(explanation, reasons), spec, {}), reasons[spec.name]


def outcomes(metric: Metric, scene: Scene, rows: Mapping[str, Seen]) -> dict[str, Outcome]:
    """What became of every row by one metric, as a run records it."""
    label = registry.label(metric)
    cells = [Cell(row, "score", "", row, label) for row in rows]
    return {outcome.key: outcome for outcome in judge(metric, scene, rows, cells)}


def scored(metric: Metric, scene: Scene, row: Seen) -> Tensor:
    """One row's scores (B,), NaN where there is none, or the error that explains why the metric cannot be used."""
    (outcome,) = outcomes(metric, scene, {"map": row}).values()
    if outcome.scores:
        return torch.tensor(outcome.scores, dtype=torch.float64)
    if outcome.status == "skipped":
        raise Unsupported(f"{registry.label(metric)} cannot be used here: {outcome.reason}")
    raise MibenchError(f"{registry.label(metric)} failed: {outcome.reason}")
