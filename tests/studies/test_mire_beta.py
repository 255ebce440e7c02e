"""The study of beta: what it measures of a fit, and that its page says where the figures fail."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from leaderboards.studies.mire_beta import study as mire_beta
from leaderboards.studies.mire_beta.study import (
    CANDIDATES,
    CELLS,
    KINDS,
    QUANTITIES,
    Fit,
    Ground,
    choose,
    describe,
    kept,
    measure,
    on_grid,
    plan,
    read_table,
    write_table,
)
from mibench.network.probe import open_probe
from mibench.plugins.contract import Samples, Truth

TRUTH = {"total": (1.79, 1.79, 0.0), "decision": (1.79, 0.0, 0.0), "redundant": (0.0, 1.79, 0.0), "mask": (1.0, 0, 0)}


def perfect(kind: str, beta: float, seed: int, split: str = "scoring") -> Fit:
    figures = {f"{name} at {cell}": value for name, at in TRUTH.items() for cell, value in zip(CELLS, at, strict=True)}
    figures |= {"total: signal above redundant": 0.5, "decision: signal above redundant": 1.0}
    return Fit(kind, beta, seed, figures | {"redundant: signal above redundant": 0.0, "decisions kept": 1.0}, split)


def every() -> list[Fit]:
    return [perfect(kind.title, beta, seed, split) for kind, beta, seed, split in plan()]


def small_ground() -> Ground:
    """A network on a 2 x 2 grid and samples that say where their signal is."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    probe = open_probe(
        model.eval().requires_grad_(False),
        kind="grid",
        local="1",
        representation="3",
        shape=(3, 4, 4),
        classes=("a", "b", "c"),
    )
    x = torch.randn(96, 3, 4, 4)
    signal, redundant = (torch.zeros(96, 2, 2, dtype=torch.bool) for _ in range(2))
    signal[:, 0, 0] = redundant[:, 1, 1] = True
    truth = Truth((2, 2), {"signal": signal, "redundant": redundant}, {"total": signal.float()})
    samples = Samples(x, torch.zeros(96, dtype=torch.int64), tuple(map(str, range(96))), None, truth)
    return Ground(probe, samples, samples[slice(20)])


def test_a_fit_is_measured_on_the_cells_of_the_truth() -> None:
    ground = small_ground()
    figures = measure(ground, KINDS[1], 2.0, 0)
    assert set(figures) == set(perfect("", 0, 0).figures)
    for cell in CELLS:
        total, decision, redundant = (figures[f"{name} at {cell}"] for name in QUANTITIES)
        assert redundant == pytest.approx(total - decision, abs=1e-5)
    assert all(0 <= figures[name] <= 1 for name in figures if "above" in name or "kept" in name)
    assert measure(ground, KINDS[1], 2.0, 0) == figures


def test_a_study_that_was_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIBENCH_CACHE", str(tmp_path))
    fits = 0

    def counted(*_: object) -> dict[str, float]:
        nonlocal fits
        fits += 1
        return {"figure": float(fits)}

    monkeypatch.setattr(mire_beta, "measure", counted)
    before = replace(small_ground(), key="as it was")
    assert [kept(before, KINDS[0], 2.0, seed)["figure"] for seed in (0, 1, 0)] == [1.0, 2.0, 1.0]
    assert kept(replace(before, key="the network was changed"), KINDS[0], 2.0, 0)["figure"] == 3.0


def test_the_choice_is_made_on_images_that_are_never_scored() -> None:
    unseen, scored = mire_beta.grounds(6, 4)
    read, learned = set(unseen.scoring.ids), set(unseen.calibration.ids)
    assert len(read) == 4
    assert not read & learned
    assert all(name.startswith("calibration") for name in read | learned)
    assert scored.calibration.ids == unseen.calibration.ids
    assert all(name.startswith("scoring") for name in scored.scoring.ids)
    assert {split for kind, _, _, split in plan() if kind in CANDIDATES.values()} == {"calibration"}


def test_the_choice_keeps_most_decisions_and_avoids_the_ends() -> None:
    fits = [perfect(kind.title, beta, 0, "calibration") for kind in CANDIDATES.values() for beta in kind.betas]

    def spoilt(fit: Fit, fails: float) -> Fit:
        figures = dict(fit.figures)
        if fit.kind != "noise 0.5":
            figures["decisions kept"] = 0.9 if fit.beta == 6 else 1.0
        if fit.beta == fails:
            figures["decision at redundant"] = 0.4
        return replace(fit, figures=figures)

    assert choose(spoilt(fit, fails=0) for fit in fits) == (0.5, 2.0)  # of 1, 2, 4 and 6
    assert choose(spoilt(fit, fails=1) for fit in fits) == (0.5, 4.0)  # of 2, 4 and 6


def test_the_grid_comes_back_from_the_pixels() -> None:
    grid = torch.randn(6, 2, 2, dtype=torch.float64)
    task = small_ground()
    torch.testing.assert_close(
        on_grid(task.probe, task.probe.upsample(grid.float()), (2, 2)), grid, atol=1e-5, rtol=1e-5
    )


def test_the_page_says_met_where_the_truth_was_found() -> None:
    page = describe(every(), 9, 9)
    assert "missed" not in page
    assert page.count(": met by every seed") == 4 * len(mire_beta.NOISE_CLAIMS) + 2 * len(mire_beta.TOTAL_CLAIMS)
    assert "1.79 ± 0.00 / 0.00 ± 0.00 / 0.00 ± 0.00" in page
    assert mire_beta.COMMAND in page
    assert "the command does them all" not in page


def test_a_part_of_the_study_says_that_it_is_one() -> None:
    part = [fit for fit in every() if fit.seed < 3]
    said = f"This page shows {len(part)} of the study's {len(every())} fits"
    assert said in describe(part, 9, 9)


def test_the_page_says_missed_with_the_beta_and_the_figure() -> None:
    fits = every()
    wrong = dict(perfect("", 0, 0).figures) | {"decision at redundant": 0.4}
    fits = [replace(f, figures=wrong) if f.kind == KINDS[1].title and f.beta == 3.0 else f for f in fits]
    page = describe(fits, 9, 9)
    assert "decision at redundant at least -0.1 and at most 0.1: **missed** at beta 3 in 5 of 5 seeds (0.4," in page
    outside = [replace(f, figures=wrong) if f.beta == 50.0 and f.kind == KINDS[1].title else f for f in every()]
    assert "missed" not in describe(outside, 9, 9)  # the noisy mask is held to betas from 1 to 6


def test_intervals_are_students_over_seeds() -> None:
    fits = [Fit("", 1.0, seed, {"figure": value}) for seed, value in enumerate((1.0, 2.0, 3.0))]
    summary = mire_beta.summarise(fits, "figure")
    assert summary.mean == 2.0
    assert summary.half == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert str(mire_beta.summarise(fits[:1], "figure")) == "1.00"


def test_the_table_holds_every_figure_of_every_fit(tmp_path: Path) -> None:
    fits = every()
    write_table(fits, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(fits) * len(fits[0].figures)
    assert {row["mask"] for row in rows} == {kind.title for kind in (*KINDS, *CANDIDATES.values())}
    assert read_table(tmp_path / "table.csv") == fits


def test_the_committed_page_is_what_the_committed_table_says() -> None:
    folder = Path(mire_beta.__file__).parent
    fits = read_table(folder / "table.csv")
    assert (folder / "README.md").read_text("utf-8") == describe(fits, mire_beta.LEARNED, mire_beta.READ)


def test_a_sum_with_beta_is_a_mean_with_as_many_times_beta() -> None:
    ground = small_ground()
    summed, averaged = (mire_beta.Kind("", f"mire[mask_cost={how}]", ()) for how in ("sum", "mean"))
    first, second = measure(ground, summed, 0.5, 0), measure(ground, averaged, 2.0, 0)
    for name, value in first.items():
        assert second[name] == pytest.approx(value, abs=1e-3), name
