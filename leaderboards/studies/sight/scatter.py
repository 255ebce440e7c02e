"""How far fits on one network, and networks with their fits, move a row's mean: the priors of the panel.

Seeds s and s + NETWORKS share a network. The variance of one seed's mean is estimated for fits from pairs of seeds of
one network, for networks from seeds of different ones; E is what single samples do besides (`statistics/seeds.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from leaderboards.studies.lines import Line
from mibench.leaderboard.panels import Panel
from mibench.leaderboard.tables import Board
from mibench.record.panel import Prior
from mibench.statistics.arrays import Array
from mibench.statistics.priors import fitted

NETWORKS, MEDIAN = 3, "median over metrics"
ROUNDING = 1e-12  # a share of the scale: what varies less does not draw, but rounds
Which = Literal["fits", "networks"]
DEGREES: Mapping[Which, int] = {"fits": NETWORKS, "networks": NETWORKS - 1}  # of freedom, of a row


@dataclass(frozen=True)
class Scatter:
    """One row's: the variance of one seed's mean over the score's scale, and B / E."""

    which: Which
    truth: str
    metric: str
    method: str
    level: float
    ratio: float
    samples: int


def groups(which: Which, seeds: int) -> list[list[int]]:
    """Seeds that are compared: those of one network, or one of each."""
    if which == "fits":
        return [[k, k + NETWORKS] for k in range(min(NETWORKS, seeds - NETWORKS))]
    return [list(range(at, at + NETWORKS)) for at in range(0, seeds - NETWORKS + 1, NETWORKS)]


def scattered(made: Board) -> Iterator[Scatter]:
    """Every row that moves."""
    cards = {(card.data, card.model): card for card in made.results.tasks}
    for task, panels in made.panels.items():
        drawn: tuple[Which, ...] = ("fits", "networks") if cards[task].networks == NETWORKS else ()
        for panel in panels:
            if not panel.card.gate:
                for which in drawn:
                    yield from _of(panel, which, cards[task].truth, made.results.controls)


def _of(panel: Panel, which: Which, truth: str, controls: frozenset[str]) -> Iterator[Scatter]:
    low, high = panel.card.range
    for row, method in enumerate(panel.methods):
        scores = panel.means.scores[row]  # (S, N)
        if method in controls or scores.shape[0] < NETWORKS:
            continue
        found = [parts for some in groups(which, len(scores)) if (parts := _parts(scores[some])) is not None]
        if not found:
            continue
        moved, rest, sampled, samples = (float(np.mean(each)) for each in zip(*found, strict=True))
        scale = (high - low) ** 2 if np.isfinite(high - low) else sampled
        if min(moved, rest) > ROUNDING * scale > 0:
            yield Scatter(which, truth, panel.card.name, method, moved / scale, moved / rest, round(samples))


def _parts(scores: Array) -> tuple[float, float, float, int] | None:
    """Variance of a seed's mean, what its rest alone would make it, variance of samples, samples."""
    if not np.isfinite(scores).any(1).all():
        return None
    y = scores[:, np.isfinite(scores).all(0)]  # (S, n)
    seeds, n = y.shape
    if n < 2:
        return None
    rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    return (
        float(y.mean(1).var(ddof=1)),
        float((rest**2).sum() / (seeds - 1) / (n - 1) / n),
        float(y.mean(0).var(ddof=1)),
        n,
    )


def priors(made: Board) -> dict[tuple[str, str, str], Prior]:
    """By which, truth and metric."""
    families = {card.name: card.family for card in made.results.metrics}
    every = [*scattered(made)]
    found: dict[tuple[str, str, str], Prior] = {}
    for which, degrees in DEGREES.items():
        for truth in dict.fromkeys(each.truth for each in every):
            rows = [each for each in every if (each.which, each.truth) == (which, truth)]
            by_metric: dict[str, list[Scatter]] = {}
            for each in rows:
                by_metric.setdefault(each.metric, []).append(each)
            levels = fitted({m: np.array([e.level for e in some]) for m, some in by_metric.items()}, families, degrees)
            ratios = fitted({m: np.array([e.ratio for e in some]) for m, some in by_metric.items()}, families, degrees)
            for metric, (level, freedom) in levels.items():
                ratio, worth = ratios[metric]
                some = by_metric[metric]
                found[which, truth, metric] = Prior(
                    level=_short(level), freedom=_short(freedom), ratio=_short(ratio), ratio_freedom=_short(worth),
                    samples=round(float(np.median([each.samples for each in some]))), rows=len(some),
                    seeds=len(some) * (degrees + 1),
                )  # fmt: skip
    return found


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def lines(made: Board) -> Iterator[Line]:
    """Levels and weights of each metric."""
    for (which, truth, metric), prior in priors(made).items():
        for figure in ("level", "freedom", "ratio", "ratio_freedom"):
            value = float(getattr(prior, figure))
            yield Line(f"scatter of {which}: {truth}", metric, figure, value, float("nan"), prior.rows)


def medians(lines: Sequence[Line]) -> Iterator[Line]:
    """The medians of the degrees of freedom over metrics."""
    asked = dict.fromkeys(line.question for line in lines if line.question.startswith("scatter"))
    for question in asked:
        for figure in ("freedom", "ratio_freedom"):
            values = [line.mean for line in lines if (line.question, line.figure) == (question, figure)]
            yield Line(question, MEDIAN, figure, float(np.median(values)), float("nan"), len(values))
