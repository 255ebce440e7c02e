"""How much faster the kernel for all pairs is than scikit-learn, one thread each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.feature_selection import mutual_info_regression

from mibench.information.pairwise import KSG, every_pair
from tests.benchmarks.clock import seconds

SAMPLES = 1000


@pytest.mark.slow
def test_a_thousand_pairs_of_neurons_cost_a_sixth_of_scikit_learn(benchmark: BenchmarkFixture) -> None:
    benchmark.group, benchmark.name = "peer", "KSG, 1000 pairs of 1000 samples"
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(SAMPLES, 40, generator=generator, dtype=torch.float64)
    second = (first @ torch.randn(40, 25, generator=generator, dtype=torch.float64)).relu()
    second = second / second.std(0, correction=0) + 1e-6 * torch.rand(second.shape, generator=generator)
    pairs, estimator = every_pair(40, 25), KSG(3, "ksg")
    estimator.information(first, second, pairs[:2])  # compiled, or read from the cache
    benchmark.pedantic(estimator.information, (first, second, pairs), rounds=5)
    some = np.arange(2)  # columns of `second`: 80 pairs

    def theirs() -> None:
        for j in some:
            mutual_info_regression(first.numpy(), second[:, j].numpy(), random_state=0)

    times = seconds(theirs, 3) * len(pairs) / (40 * len(some)) / benchmark.stats.stats.min
    benchmark.extra_info.update(peer="scikit-learn", times=times)
    assert times > 6
