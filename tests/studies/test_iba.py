"""The study of IBA's settings reads maps cell by cell rightly, and writes a page and a table that say the same."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaderboards.studies.iba.study import Line, at_cells, correlations, describe, mean, verdicts, write_table
from mibench.plugins.contract import Explanation, Truth


def upsample(grid: Tensor) -> Tensor:
    return F.interpolate(grid[:, None], (16, 16), mode="bilinear", align_corners=False)[:, 0]


def planted_task() -> Any:
    """A task of two samples on a grid of 4 by 4 cells; the signal is in the first cell, the redundant in the last."""
    signal, redundant = (torch.zeros(2, 4, 4, dtype=torch.bool) for _ in range(2))
    signal[:, 0, 0], redundant[:, 3, 3] = True, True
    truth = Truth((4, 4), {"signal": signal, "redundant": redundant}, {})
    return SimpleNamespace(probe=SimpleNamespace(upsample=upsample), scoring=SimpleNamespace(truth=truth))


def test_bits_are_read_back_at_the_cells_from_which_they_were_upsampled() -> None:
    grid = torch.rand(2, 4, 4) + 1
    grid[:, 0, 0], grid[0, 3, 3], grid[1, 3, 3] = 9.0, 5.0, 12.0
    map_ = upsample(grid) / 16  # adds up to the grid's bits
    figures = at_cells(planted_task(), Explanation({"map": map_, "calibrated": map_ / 10}))
    assert figures["signal"][0] == pytest.approx(9.0, rel=1e-4)
    assert figures["redundant"][0] == pytest.approx(8.5, rel=1e-4)
    assert figures["calibrated signal"][0] == pytest.approx(0.9, rel=1e-4)
    assert figures["above others"][0] == 1.0
    assert figures["above redundant"][0] == 0.5


def test_a_map_of_another_layer_is_added_up_over_each_cells_pixels() -> None:
    map_ = torch.rand(2, 16, 16)
    figures = at_cells(planted_task(), Explanation({"map": map_, "calibrated": map_}))
    assert figures["signal"][0] == pytest.approx(float(map_[:, :4, :4].sum((1, 2)).mean()), rel=1e-4)


def test_a_mean_comes_with_half_its_interval() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    middle, half = mean(values)
    assert middle == pytest.approx(float(values.mean()), abs=1e-6)
    assert half == pytest.approx(1.96 / 20, rel=0.1)


def test_correlations_are_pearsons_of_each_pair() -> None:
    maps, others = torch.rand(3, 4, 4), torch.rand(3, 4, 4)
    expected = [
        torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(maps, others, strict=True)
    ]
    assert torch.allclose(correlations(maps, others).float(), torch.stack(expected), atol=1e-5)


def test_page_and_table_hold_the_same_figures(tmp_path: Path) -> None:
    figures = {
        name: (value, 0.5) for name, value in (("bits", 22.5), ("steps", 10.0), ("median", 0.99), ("worst", 0.9))
    }
    lines = [Line("planted/planted", "steps", "steps=10", figures)]
    write_table(lines, tmp_path / "iba.csv")
    with (tmp_path / "iba.csv").open() as stream:
        rows = {row["figure"]: row["value"] for row in csv.DictReader(stream)}
    assert rows == {"bits": "22.5", "steps": "10", "median": "0.99", "worst": "0.9"}
    page = describe(lines)
    assert "| `steps=10` | 10 | 0.9900, 0.9000 | 22.5 ± 0.5 |" in page
    assert "python -m mibench study iba" in page


def test_a_bound_is_met_or_missed_where_it_is_asked() -> None:
    figures = {"above others": (0.99, 0.0), "above redundant": (0.9, 0.0), "median": (0.5, 0.0), "worst": (0.5, 0.0)}
    found = list(verdicts([Line("planted/planted", "steps", "steps=10", figures)]))
    assert len(found) == 2
    assert "signal above others at least 0.98: met" in found[0]
    assert "signal above redundant at least 0.92: **missed** (0.9)" in found[1]
    many = list(verdicts([Line("planted/planted", "copies", "copies=10", {**figures, "median": (0.9995, 0.0)})]))
    assert [line.partition("0.999: ")[2] for line in many] == ["met (0.9995)"]
