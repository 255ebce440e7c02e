"""What each default score sees where the truth is known: the planted truth, occlusion, baselines and random maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import wilcoxon
from torch.nn.functional import adaptive_avg_pool2d

from mibench.plugins import registry
from mibench.plugins.contract import Evidence, Explanation, FittedExplainer, Known, MapSpec, Scene, Unsupported
from mibench.record.maps import Saved
from mibench.run import planning
from mibench.run.explaining import fault, in_batches, task_of
from mibench.run.scoring import evidence_of, scene_of, unmet
from mibench.suites import suite

BASELINES = ("saliency", "smoothgrad", "ig", "input-x-gradient", "gradcam", "guided-backprop", "lrp", "gradient-shap")


def world() -> tuple[Scene, Mapping[str, Evidence]]:
    """The planted task, and its rows; the truth is what its control shows, on cells as they are.

    Of each baseline there is a second row, its average over each cell: the truth knows cells and nothing finer.
    """
    spec = next(each for each in planning.specs(suite.load("planted")) if each.data == "planted")
    task, scene = task_of(spec, "cpu", "fp32"), scene_of(spec, "cpu", "fp32", 0, 0)
    truth = registry.explainer("truth")
    assert isinstance(truth, Known)
    rows = {"truth": row(truth.show(task.probe, task.scoring, task.target), truth.maps[0])}
    for name in ("occlusion", *BASELINES, "random"):
        explainer = registry.explainer(name)
        if isinstance(explainer, FittedExplainer):
            explainer.restore(scene.probe, explainer.learn(scene.probe, task.calibration, 0))
        found = in_batches(explainer, task.probe, scene.x, scene.target, scene.seeds, 0)
        rows[name] = row(found, explainer.maps[0])
        if name in BASELINES:
            cells = adaptive_avg_pool2d(found.maps[explainer.maps[0].name].abs()[:, None], scene.probe.grid)[:, 0]
            rows[f"{name} on cells"] = row(Explanation({"map": scene.probe.upsample(cells)}), MapSpec("map"))
    return scene, rows


def row(explanation: Explanation, spec: MapSpec) -> Evidence:
    maps = explanation.maps[spec.name]
    return evidence_of(Saved(explanation, {spec.name: [fault(one) for one in maps]}), spec, {})


def told_apart(better: np.ndarray, worse: np.ndarray) -> float:
    """The p value of the first not being larger, samples paired."""
    differences = (better - worse)[np.isfinite(better - worse)]
    return float(wilcoxon(differences, alternative="greater").pvalue) if np.any(differences) else 1.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_on_planted_images_a_score_separates_truth_from_chance_or_is_blind() -> None:
    scene, rows = world()
    seen, ordered, preferred, finer = [], [], [], []
    for metric in suite.load("default").chosen_metrics():
        asked = {name: each for name, each in rows.items() if not unmet(metric, scene, each)}
        if metric.gate or not {"truth", "occlusion", "random"} <= set(asked):
            continue
        try:
            scores = metric.score(scene, asked)
        except Unsupported:
            continue
        sign = 1 if metric.direction == "higher" else -1
        values = {name: sign * score.double().numpy() for name, score in scores.items()}
        if not all(np.isfinite(values[name]).any() for name in ("truth", "occlusion", "random")):
            continue
        means = {name: float(np.nanmean(value)) for name, value in values.items()}
        p = {good: told_apart(values[good], values["random"]) for good in ("truth", "occlusion")}
        above = [name for name in BASELINES if means[name] > means["truth"]]
        coarse = [name for name in BASELINES if means.get(f"{name} on cells", -np.inf) > means["truth"]]
        below = [name for name in BASELINES if means[name] < means["random"]]
        figures = ", ".join(f"{name} {sign * means[name]:.3g}" for name in ("truth", "occlusion", "random"))
        sight = "blind" if min(p.values()) > 0.05 else "sees"
        print(
            f"{metric.name:26s} {sight}  {figures}; p truth {p['truth']:.1e}, occlusion {p['occlusion']:.1e}; "
            f"above the truth: {', '.join(above) or 'none'}; averaged over cells: {', '.join(coarse) or 'none'}; "
            f"below random: {', '.join(below) or 'none'}"
        )
        seen += [metric.name] * (sight == "sees")
        preferred += [metric.name] * bool(above)
        finer += [metric.name] * (bool(above) and not coarse)
        ordered += [metric.name] * (not above and not below)
    print(f"{len(preferred)} put a baseline above the truth: {', '.join(preferred)}")
    print(f"of these {len(finer)} for what is finer than a cell alone: {', '.join(finer)}")
    print(f"{len(seen)} see; in full order (truth, every baseline, random): {', '.join(ordered)}")
    assert {"decision-auc", "decision-hard", "auc", "relevance-rank-accuracy"} <= set(seen)
    assert "decision-auc" in ordered
