"""Priors are found again from rows that follow their law, and rows that follow none have a light one."""

from __future__ import annotations

import numpy as np
import pytest

from mibench.statistics.priors import fitted

FAMILIES = {f"m{k}": f"f{k % 4}" for k in range(12)}


def drawn(freedom: float, degrees: int, rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    levels = np.exp(rng.normal(0, 0.5, len(FAMILIES)))
    return {
        name: level * rng.chisquare(degrees, rows) / degrees / (rng.chisquare(freedom, rows) / freedom)
        for name, level in zip(FAMILIES, levels, strict=True)
    }


@pytest.mark.parametrize("freedom", [1.0, 4.0, 12.0])
def test_the_weight_that_made_the_rows_is_found_again(freedom: float) -> None:
    found = [next(iter(fitted(drawn(freedom, 2, 60, seed), FAMILIES, 2).values()))[1] for seed in range(12)]
    assert 0.5 * freedom < np.median(found) < 1.25 * freedom, "never much heavier than the truth: it is widened"


def test_levels_are_those_of_the_metrics_drawn_to_their_mean() -> None:
    figures = drawn(8.0, 4, 40, 1)
    found = fitted(figures, FAMILIES, 4)
    levels = np.array([found[name][0] for name in FAMILIES])
    medians = np.array([np.median(figures[name]) for name in FAMILIES])
    assert np.corrcoef(np.log(levels), np.log(medians))[0, 1] > 0.9


def test_few_rows_have_no_prior_and_no_rows_have_none() -> None:
    assert fitted({"m0": np.ones(3)}, FAMILIES, 2) == {}
    assert fitted({}, {}, 2) == {}
