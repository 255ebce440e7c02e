"""A bootstrap of scores whose random numbers depend on a name alone."""

from __future__ import annotations

import numpy as np

from mibench.statistics.bootstrap import DRAWS, Bootstrap, bootstrap, generator, resamples


def boot_of(scores: np.ndarray, name: str = "test", draws: int = DRAWS) -> Bootstrap:
    weights = resamples(scores.shape[2], generator(name, "samples"), draws)
    return bootstrap(scores, weights, generator(name, "seeds"))
