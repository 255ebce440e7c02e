"""A ladder's threshold is found where it is known, and is censored where the score never comes to its level."""

from __future__ import annotations

import numpy as np
import pytest

from mibench.statistics.ladder import CHANCE, LEVEL, Curve, fit, interval, threshold

RUNGS = [0.4, 0.8, 1.2, 1.5, 1.75]


@pytest.mark.parametrize("lapse", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("midpoint", [0.7, 1.0, 1.4])
def test_the_curve_that_made_the_scores_is_found_again(midpoint: float, lapse: float) -> None:
    made = Curve(midpoint, 0.15, lapse)
    found = fit(RUNGS, made(np.array(RUNGS)))
    assert found.reaches() == pytest.approx(made.reaches(), abs=0.02)
    assert found(np.array(RUNGS)) == pytest.approx(made(np.array(RUNGS)), abs=0.01)
    assert float(made(np.array([made.reaches()]))[0]) == pytest.approx(LEVEL)


def test_noisy_scores_move_the_threshold_little_and_the_interval_holds_it() -> None:
    made, held = Curve(1.0, 0.2, 0.05), 0
    for seed in range(2):
        random = np.random.default_rng(seed)
        samples = made(np.array(RUNGS))[:, None] + 0.2 * random.standard_normal((len(RUNGS), 64))
        assert threshold(RUNGS, samples.mean(1)).x == pytest.approx(made.reaches(), abs=0.15)
        low, high = interval(RUNGS, samples, seed)
        held += low <= made.reaches() <= high
        assert 0.02 < high - low < 0.5
    assert held >= 1


def test_a_score_that_never_falls_is_censored_below_the_last_rung() -> None:
    found = threshold(RUNGS, [0.97, 1.0, 0.99, 1.0, 1.0])
    assert (found.censored, found.x, str(found)) == ("below", 0.4, "< 0.40")


@pytest.mark.parametrize("scores", [[CHANCE] * 5, [0.4, 0.6, 0.5, 0.45, 0.55], [0.1, 0.2, 0.1, 0.3, 0.2]])
def test_a_score_that_never_reaches_the_level_is_censored_above_the_first(scores: list[float]) -> None:
    found = threshold(RUNGS, scores)
    assert (found.censored, found.x, str(found)) == ("above", 1.75, "> 1.75")


def test_one_lapse_at_the_clearest_rung_moves_the_threshold_little() -> None:
    made = Curve(0.9, 0.1, 0.0)
    scores = made(np.array(RUNGS))
    lapsed = scores - np.array([0, 0, 0, 0, 0.08])
    assert threshold(RUNGS, lapsed).x == pytest.approx(threshold(RUNGS, scores).x, abs=0.1)


@pytest.mark.parametrize(
    ("rungs", "scores"), [([1.0, 2.0], [0.5, 1.0]), (RUNGS, [0.5, float("nan"), 0.7, 0.8, 0.9]), ([1.0] * 3, [0.5] * 3)]
)
def test_a_curve_without_enough_rungs_is_refused(rungs: list[float], scores: list[float]) -> None:
    with pytest.raises(ValueError, match="needs"):
        fit(rungs, scores)
