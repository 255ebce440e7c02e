"""The study of truth: its page is the table's, and its verdicts are decided by intervals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from leaderboards.studies.lines import TABLE, Line, read_table
from leaderboards.studies.truth import page, study
from mibench.plugins import registry

HOME = Path(study.__file__).parent


def differences(**means: float) -> dict[str, Line]:
    """Paired differences of profiles, each with half an interval of .1."""
    named = {name.replace("_", " less "): mean for name, mean in means.items()}
    return {name: Line("closeness", "row", name, mean, 0.1, 32) for name, mean in named.items()}


def test_the_committed_page_is_what_the_committed_table_says() -> None:
    assert (HOME / "README.md").read_text("utf-8") == page.describe(read_table(HOME / TABLE), HOME)


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ({"marginal_conditional": 0.3, "marginal_additive": 0.2, "conditional_additive": 0.0}, "marginal"),
        ({"marginal_conditional": 0.3, "marginal_additive": 0.0, "conditional_additive": -0.3}, "additive or marginal"),
        ({"marginal_conditional": 0.0, "marginal_additive": 0.05, "conditional_additive": 0.0}, "none of them"),
    ],
)
def test_a_map_is_closest_to_the_truths_that_none_surely_beats(means: dict[str, float], verdict: str) -> None:
    assert page.closest(differences(**means)).startswith(verdict)


def test_every_task_of_the_study_can_be_opened_by_its_name() -> None:
    for spec in (*study.FAMILY, *study.NETWORKS, *map(study.rung, study.RUNGS)):
        assert registry.label(registry.model(spec)) == spec
    assert len({*study.FAMILY, *study.NETWORKS}) == len(study.FAMILY) + len(study.NETWORKS)


def test_the_readout_of_a_curve_states_its_side_and_its_interval() -> None:
    knows, random = [0.5, 0.9, 1.2, 1.5, 1.7], np.random.default_rng(0)
    curves = {"falls": [0.52, 0.6, 0.85, 0.97, 1.0], "never": [0.9, 0.95, 1.0, 1.0, 1.0], "always": [0.5] * 5}
    found = {}
    for row, means in curves.items():
        samples = torch.tensor(means)[:, None] + 0.02 * torch.from_numpy(random.standard_normal((5, 32)))
        nats, side = study.readout(row, knows, samples)
        found[row] = (side.mean, nats.mean, nats.half)
    assert found["falls"][0] == 0
    assert found["falls"][1] == pytest.approx(1.07, abs=0.06)
    assert 0 < found["falls"][2] < 0.1
    assert found["never"][:2] == (-1, 0.5)
    assert found["always"][:2] == (1, 1.7)


def test_orders_are_compared_over_the_same_rows() -> None:
    means = {"0.02": (0.1, 0.2, 0.3), "0.05": (0.1, 0.2, 0.3), "0.1": (0.3, 0.2, 0.1)}
    lines = [
        Line("resolution", row, f"{size} nats", mean, math.nan, 8)
        for size, every in means.items()
        for row, mean in zip("abc", every, strict=True)
    ]
    assert study.orders(lines) == pytest.approx({"0.02 nats": 1.0, "0.05 nats": 1.0, "0.1 nats": -1.0})
