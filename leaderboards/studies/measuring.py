"""What studies measure with: methods fitted on a task, maps read on the truth's cells, scores of maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from leaderboards.studies.lines import Line
from mibench.plugins import registry
from mibench.plugins.contract import Evidence, Explainer, FittedExplainer, Probe, Samples, Scene
from mibench.record import maps
from mibench.record.cells import TaskSpec
from mibench.run import scoring
from mibench.run.task import make_task


def fitted(spec: str, probe: Probe, samples: Samples, seed: int = 0) -> Explainer:
    """A method, ready to explain: fitted on these samples if it must be."""
    explainer = registry.method(spec).explainer
    if isinstance(explainer, FittedExplainer):
        explainer.restore(probe, explainer.learn(probe, samples, seed))
    return explainer


def on_grid(probe: Probe, map_: Tensor, grid: tuple[int, int]) -> Tensor:
    """The grid (N, h, w) of which a map (N, H, W) is the upsampling."""
    each = torch.eye(grid[0] * grid[1]).reshape(-1, *grid)
    forth = probe.upsample(each).flatten(1).double()  # (K, H W)
    back: Tensor = torch.linalg.pinv(forth)
    return (map_.flatten(1).double() @ back).reshape(-1, *grid)


def evidence_of(spec: TaskSpec, rows: Sequence[str]) -> tuple[Scene, dict[str, Evidence]]:
    """A task's samples, and what some methods show of them, each fitted with the first seed."""
    task, scene = make_task(spec), scoring.scene_of(spec, "cpu", "fp32", 0, 0)
    evidence = {}
    for row in rows:
        explainer = fitted(row, task.probe, task.calibration)
        shown = explainer.explain(task.probe, scene.x, scene.target, scene.seeds)
        spared = {name: [""] * len(scene.x) for name in shown.maps}
        evidence[row] = scoring.evidence_of(maps.Saved(shown, spared), explainer.maps[0], {})
    return scene, evidence


def scores_of(spec: TaskSpec, rows: Sequence[str], metric: str) -> Mapping[str, Tensor]:
    """Scores of the main maps of some methods by one metric, a sample each."""
    scene, evidence = evidence_of(spec, rows)
    return registry.metric(metric).score(scene, evidence)


def scored(question: str, spec: TaskSpec, rows: Sequence[str], metrics: Sequence[str]) -> Iterator[Line]:
    """Explain a task by some methods and score their main maps."""
    scene, evidence = evidence_of(spec, rows)
    for metric in metrics:
        for row, scores in registry.metric(metric).score(scene, evidence).items():
            yield Line.of(question, f"{spec.data}/{spec.model}, {row}", metric, scores)
