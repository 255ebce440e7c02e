"""Metrics as somebody else might write them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mibench.plugins.contract import Evidence, Metric, Scene


class Inside(Metric):
    name = "inside"
    title = "Share of the map inside of the mask"
    family = "localisation"
    direction = "higher"
    range = (0.0, 1.0)
    needs = frozenset({"mask"})

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        assert scene.mask is not None
        positive = {name: row.map.clamp(min=0) for name, row in rows.items()}
        return {name: (m * scene.mask).sum((1, 2)) / m.sum((1, 2)) for name, m in positive.items()}


class Drop(Metric):
    name = "drop"
    title = "Fall of the logit when the strongest quarter is replaced"
    family = "faithfulness"
    direction = "higher"
    range = (-float("inf"), float("inf"))

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        before = scene.predict(scene.x).gather(1, scene.target[:, None])[:, 0]
        scores = {}
        for name, row in rows.items():
            strongest = row.map.flatten(1).topk(row.map[0].numel() // 4).indices
            gone = torch.zeros(row.map.flatten(1).shape).scatter(1, strongest, 1.0).bool().view(row.map.shape)
            after = scene.predict(torch.where(gone[:, None], scene.baselines["mean"], scene.x))
            scores[name] = before - after.gather(1, scene.target[:, None])[:, 0]
        return scores


class Moved(Metric):
    name = "moved"
    title = "Distance between the maps of two classes"
    family = "randomisation"
    direction = "higher"
    range = (0.0, float("inf"))
    needs = frozenset({"other-class"})
    gate = True

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        scores = {}
        for name, row in rows.items():
            other = row.variants["other-class"]
            moved = (other - row.raw[: len(other)]).flatten(1).norm(dim=1)
            scores[name] = torch.cat([moved, torch.full((len(row.raw) - len(other),), torch.nan)])
        return scores


class Picky(Metric):
    """Cannot score one row, and crashes on it."""

    name = "picky"
    title = "Fails on rows that are too bright"
    family = "complexity"
    direction = "lower"
    range = (0.0, float("inf"))
    default = False

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        if any("bright" in name for name in rows):
            raise RuntimeError("too bright for me")
        return {name: row.raw.flatten(1).std(1) for name, row in rows.items()}


class Spoiler(Metric):
    """Changes the samples that all metrics share."""

    name = "spoiler"
    title = "Changes what it is given"
    family = "complexity"
    direction = "lower"
    range = (0.0, float("inf"))
    default = False

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        scene.x.zero_()
        return {name: row.raw.zero_().flatten(1).sum(1) for name, row in rows.items()}


class Quitter(Metric):
    """Leaves instead of giving scores."""

    name = "quitter"
    title = "Exits"
    family = "complexity"
    direction = "lower"
    range = (0.0, float("inf"))
    default = False

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        raise SystemExit(0)
