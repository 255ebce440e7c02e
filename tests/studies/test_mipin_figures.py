"""The pages of MIP-IN: signals with their logits, maps beside other methods', two classes; the same to the byte."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from leaderboards.studies.mipin import figures as mipin
from mibench.network.probe import open_probe
from mibench.plugins.contract import Samples


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(mipin, "METHODS", ("mipin", "saliency"))
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 5, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    model = nn.Sequential(*layers).eval().requires_grad_(False)
    probe = open_probe(model, kind="grid", local="1", representation="3", shape=(1, 8, 8), classes=("a", "b", "c"))
    samples = Samples(torch.randn(66, 1, 8, 8), torch.arange(66) % 3, tuple(map(str, range(66))))
    own = SimpleNamespace(mean=(0.5,), std=(0.5,))
    return SimpleNamespace(probe=probe, model=own, calibration=samples, scoring=samples[slice(2)])


def test_each_page_has_its_rows_and_headings(task: Any) -> None:
    rows = mipin.pages(task, print)
    assert {name: len(each) for name, each in rows.items()} == {"maps": 2, "classes": 4, "signals": 2}
    assert [heading for heading, _, _ in rows["maps"][0]][1:] == ["mipin", "saliency"]
    logit = float(task.probe.logits(task.scoring.x)[0].max())
    assert rows["signals"][0][0][0] == f"image: {logit:.1f}"


def test_a_page_is_the_same_to_the_byte_each_time(task: Any, tmp_path: Path) -> None:
    rows = mipin.pages(task, print)["signals"]
    first = [file.read_bytes() for file in mipin.save(mipin.page(rows), tmp_path / "page")]
    again = [file.read_bytes() for file in mipin.save(mipin.page(rows), tmp_path / "page")]
    assert first == again
    assert first[0].startswith(b"\x89PNG")
    assert b"local A" in first[1]


def test_a_method_that_cannot_treat_the_network_is_left_out_and_named(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mipin, "METHODS", ("saliency", "mipin[depth=input]"))
    task.probe.model[1] = nn.GroupNorm(1, 5)
    said: list[str] = []
    rows = mipin.pages(task, said.append)
    assert [heading for heading, _, _ in rows["maps"][0]][1:] == ["saliency"]
    assert "GroupNorm" in said[0]
