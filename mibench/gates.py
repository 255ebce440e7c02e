"""Sanity gates: a row that fails one is shown with its figures, and is not ranked.

A gate metric compares a row's maps with a second set of maps: of another class or of random weights, from which they
must differ, or of a second run, which they must repeat. The last gate asks whether a row is told from random maps by
any score of quality, samples paired, with Holm's correction over the metrics.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

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
    names = ["data", "model", "method", "metric", "sample"]
    means = scores.groupby(names, sort=True, observed=True)["value"].mean()  # over seeds
    found: list[Gate] = []
    for place, task in means.groupby(level=["data", "model"], sort=True, observed=True):
        assert isinstance(place, tuple)
        data, model = map(str, place)
        wide = task.droplevel(["data", "model"]).unstack("sample")  # a line a row and metric, a column a sample
        told = _told_from(wide, metrics, chance)
        averages = {key: float(value) for key, value in wide.mean(axis=1).dropna().items()}
        for method in map(str, wide.index.unique("method")):
            outcomes = [*_alike(method, averages, metrics), *told.get(method, ())]
            found += [Gate(data, model, method, gate, passed, reason) for gate, passed, reason in outcomes]
    return tuple(found)


def _alike(
    method: str, averages: Mapping[Hashable, float], metrics: Sequence[MetricCard]
) -> Iterator[tuple[str, bool, str]]:
    """The gates that are metrics, from the averages of a row's scores."""
    for card in metrics:
        mean = averages.get((method, card.name))
        if card.gate and tuple(card.range) == SIMILARITY and mean is not None:
            passed = mean >= card.limit if card.direction == "higher" else mean < card.limit
            limit = f"at least {card.limit}" if card.direction == "higher" else f"below {card.limit}"
            yield card.name, passed, f"mean similarity {mean:.3f}, {limit} is wanted"


def _told_from(
    wide: pd.DataFrame, metrics: Sequence[MetricCard], chance: str
) -> dict[str, list[tuple[str, bool, str]]]:
    """Whether any score of quality tells each row from random maps."""
    found: dict[str, dict[str, float]] = {}
    for card in metrics:
        if card.family in QUALITY and not card.gate and (chance, card.name) in wide.index:
            values = wide.xs(card.name, level="metric")
            better = values.drop(chance).sub(values.loc[chance]) * card.sign
            for method, p in zip(map(str, better.index), _larger(better.to_numpy(float)).tolist(), strict=True):
                if np.isfinite(p):
                    found.setdefault(method, {})[card.name] = p
    return {method: [_verdict(by_metric)] for method, by_metric in found.items()}


def _verdict(found: Mapping[str, float]) -> tuple[str, bool, str]:
    name = min(found, key=lambda each: found[each])
    p = min(1.0, found[name] * len(found))  # Holm's first step
    passed = p <= LEVEL
    return "not random", passed, f"{'' if passed else 'no '}metric tells it from random maps ({name}: p = {p:.2g})"


def _larger(differences: np.ndarray) -> np.ndarray:
    """For each line the p value of differences being no larger than zero, NaN where there are too few.

    Lines that scipy would treat alike are tested together: it chooses the form of the test by their number and ties.
    """
    p = np.full(len(differences), np.nan)
    given = np.isfinite(differences)
    alike: dict[Hashable, list[int]] = {}
    for place, line in enumerate(differences):
        values = np.abs(line[given[place]])
        if len(values) >= FEWEST:
            p[place] = 1.0
            if values.any():
                tied = len(np.unique(values)) < len(values) or not values.all()
                alike.setdefault((len(values), tied), []).append(place)
    for places in alike.values():
        lines = np.stack([differences[place, given[place]] for place in places])
        p[places] = wilcoxon(lines, alternative="greater", axis=1).pvalue
    return p
