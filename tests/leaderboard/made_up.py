"""A board of made-up scores, as a run would hand it over: 64 samples, two tasks, ties, failures, gates and blind metrics.

Every row has a true quality; a score is quality + what the sample does to all rows + noise, squeezed into the metric's
range. So the tests know who is better, and who is only luckier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mibench.leaderboard.results import Gate, MethodCard, MetricCard, Results, Sample, TaskCard

TASKS = (("planted", "planted-cnn"), ("mnist", "cnn-m"))
METRICS = (
    MetricCard("pixel-flipping", "Pixel flipping", "faithfulness", "lower", (0.0, 1.0), "probability", about="Area under the class's probability while the most relevant pixels are removed first."),
    MetricCard("region-perturbation", "Region perturbation", "faithfulness", "higher", (-1.0, 1.0), "probability", about="Mean drop of the class's probability while the most relevant tiles are removed first."),
    MetricCard("faithfulness-correlation", "Faithfulness correlation", "faithfulness", "higher", (-1.0, 1.0), about="Correlation between the relevance of random sets of pixels and the drop that removing them causes."),
    MetricCard("irof", "IROF", "faithfulness", "higher", (0.0, 1.0), about="Area over the curve while segments are removed, the most relevant first."),
    MetricCard("irof[baseline=blur]", "IROF, blurred", "faithfulness", "higher", (0.0, 1.0), about="As IROF, with the blurred image in place of what is removed."),
    MetricCard("pointing-game", "Pointing game", "localisation", "higher", (0.0, 1.0), about="Share of samples whose most relevant pixel lies on the object."),
    MetricCard("mass-accuracy", "Relevance mass accuracy", "localisation", "higher", (0.0, 1.0), about="Share of all relevance that lies on the object."),
    MetricCard("auc", "AUC", "localisation", "higher", (0.0, 1.0), about="Probability that a pixel on the object is more relevant than one beside it."),
    MetricCard("sparseness", "Sparseness", "complexity", "higher", (0.0, 1.0), about="Gini index of the relevance."),
    MetricCard("information-error", "Error in information", "information", "lower", (0.0, 10.0), "nats", about="Mean distance between a map's claim and the true information of each cell."),
    MetricCard("random-logit", "Another class", "randomisation", "lower", (-1.0, 1.0), gate=True, about="Similarity to the map of another class."),
)  # fmt: skip
CONTROLS = ("constant", "inverted:occlusion", "known-good", "random")
QUALITY = {
    "known-good": 0.92, "mire": 0.81, "mire.redundant": 0.35, "mire.total": 0.70, "mi-lr": 0.66, "mipin": 0.74,
    "nif": 0.73, "iba": 0.80, "iba[steps=50]": 0.80, "gradcam": 0.68, "guided-backprop": 0.52, "integrated-gradients": 0.60,
    "input-x-gradient": 0.575, "kernel-shap": 0.58, "lrp-epsilon": 0.575, "occlusion": 0.72, "saliency": 0.47,
    "smoothgrad": 0.55, "random": 0.30, "constant": 0.30, "inverted:occlusion": 0.08,
}  # fmt: skip
SEEDED = ("mire", "mire.redundant", "mire.total", "mipin", "nif", "random")


def results(samples: int = 64, methods: Sequence[str] = tuple(QUALITY), **changes: Any) -> Results:
    """A whole run, with one failure of each kind; `changes` replace fields of the result."""
    rng = np.random.default_rng(7)
    frames = [_task(rng, *task, samples, methods) for task in TASKS]
    scores = pd.concat(frames, ignore_index=True)
    lost = {("mnist", "nif"): ("timeout", "stopped after 600 s"), ("planted", "kernel-shap"): ("crash", "the worker died of signal 11")}
    for (data, method), _ in lost.items():
        scores = scores[~((scores["data"] == data) & (scores["method"] == method))]
    cells = [
        (data, model, method, card.name, "ok", "") for data, model in TASKS for method in methods for card in METRICS
        if (data, method) not in lost and not (data == "mnist" and card.name == "information-error")
    ]
    cells += [(data, dict(TASKS)[data], method, "", *why) for (data, method), why in lost.items()]
    cells += [("mnist", "cnn-m", method, "information-error", "skipped", "the true information is not known on these data") for method in methods]
    scores = scores[~((scores["data"] == "mnist") & (scores["metric"] == "information-error"))]
    given: dict[str, Any] = {
        "suite": "made-up", "scores": scores.reset_index(drop=True),
        "cells": pd.DataFrame(cells, columns=["data", "model", "method", "metric", "status", "reason"]),
        "metrics": METRICS, "methods": tuple(MethodCard(m, m.capitalize(), m in CONTROLS) for m in methods),
        "tasks": tuple(TaskCard(*task, facts={"accuracy": "0.98", "classes": "10", "local layer": "conv3"}) for task in TASKS),
        "costs": {(*task, method): _cost(k, method) for task in TASKS for k, method in enumerate(methods) if (task[0], method) not in lost},
        "gates": tuple(
            Gate("mnist", "cnn-m", m, "random-weights", m != "guided-backprop", "similarity 0.97 after randomising, limit 0.9" if m == "guided-backprop" else "similarity 0.31, limit 0.9")
            for m in methods if m not in CONTROLS
        ),
        "samples": tuple(_sample(rng, *task, f"{task[0]}-{k}", methods) for task in TASKS for k in range(3)),
        "facts": {"commit": "37f8e0b", "date": "2025-01-31", "command": "python -m mibench run made-up", "python": "3.11"},
        "chance": "random", "known_good": ("known-good",),
    }  # fmt: skip
    return Results(**{**given, **changes})


def _task(rng: np.random.Generator, data: str, model: str, samples: int, methods: Sequence[str]) -> pd.DataFrame:
    rows = []
    hardness = rng.normal(0, 0.08, samples)  # (N,)
    for card in METRICS:
        blind = data == "mnist" and card.name == "pixel-flipping"
        for method in methods:
            for seed in range(3 if method in SEEDED else 1):
                quality = 0.5 if blind else QUALITY[method] + rng.normal(0, 0.008) * (method in SEEDED)
                value = np.clip(quality + hardness + rng.normal(0, 0.10, samples), 0, 1)
                if card.name == "pointing-game":
                    value = (value > 0.55).astype(float)
                low, high = (0.0, 1.0) if card.range[1] > 1 else card.range
                value = low + (high - low) * (value if card.direction == "higher" else 1 - value)
                reason = np.full(samples, "", object)
                if method == "constant":
                    value, reason = np.full(samples, np.nan), np.full(samples, "constant map", object)
                if method == "gradcam" and card.family == "localisation":
                    value[:3], reason[:3] = np.nan, "the map is zero everywhere"
                if card.name == "auc" and data == "mnist":
                    value[-2:], reason[-2:] = np.nan, "the mask is empty"
                rows.append(pd.DataFrame({
                    "data": data, "model": model, "method": method, "metric": card.name, "seed": seed,
                    "sample": [f"{data}-{i}" for i in range(samples)], "value": value, "reason": reason,
                }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def _cost(k: int, method: str) -> dict[str, float]:
    passes = float([1, 2, 3, 10, 30, 50, 200][k % 7])
    cost = {
        "seconds": 0.0123 * passes, "seconds_p95": 0.0141 * passes, "forwards": 2.7 * passes, "forward_passes": passes,
        "flops": 23_461_888 * passes, "backward_passes": passes // 2, "peak_memory": 312.5 + 3 * k,
    }  # fmt: skip
    return {**cost, "fit_seconds": 14.2} if method in SEEDED else cost


def _sample(rng: np.random.Generator, data: str, model: str, name: str, methods: Sequence[str]) -> Sample:
    size = 48 if data == "planted" else 28
    y, x = np.mgrid[:size, :size] / size
    centre = rng.uniform(0.3, 0.7, 2)
    ring = np.exp(-((np.hypot(y - centre[0], x - centre[1]) - 0.18) ** 2) / 0.004)
    image = np.clip(ring + rng.normal(0, 0.05, (size, size)), 0, 1).astype(np.float32)
    if data == "planted":
        image = np.stack([image, image * 0.6 + 0.2 * x, 0.5 - 0.4 * image], -1).astype(np.float32)
    maps = {
        m: (QUALITY[m] * ring + (1 - QUALITY[m]) * rng.normal(0, 0.5, (size, size))).astype(np.float32) for m in methods
    }
    return Sample(data, model, name, image, maps, label="ring", target="ring")
