"""Sight: a score that follows the truth has it, a false judge has none, and what is tied is not turned round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mibench.statistics.arrays import Array
from mibench.statistics.sight import FEWEST, Ladder, Verdict, beaten, paired, sight

DOSES = ("truth", "0.25", "0.5", "0.75", "random")


def ladder(means: tuple[float, ...] = (0.9, 0.8, 0.6, 0.4, 0.2), half: float = 0.6, samples: int = 48) -> Ladder:
    """Samples differ much, and rows on one sample little."""
    rng = np.random.default_rng(7)
    sample = 0.1 * rng.standard_normal(samples)

    def row(mean: float) -> Array:
        return np.asarray(mean + sample + 0.05 * rng.standard_normal(samples))

    doses = tuple((name, row(mean)) for name, mean in zip(DOSES, means, strict=True))
    return Ladder(doses[0][1], doses, row(half), {"occlusion": row(0.85), "saliency": row(0.5)})


def test_a_score_that_falls_with_the_dose_has_sight() -> None:
    known = ladder()
    found = sight(known, 1, 1.0)
    assert found.sight
    assert found.judged
    assert f"truth {known.truth.mean():.3g}" in found.reason
    assert f"random {known.doses[-1][1].mean():.3g}" in found.reason


def test_neighbouring_doses_may_tie_and_none_may_be_turned_round() -> None:
    tied = ladder()
    same = replace(tied, doses=(tied.doses[0], ("0.25", tied.doses[0][1].copy()), *tied.doses[2:]))
    assert sight(same, 1, 1.0).sight
    turned = sight(ladder((0.8, 0.9, 0.6, 0.4, 0.2)), 1, 1.0)
    assert not turned.sight
    assert "0.25 is above truth" in turned.reason


@pytest.mark.parametrize(
    ("means", "half"),
    [((0.9, 0.6, 0.63, 0.4, 0.41), 0.5), ((0.9, 0.8, 0.6, 0.3, 0.2), 0.1), ((0.5, 0.5, 0.5, 0.5, 0.5), 0.5)],
)
def test_no_response_no_half_or_no_order_at_all_is_no_sight(means: tuple[float, ...], half: float) -> None:
    assert not sight(ladder(means, half), 1, 1.0).sight


def test_a_ceiling_that_milder_doses_reach_is_no_blindness() -> None:
    known = ladder()
    full = np.ones(48)
    doses = (*((name, full) for name in DOSES[:3]), *known.doses[3:])
    assert sight(replace(known, truth=full, doses=doses), 1, 1.0).sight
    flat = (*((name, full) for name in DOSES[:4]), known.doses[4])
    found = sight(replace(known, truth=full, doses=flat), 1, 1.0)
    assert not found.sight
    assert "out of order" in found.reason


def test_whoever_is_surely_above_the_truth_costs_a_score_its_sight() -> None:
    known = ladder()
    rng = np.random.default_rng(1)
    better = replace(known, rivals={**known.rivals, "ig": known.truth + 0.03 + 0.02 * rng.standard_normal(48)})
    found = sight(better, 1, 1.0)
    assert not found.sight
    assert found.above == ("ig",)
    assert "ig (by 0.0" in found.reason
    level = replace(known, rivals={"ig": known.truth + 0.2 * rng.standard_normal(48) - 0.01})
    assert sight(level, 1, 1.0).above == ()


def test_many_rivals_that_equal_the_truth_seldom_beat_it() -> None:
    rng = np.random.default_rng(3)
    wrong = sum(bool(beaten(rng.standard_normal(32), dict(_equals(rng)))) for _ in range(200))
    assert wrong <= 20  # 5 % of 200 are expected where rivals were independent; they share the truth's luck


def _equals(rng: np.random.Generator) -> list[tuple[str, Array]]:
    return [(str(k), rng.standard_normal(32)) for k in range(17)]


def test_differences_are_tested_by_student_on_samples_that_both_have() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal(20), rng.standard_normal(20)
    first[3], second[5] = np.nan, np.nan
    mean, p = paired(first, second)
    expected = stats.ttest_rel(first, second, nan_policy="omit")
    assert mean == pytest.approx(np.nanmean(first - second))
    assert p == pytest.approx(expected.pvalue)
    assert paired(first + 1, first) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))


def test_rounding_is_no_difference() -> None:
    values = np.linspace(0, 1, 20)
    assert paired(values + 5e-7, values, 1.0) == (0.0, 1.0)


def test_without_enough_scores_nothing_is_judged() -> None:
    few = ladder(samples=FEWEST - 1)
    assert sight(few) == Verdict(False, f"not judged: fewer than {FEWEST} samples on which every dose has this score")
    assert not sight(few).judged
    lacking = ladder()
    nothing = np.full(48, np.nan)
    assert not sight(replace(lacking, half=nothing)).judged
    assert sight(replace(lacking, rivals={"milr": nothing}), 1, 1.0).sight, "who has no score beats nobody"
