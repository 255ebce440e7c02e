"""Made-up scores as a run would hand them over: two tasks with ties, failures, a failed gate and a blind metric.

Every row has a true quality; a score is quality + what the sample does to all rows + noise, squeezed into the metric's
range. So the tests know who is better, and who is only luckier.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mibench.leaderboard.results import CELLS, Gate, Results, Sample, TaskCard
from mibench.record.cards import MethodCard, MetricCard
from mibench.record.panel import Entry, Panel, Prior

TASKS = (("planted", "planted-cnn"), ("mnist", "cnn-m"))
TRUTHS = ("planted", "images")
UNIT, BOTH = (0.0, 1.0), (-1.0, 1.0)
METRICS = tuple(
    MetricCard(name, title, family, direction, range, unit, gate=family == "randomisation", about=about)
    for name, title, family, direction, range, unit, about in (
        ("pixel-flipping", "Pixel flipping", "faithfulness", "lower", UNIT, "probability", "Area under the curve."),
        ("region-perturbation", "Regions", "faithfulness", "higher", BOTH, "probability", "Mean drop over tiles."),
        ("correlation", "Correlation", "faithfulness", "higher", BOTH, "", "Of relevance removed and drop."),
        ("irof", "IROF", "faithfulness", "higher", UNIT, "", "Area over the curve of segments."),
        ("irof[baseline=blur]", "IROF, blurred", "faithfulness", "higher", UNIT, "", "As IROF, blurred."),
        ("pointing-game", "Pointing game", "localisation", "higher", UNIT, "", "Share of hits."),
        ("mass-accuracy", "Mass accuracy", "localisation", "higher", UNIT, "", "Share of relevance on the object."),
        ("auc", "AUC", "localisation", "higher", UNIT, "", "On the object against beside it."),
        ("sparseness", "Sparseness", "complexity", "higher", UNIT, "", "Gini index of the relevance."),
        ("information-error", "Error in nats", "information", "lower", (0.0, 10.0), "nats", "Distance to the truth."),
        ("random-logit", "Another class", "randomisation", "lower", BOTH, "", "Similarity to another class's map."),
    )
)
CONTROLS = ("constant", "inverted:occlusion", "known-good", "random")
QUALITY = {
    "known-good": 0.92, "mire": 0.81, "mire.redundant": 0.35, "mire.total": 0.70, "mi-lr": 0.66, "mipin": 0.74,
    "nif": 0.73, "iba": 0.80, "iba[steps=50]": 0.80, "gradcam": 0.68, "guided-backprop": 0.52,
    "integrated-gradients": 0.60, "input-x-gradient": 0.575, "kernel-shap": 0.58, "lrp-epsilon": 0.575,
    "occlusion": 0.72, "saliency": 0.47, "smoothgrad": 0.55, "random": 0.30, "constant": 0.30,
    "inverted:occlusion": 0.08,
}  # fmt: skip
SEEDED = ("mire", "mire.redundant", "mire.total", "mipin", "nif", "random")


LOST = {("mnist", "nif"): ("timeout", "stopped after 600 s"), ("planted", "kernel-shap"): ("crash", "signal 11")}
UNGATED = ("guided-backprop", "similarity 0.97 after randomising, limit 0.9")


def results(count: int = 64, methods: Sequence[str] = tuple(QUALITY), **changes: Any) -> Results:
    """A whole run; `changes` replace fields of the result."""
    rng = np.random.default_rng(7)
    scores = pd.concat([_task(rng, *task, count, methods) for task in TASKS], ignore_index=True)
    whole = {
        "suite": "made-up",
        "scores": scores,
        "cells": pd.DataFrame(_cells(methods), columns=list(CELLS)),
        "metrics": METRICS,
        "methods": tuple(
            MethodCard(method, method.capitalize(), method in CONTROLS, seeded=method in SEEDED) for method in methods
        ),
        "tasks": tuple(
            TaskCard(*task, facts={"accuracy": "0.98", "layer": "conv3"}, truth=truth, network="cnn")
            for task, truth in zip(TASKS, TRUTHS, strict=True)
        ),
        "costs": {(*task, m): _cost(k, m) for task in TASKS for k, m in enumerate(methods) if (task[0], m) not in LOST},
        "gates": tuple(
            Gate("mnist", "cnn-m", method, "random-weights", "failed" if method == UNGATED[0] else "passed", UNGATED[1])
            for method in methods
            if method not in CONTROLS
        ),
        "samples": tuple(_sample(rng, *task, f"{task[0]}-{k}", methods) for task in TASKS for k in range(3)),
        "facts": {"date": "2025-01-31", "commit": "37f8e0b", "command": "python -m mibench run made-up"},
        "chance": "random",
        "known_good": ("known-good",),
    }
    return Results(**{**whole, **changes})


@cache
def whole() -> Results:
    """The whole run unchanged, made once."""
    return results()


def panel(sightless: Sequence[str] = (), lacking: Sequence[str] = (), prior: Prior | None = None) -> Panel:
    """What a panel would know of these scores: all have sight but some, and it lacks others."""
    return Panel(
        entries=tuple(
            Entry(
                metric=card.name,
                version=card.version,
                truth=truth,
                network="cnn",
                sight=card.name not in sightless if truth == "planted" else None,
                random=_score(card, QUALITY["random"]),
                top=_score(card, QUALITY["known-good" if truth == "planted" else "occlusion"]),
                top_is="truth" if truth == "planted" else "occlusion",
                prior_fits=prior,
            )
            for card, truth in product(METRICS, TRUTHS)
            if card.name not in lacking and not card.gate
        )
    )


def _score(card: MetricCard, quality: Any) -> Any:
    """A quality as a score of the metric."""
    low, high = (0.0, 1.0) if card.range[1] > 1 else card.range
    return low + (high - low) * (quality if card.direction == "higher" else 1 - quality)


def _cells(methods: Sequence[str]) -> list[tuple[str, ...]]:
    cells = [(data, dict(TASKS)[data], method, "", *why) for (data, method), why in LOST.items() if method in methods]
    for (data, model), method, card in product(TASKS, methods, METRICS):
        if data == "mnist" and card.name == "information-error":
            cells.append((data, model, method, card.name, "skipped", "the true information is not known"))
        elif (data, method) not in LOST:
            cells.append((data, model, method, card.name, "ok", ""))
    return cells


def _task(rng: np.random.Generator, data: str, model: str, samples: int, methods: Sequence[str]) -> pd.DataFrame:
    rows = []
    hardness = rng.normal(0, 0.08, samples)  # (N,)
    for card in METRICS:
        blind = data == "mnist" and card.name == "pixel-flipping"
        if data == "mnist" and card.name == "information-error":
            continue
        for method in methods:
            if (data, method) in LOST:
                continue
            for seed in range(3 if method in SEEDED else 1):
                quality = 0.5 if blind else QUALITY[method] + rng.normal(0, 0.008) * (method in SEEDED)
                value = np.clip(quality + hardness + rng.normal(0, 0.10, samples), 0, 1)
                if card.name == "pointing-game":
                    value = (value > 0.55).astype(float)
                value = _score(card, value)
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
