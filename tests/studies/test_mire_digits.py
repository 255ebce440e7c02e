"""The study of MIRE on digits: its distances and its verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from leaderboards.studies.lines import Line, read_table
from leaderboards.studies.mire_digits import study as mire_digits
from leaderboards.studies.mire_digits.study import JOINTS, SEEDS, narrow, reading

HOME = Path(mire_digits.__file__).parent


def made(away: float) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    """Maps that are seed x 1 everywhere, those of the narrower critic `away` higher."""
    names = ("decision", "total", "redundant", "mask")
    return {
        (j, seed): dict.fromkeys(names, torch.full((2, 3, 3), seed + away * (j > 0)))
        for j in JOINTS
        for seed in range(SEEDS)
    }


def test_distances_are_between_fits_of_unequal_seeds() -> None:
    found = {(line.subject, line.figure): line.mean for line in narrow(made(away=0.0))}
    assert found["total", "joint=0 from joint=0"] == pytest.approx(2.0)  # mean |s - t| of 0 to 4, s unlike t
    assert found["total", "ratio"] == pytest.approx(1.0)


def test_a_narrower_critic_far_away_is_no_default() -> None:
    far = [line for line in narrow(made(away=9.0)) if line.subject == "total"]
    assert "joint=64 is farther than that for total (4.50)" in next(reading("narrow", far))
    near = [line for line in narrow(made(away=0.0)) if line.subject == "total"]
    assert "joint=64 keeps to it" in next(reading("narrow", near))


def test_a_mask_that_closes_is_said_to() -> None:
    lines = [Line("readings", title, "decisions kept", share, 0.01, 3) for title, share in (("a", 0.1), ("b", 0.9))]
    assert next(reading("readings", lines)).startswith("Less than half of the decisions pass the mask under: a.")


def test_the_committed_page_is_what_the_committed_table_says() -> None:
    assert (HOME / "README.md").read_text("utf-8") == mire_digits.describe(read_table(HOME / "table.csv"))


def test_the_default_critic_is_as_wide_as_the_committed_table_allows() -> None:
    ratios = [line.mean for line in read_table(HOME / "table.csv") if line.figure == "ratio"]
    allowed = max(ratios) <= mire_digits.FARTHER
    assert mire_digits.registry.method("mire").explainer.parameters.joint == (64 if allowed else 0)
