"""Sanity gates: a row that fails one is shown with its figures, and is not ranked.

A gate metric compares a row's maps with a second set of maps: of another class or of random weights, from which they
must differ, or of a second run, which they must repeat. The last gate asks whether a row is told from random maps by
any score of quality, samples paired, with Holm's correction over the metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from mibench.leaderboard.results import Gate, MetricCard

SIMILARITY = (-1.0, 1.0)  # the range of a gate metric that is a similarity; others are only shown
QUALITY = ("faithfulness", "localisation", "information")
LEVEL = 0.05
FEWEST = 6  # paired samples; fewer can never be significant


def gates(scores: pd.DataFrame, metrics: Sequence[MetricCard], chance: str) -> tuple[Gate, ...]:
    """Every gate's outcome for every row on every task; `scores` has the columns data, model, method, metric, …"""
    means = scores.groupby(["data", "model", "method", "metric", "sample"], sort=True)["value"].mean()  # over seeds
    found: list[Gate] = []
    for place, task in means.unstack("metric").groupby(level=["data", "model"], sort=True):
        data, model = map(str, place)
        rows = {str(method): one.droplevel(["data", "model", "method"]) for method, one in task.groupby(level="method")}
        for method, row in rows.items():
            outcomes = [*_alike(row, metrics)]
            if chance in rows and method != chance:
                outcomes += _told_from(row, rows[chance], metrics)
            found += [Gate(data, model, method, gate, passed, reason) for gate, passed, reason in outcomes]
    return tuple(found)


def _alike(row: pd.DataFrame, metrics: Sequence[MetricCard]) -> Iterator[tuple[str, bool, str]]:
    """The gates that are metrics; `row` has a column a metric and a line a sample."""
    for card in metrics:
        if not card.gate or tuple(card.range) != SIMILARITY or card.name not in row:
            continue
        values = row[card.name].dropna()
        if len(values):
            mean = float(values.mean())
            passed = mean >= card.limit if card.direction == "higher" else mean < card.limit
            limit = f"at least {card.limit}" if card.direction == "higher" else f"below {card.limit}"
            yield card.name, passed, f"mean similarity {mean:.3f}, {limit} is wanted"


def _told_from(
    row: pd.DataFrame, random: pd.DataFrame, metrics: Sequence[MetricCard]
) -> Iterator[tuple[str, bool, str]]:
    """Whether any score of quality tells the row from random maps."""
    found: dict[str, float] = {}
    for card in metrics:
        if card.family in QUALITY and not card.gate and card.name in row:
            better = row[card.name].sub(random[card.name]).dropna() * card.sign
            if len(better) >= FEWEST:
                found[card.name] = _larger(better.to_numpy(float))
    if found:
        name = min(found, key=lambda each: found[each])
        p = min(1.0, found[name] * len(found))  # Holm's first step
        passed = p <= LEVEL
        yield "not random", passed, f"{'' if passed else 'no '}metric tells it from random maps ({name}: p = {p:.2g})"


def _larger(differences: np.ndarray) -> float:
    """The p value of differences being no larger than zero."""
    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences, alternative="greater").pvalue)
