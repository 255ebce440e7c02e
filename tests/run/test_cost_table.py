"""The table of costs: a row for every explainer and network, with a share of a measured peak, or with a reason."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from mibench.network import devices
from mibench.run import cost_table

METHODS = ["saliency", "occlusion", "gradcam", "nif[reference=16]"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cost_table.SIDES, "cpu", 256)


def test_every_explainer_has_a_row_with_figures_or_a_reason(small: None, tmp_path: Path) -> None:
    rows = list(cost_table.costs(["mlp"], METHODS, "cpu", "fp32", 4, 16))
    assert [row.explainer for row in rows] == METHODS
    refused = {row.explainer: row.reason for row in rows if row.reason}
    assert list(refused) == ["gradcam"], refused
    for row in rows:
        assert bool(row.reason) == math.isnan(row.seconds)
        assert row.reason or (0 < row.share_of_peak < 1 and row.seconds > 0 and row.forwards > 0)
    table = pd.read_csv(cost_table.write(rows, "cpu", tmp_path))
    assert list(table["explainer"]) == METHODS
    assert table["seconds"].notna().sum() == 3


def test_the_operations_of_a_sample_do_not_depend_on_the_batch(small: None) -> None:
    one, many = (next(cost_table.costs(["mlp"], ["saliency"], "cpu", "fp32", count, 4)) for count in (1, 8))
    assert one.flops == many.flops > 0


def test_a_share_is_what_was_computed_over_what_could_have_been(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_table, "matrix_peak", lambda *_: 1e6)
    monkeypatch.setattr(devices, "seconds", lambda work, _device: work() or 0.5)  # type: ignore[func-returns-value]
    (row,) = cost_table.costs(["mlp"], ["saliency"], "cpu", "fp32", 1, 4)
    assert row.share_of_peak == row.flops / 0.5 / 1e6


def test_the_peak_is_that_of_a_product_of_matrices(small: None) -> None:
    assert 1e6 < cost_table.matrix_peak(torch.device("cpu"), None) < 1e14
