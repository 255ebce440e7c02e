"""The planted base task, five seeds: what MIRE, its noisy kind and MI-LR claim where log 6 = 1.79 nats are the truth.

Run with `pytest --slow -s`: it prints a row of figures with intervals for each; the noisy mask must meet every claim at
every beta from 1 to 6 in every seed. (The study `mire-beta` has more betas and kinds.)
"""

from __future__ import annotations

import pytest

from leaderboards.studies.mire_beta.study import (
    LEARNED,
    NOISE_CLAIMS,
    READ,
    SEEDS,
    TOTAL_CLAIMS,
    Claim,
    Fit,
    Ground,
    Kind,
    grounds,
    measure,
    results,
    verdicts,
)

MILR = Kind("MI-LR", "milr", (0.1,))
PUBLISHED = Kind("MIRE as published", "mire", (0.5,))
NOISY = Kind("MIRE with noise", "mire-noise", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))


@pytest.fixture(scope="module")
def scored() -> Ground:
    return grounds(LEARNED, READ)[1]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "claims"),
    [(PUBLISHED, TOTAL_CLAIMS), (NOISY, (*TOTAL_CLAIMS, *NOISE_CLAIMS)), (MILR, TOTAL_CLAIMS)],
    ids=["mire", "mire-noise", "milr"],
)
def test_five_seeds_on_the_planted_base_task(kind: Kind, claims: tuple[Claim, ...], scored: Ground) -> None:
    by_beta = {
        beta: [Fit(kind.title, beta, seed, measure(scored, kind, beta, seed)) for seed in range(SEEDS)]
        for beta in kind.betas
    }
    print(f"\n{kind.title} (at signal / redundant / others; mean ± half a 95 % interval)")
    print("\n".join(results(by_beta)))
    print("\n".join(verdicts((*TOTAL_CLAIMS, *NOISE_CLAIMS), by_beta)))
    assert [line for line in verdicts(claims, by_beta) if "missed" in line] == []
