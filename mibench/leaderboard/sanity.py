"""Sanity gates: a row that fails one is shown with its figures, and is not ranked.

A gate metric compares a row's maps with a second set of maps: of another class or of random weights, from which they
must differ, or of a second run, which they must repeat. The last gate tests whether any score of quality separates a
row from random maps, samples paired, with Holm's correction over the metrics.

A gate metric that was requested and has no value counts as failed, whatever the cause: a crash, a timeout, out of
memory, a second map that is not finite, one seed of several, a cell not computed yet. There are two exceptions, which
the board shows: the gate was skipped, with its reason, or too few samples to separate any row from random maps.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mibench.leaderboard.results import CELLS, Gate
from mibench.record.cards import MetricCard

SIMILARITY = (-1.0, 1.0)  # the range of a gate metric that is a similarity; others are only shown
QUALITY = ("faithfulness", "localisation", "information")
LEVEL = 0.05
FEWEST = 5  # paired samples; with fewer not even a single metric can be significant
Outcome = tuple[str, bool | None, str]  # of one gate: its name, whether it was passed (None: not judged), and why


def gates(scores: pd.DataFrame, cells: pd.DataFrame, metrics: Sequence[MetricCard], chance: str) -> tuple[Gate, ...]:
    """Every gate's outcome for every row on every task that has scores; `scores` and `cells` are those of Results."""
    names = ["data", "model", "method", "metric", "sample"]
    means = scores.groupby(names, sort=True, observed=True)["value"].mean()  # over seeds
    found: list[Gate] = []
    for place, task in means.groupby(level=["data", "model"], sort=True, observed=True):
        assert isinstance(place, tuple)
        data, model = map(str, place)
        here, told = (each[(each["data"] == data) & (each["model"] == model)] for each in (scores, cells))
        became = _became(here, told)
        wide = task.droplevel(["data", "model"]).unstack("sample")  # a line a row and metric, a column a sample
        methods = sorted({*map(str, wide.index.unique("method")), *(method for method, _ in became)})
        averages = {key: float(value) for key, value in wide.mean(axis=1).dropna().items()}
        random = _told_from(wide, methods, metrics, chance)
        for method in methods:
            outcomes = [*_alike(method, averages, became, metrics), *random.get(method, ())]
            found += [Gate(data, model, method, gate, passed, reason) for gate, passed, reason in outcomes]
    return tuple(found)


def _became(scores: pd.DataFrame, cells: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    """Status of every cell of a task by row and metric, and a reason: the cell's own or its first sample's."""
    silent = scores[scores["reason"].fillna("") != ""].drop_duplicates(["method", "metric"])
    reasons = {(method, metric): why for method, metric, why in _texts(silent, ["method", "metric", "reason"])}
    return {
        (method, metric): (status, reason or reasons.get((method, metric), ""))
        for method, metric, status, reason in _texts(cells, list(CELLS[2:]))
    }


def _texts(table: pd.DataFrame, columns: list[str]) -> list[list[str]]:
    return [list(map(str, line)) for line in table[columns].fillna("").to_numpy().tolist()]


def _alike(
    method: str,
    averages: Mapping[Hashable, float],
    became: Mapping[tuple[str, str], tuple[str, str]],
    metrics: Sequence[MetricCard],
) -> Iterator[Outcome]:
    """The gates that are metrics, from the averages of a row's scores and from what became of its cells."""
    for card in metrics:
        if not card.gate or tuple(card.range) != SIMILARITY:
            continue
        mean = averages.get((method, card.name))
        status, reason = became.get((method, card.name)) or became.get((method, "")) or ("skipped", "not requested")
        if mean is not None and status in ("ok", "skipped"):  # skipped: with other seeds
            passed = mean >= card.limit if card.direction == "higher" else mean < card.limit
            limit = f"at least {card.limit}" if card.direction == "higher" else f"below {card.limit}"
            yield card.name, passed, f"mean similarity {mean:.3f}, {limit} is wanted"
        elif status == "skipped":
            yield card.name, None, reason
        else:
            yield card.name, False, f"could not be judged: {reason or status}"


def _told_from(
    wide: pd.DataFrame, methods: Sequence[str], metrics: Sequence[MetricCard], chance: str
) -> dict[str, list[Outcome]]:
    """Whether any score of quality separates each row from random maps; empty where no such score was requested.

    Where the score of random maps is known, it is that number, and not one row of maps drawn by chance.
    """
    there = wide.index.unique("metric") if chance else ()
    quality = [card for card in metrics if card.family in QUALITY and not card.gate and card.name in there]
    found: dict[str, dict[str, tuple[float, int]]] = {method: {} for method in methods if method != chance}
    for card in quality:
        values = wide.xs(card.name, level="metric")
        random = values.reindex([chance]).iloc[0] if card.chance is None else card.chance
        better = (values.drop(chance, errors="ignore").sub(random) * card.sign).to_numpy(float)
        counts = np.isfinite(better).sum(1).tolist()
        rows = map(str, values.index.drop(chance, errors="ignore"))
        for method, p, count in zip(rows, _larger(better).tolist(), counts, strict=True):
            found[method][card.name] = p, count
    return {method: [_verdict(by_metric)] for method, by_metric in found.items()} if quality else {}


def _verdict(found: Mapping[str, tuple[float, int]]) -> Outcome:
    """Holm's first step over the metrics that have enough samples; not judged where the best p would not do."""
    tests = {name: p for name, (p, count) in found.items() if count >= FEWEST}
    most = max((count for _, count in found.values()), default=0)
    if 0.5**most * max(1, len(tests)) > LEVEL:
        needed = math.ceil(math.log2(max(1, len(tests)) / LEVEL))
        return "not random", None, f"too few samples: {most}, at least {needed} are needed"
    name = min(tests, key=lambda each: tests[each])
    p = min(1.0, tests[name] * len(tests))
    passed = p <= LEVEL
    return "not random", passed, f"{'' if passed else 'no '}metric separates it from random maps ({name}: p = {p:.2g})"


def _larger(differences: np.ndarray) -> np.ndarray:
    """For each line the p value of differences being no larger than zero, NaN where there are too few.

    Lines that scipy would treat alike are tested together: it chooses the form of the test by their number and ties.
    Its form for ties only comes near 2^-n, which is what n differences have that are all larger.
    """
    from scipy.stats import wilcoxon

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
        p[places] = np.where((lines > 0).all(1), 0.5 ** lines.shape[1], p[places])
    return p
