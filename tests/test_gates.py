"""A row that does not react, or that is no better than chance, fails its gate with the figures that say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mibench import gates as judged
from mibench.gates import gates
from mibench.leaderboard.results import Gate, MetricCard

ALIKE = MetricCard("alike", "Alike", "randomisation", "lower", (-1.0, 1.0), gate=True, limit=0.99)
AGAIN = MetricCard("again", "Again", "randomisation", "higher", (-1.0, 1.0), gate=True)
QUALITY = MetricCard("quality", "Quality", "localisation", "higher", (0.0, 1.0))


def scores(**values: np.ndarray) -> pd.DataFrame:
    """Scores by METHOD_METRIC."""
    rows = [
        ("d", "m", *name.split("_"), 0, f"s{number}", value)
        for name, each in values.items()
        for number, value in enumerate(each)
    ]
    return pd.DataFrame(rows, columns=["data", "model", "method", "metric", "seed", "sample", "value"])


def outcome(found: tuple[Gate, ...], method: str, gate: str) -> Gate:
    (one,) = [each for each in found if (each.method, each.gate) == (method, gate)]
    return one


@pytest.mark.parametrize(("similarity", "passed"), [(0.98, True), (1.0, False)])
def test_a_map_that_is_the_same_for_another_class_fails(similarity: float, passed: bool) -> None:
    found = outcome(gates(scores(a_alike=np.full(8, similarity)), [ALIKE], "random"), "a", "alike")
    assert found.passed is passed
    assert f"{similarity:.3f}" in found.reason


def test_a_map_that_does_not_repeat_itself_fails() -> None:
    assert not outcome(gates(scores(a_again=np.full(8, 0.2)), [AGAIN], "random"), "a", "again").passed


def test_only_a_row_that_beats_chance_beyond_noise_passes() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.3, 0.7, 32)
    table = scores(
        random_quality=chance,
        better_quality=chance + 0.1,
        worse_quality=chance - 0.1,
        same_quality=rng.permutation(chance),
    )
    found = gates(table, [QUALITY], "random")
    assert outcome(found, "better", "not random").passed
    assert not outcome(found, "worse", "not random").passed
    assert not outcome(found, "same", "not random").passed


def test_a_row_without_scores_is_judged_by_none() -> None:
    assert not gates(scores(a_alike=np.full(8, np.nan)), [ALIKE], "random")


def test_rows_are_told_from_random_maps_as_if_each_were_tested_alone_and_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    asked: list[tuple[int, ...]] = []

    def counted(differences: np.ndarray, **how: Any) -> Any:
        asked.append(differences.shape)
        return stats.wilcoxon(differences, **how)

    monkeypatch.setattr(judged, "wilcoxon", counted)
    lines = rng.normal(0.2, 1, (40, 64)) + np.arange(40)[:, None] / 40
    lines[3:9, :30], lines[9] = np.nan, 0.0
    lines[10:13] = np.round(lines[10:13])
    lines[13, 5:] = np.nan
    p = judged._larger(lines)
    for line, found in zip(lines, p, strict=True):
        alone = line[np.isfinite(line)]
        told = (
            np.nan
            if len(alone) < judged.FEWEST
            else stats.wilcoxon(alone, alternative="greater").pvalue
            if alone.any()
            else 1
        )
        assert found == pytest.approx(told, rel=1e-12, nan_ok=True)
    assert len(asked) == 3, "lines of 64, of 34, and with ties; not one by one"
