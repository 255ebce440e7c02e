"""The rules for metrics, one function each, which raises `Broken` with what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mibench.conformance.bench import COUNT, Bench, rows_of, scene_of
from mibench.conformance.rules import Broken, Rules
from mibench.errors import UsageError
from mibench.plugins import registry
from mibench.plugins.contract import Evidence, Metric, Scene, Unsupported


def declares_direction_and_range(metric: Metric, _bench: Bench) -> None:
    """Direction, range and title are data."""
    low, high = metric.range
    if metric.direction not in ("higher", "lower") or not low < high or not metric.title:
        raise Broken("direction must be higher or lower, the range must be increasing, and there must be a title")
    try:
        registry.refuse_unknown_needs(metric)
    except UsageError as error:
        raise Broken(str(error)) from error


def scores_inside_its_range(metric: Metric, bench: Bench) -> None:
    """One score a sample for each row, all of them inside of the range."""
    scene, rows = scene_of(bench), rows_of(bench)
    low, high = metric.range
    scores = scored(metric, scene, rows)
    if set(scores) != set(rows):
        raise Broken(f"it scored the rows {sorted(scores)} of {sorted(rows)}")
    for row, values in scores.items():
        if values.shape != (COUNT,):
            raise Broken(f"it returned scores of shape {tuple(values.shape)} for {COUNT} samples")
        known = values[values.isfinite()]
        if len(known) and (known.min() < low - 1e-6 or known.max() > high + 1e-6):
            raise Broken(f"{row} has a score outside of {low:g} to {high:g}: {known.tolist()}")


def does_not_mix_rows(metric: Metric, bench: Bench) -> None:
    """A row alone has the scores that it has among others."""
    rows = rows_of(bench)
    together = scored(metric, scene_of(bench), rows)
    for row in rows:
        alone = scored(metric, scene_of(bench), {row: rows[row]})[row]
        if not torch.allclose(alone.double(), together[row].double(), atol=1e-6, equal_nan=True):
            raise Broken(f"{row} has other scores when it is alone")


def leaves_the_evidence_alone(metric: Metric, bench: Bench) -> None:
    """Maps and samples are not changed in place."""
    scene, rows = scene_of(bench), rows_of(bench)
    before = {row: evidence.map.clone() for row, evidence in rows.items()}
    x = scene.x.clone()
    scored(metric, scene, rows)
    if not torch.equal(x, scene.x) or any(not torch.equal(before[row], rows[row].map) for row in rows):
        raise Broken("it changes its inputs in place")


def scored(metric: Metric, scene: Scene, rows: Mapping[str, Evidence]) -> dict[str, Tensor]:
    """A metric's scores of rows, or `Unsupported` where the scene lacks what it needs."""
    lacking = {
        need
        for need in metric.needs
        if (need in ("mask", "truth") and getattr(scene, need) is None) or (need == "image" and scene.x.dim() != 4)
    }
    if lacking:
        raise Unsupported(f"needs {' and '.join(sorted(lacking))}")
    return dict(metric.score(scene, rows))


METRIC_RULES: Rules = {
    "declares direction and range": declares_direction_and_range,
    "scores inside its range": scores_inside_its_range,
    "does not mix rows": does_not_mix_rows,
    "leaves the evidence alone": leaves_the_evidence_alone,
}
