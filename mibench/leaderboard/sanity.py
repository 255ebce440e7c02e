"""Sanity checks of maps: a row that fails one is shown with its figures, and is not ranked.

A check compares a row's maps with a second set of maps: of another class or of random weights, from which they must
differ, or of a second run, which they must repeat. The last check tests whether any score of quality separates a row
from random maps, samples paired, with Holm's correction over the metrics.

A check is passed, failed, undecided (its value is between two limits, the panel has no limit for such a task, or the
samples do not even separate what is known to be good from random maps), or not applicable (a map that has no class has
none to react to). Only what is failed costs a place. A check that was requested and has no value counts as failed,
whatever the cause: a crash, a timeout, out of memory, a second map that is not finite, one seed of several, a cell not
computed yet.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mibench.leaderboard.results import CELLS, Gate, TaskCard, Verdict
from mibench.record.cards import MetricCard
from mibench.record.panel import Limit, Panel, committed

SIMILARITY = (-1.0, 1.0)  # the range of a gate metric that is a similarity; others are only shown
QUALITY = ("faithfulness", "localisation", "information")
LEVEL = 0.05
FEWEST = 5  # paired samples; with fewer not even a single metric can be significant
Outcome = tuple[str, Verdict, str]  # of one check: its name, what it came to, and why


def gates(
    scores: pd.DataFrame,
    cells: pd.DataFrame,
    metrics: Sequence[MetricCard],
    chance: str,
    known_good: Sequence[str] = (),
    tasks: Sequence[TaskCard] = (),
    panel: Panel | None = None,
) -> tuple[Gate, ...]:
    """Every check's outcome for every row on every task that has scores; `scores` and `cells` are those of Results."""
    panel = committed() if panel is None else panel
    cards = {(card.data, card.model): card for card in tasks}
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
        random = _told_from(wide, methods, metrics, chance, known_good)
        card = cards.get((data, model), TaskCard(data, model))
        limits = {each.name: panel.limit(each.name, card.truth, card.network) for each in metrics}
        for method in methods:
            outcomes = [*_alike(method, averages, became, metrics, limits), *random.get(method, ())]
            found += [Gate(data, model, method, *outcome) for outcome in outcomes]
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
    limits: Mapping[str, Limit | None],
) -> Iterator[Outcome]:
    """The checks that are metrics, from the averages of a row's scores and from what became of its cells."""
    for card in metrics:
        if not card.gate or tuple(card.range) != SIMILARITY or card.judged == "never":
            continue
        mean = averages.get((method, card.name))
        status, reason = became.get((method, card.name)) or became.get((method, "")) or ("skipped", "not requested")
        if mean is not None and status in ("ok", "skipped"):  # skipped: with other seeds
            yield card.name, *_held(card, mean, limits[card.name])
        elif status == "skipped":
            yield card.name, "not applicable", reason
        else:
            yield card.name, "failed", f"could not be judged: {reason or status}"


def _held(card: MetricCard, mean: float, measured: Limit | None) -> tuple[Verdict, str]:
    """A similarity against its limits: the metric's own, or the panel's."""
    value = f"mean similarity {mean:.3f}"
    if card.judged == "panel" and measured is None:
        return "undecided", f"{value}; the panel has no limit for such a task"
    limit = measured.limit if measured and card.judged == "panel" else card.limit
    fails = limit if card.fails is None or card.judged == "panel" else card.fails
    sign = 1 if card.direction == "higher" else -1
    wanted = f"at least {limit:g}" if sign > 0 else f"below {limit:g}"
    errors = ""
    if measured:
        errors = f"; on the panel {measured.false_fail:.0%} fail wrongly and {measured.false_pass:.0%} pass wrongly"
    if sign * mean >= sign * limit and (sign > 0 or mean < limit):
        return "passed", f"{value}, {wanted} is wanted{errors}"
    if sign * mean > sign * fails:
        return "undecided", f"{value}, between {limit:g} and {fails:g}"
    return "failed", f"{value}, {wanted} is wanted{errors}"


def _told_from(
    wide: pd.DataFrame, methods: Sequence[str], metrics: Sequence[MetricCard], chance: str, known_good: Sequence[str]
) -> dict[str, list[Outcome]]:
    """Whether any score of quality separates each row from random maps; empty where no such score was requested.

    Where the score of random maps is known, it is that number, and not one row of maps drawn by chance. Nothing is
    decided where the samples do not separate the first map that is known to be good.
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
    if not quality:
        return {}
    outcomes = {method: _verdict(by_metric) for method, by_metric in found.items()}
    good = next((method for method in known_good if found.get(method)), "")
    if good and outcomes[good][1] != "passed":
        why = f"on these samples not even {good} is separated from random maps"
        return {method: [(name, "undecided", why)] for method, (name, *_) in outcomes.items()}
    return {method: [outcome] for method, outcome in outcomes.items()}


def _verdict(found: Mapping[str, tuple[float, int]]) -> Outcome:
    """Holm's first step over the metrics that have enough samples; undecided where the best p would not do."""
    tests = {name: p for name, (p, count) in found.items() if count >= FEWEST}
    most = max((count for _, count in found.values()), default=0)
    if 0.5**most * max(1, len(tests)) > LEVEL:
        needed = math.ceil(math.log2(max(1, len(tests)) / LEVEL))
        return "not random", "undecided", f"too few samples: {most}, at least {needed} are needed"
    name = min(tests, key=lambda each: tests[each])
    p = min(1.0, tests[name] * len(tests))
    passed = p <= LEVEL
    words = f"{'' if passed else 'no '}metric separates it from random maps ({name}: p = {p:.2g})"
    return "not random", "passed" if passed else "failed", words


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
