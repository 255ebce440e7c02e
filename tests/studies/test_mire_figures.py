"""The panels of MIRE: PNG and SVG with scale and unit, the same to the byte each time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from leaderboards.studies.drawing import as_picture
from leaderboards.studies.mire import figures as mire
from mibench.models.training import frozen
from mibench.network.probe import open_probe
from mibench.plugins.contract import Samples
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task


def small_task(channels: int) -> Any:
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 5, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    model = nn.Sequential(*layers).eval().requires_grad_(False)
    shape, classes = (channels, 8, 8), ("a", "b", "c")
    probe = open_probe(model, kind="grid", local="1", representation="3", shape=shape, classes=classes)
    samples = Samples(torch.randn(66, *shape), torch.zeros(66, dtype=torch.int64), tuple(map(str, range(66))))
    return SimpleNamespace(
        name="tiny/small",
        data=None,
        probe=probe,
        model=SimpleNamespace(mean=(0.5,), std=(0.5,)),
        calibration=samples,
        scoring=samples[slice(2)],
        target=samples.label[:2],
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_page_is_written_as_png_and_svg_with_its_scale_and_unit(channels: int, tmp_path: Path) -> None:
    task = small_task(channels)
    shown = mire.chosen(task)
    maps = mire.explained(task, "mire[epochs=1]", shown)
    maps["Grad-CAM"] = mire.explained(task, "gradcam", shown)["map"]
    png, svg = mire.page(task, "mire", shown, maps, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = svg.read_text(encoding="utf-8")
    for words in ("information (nats)", "Grad-CAM", "total", "decision", "redundant", "over the image"):
        assert f"<!-- {words} -->" in drawn, words
    first = png.read_bytes(), svg.read_bytes()
    again = mire.page(task, "mire", shown, maps, tmp_path)
    assert first == (again[0].read_bytes(), again[1].read_bytes())


def test_an_episode_shows_its_support_and_a_query_of_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mibench.models.prototype.trained", lambda lesson, build, teach: frozen(build()))
    task = make_task(TaskSpec("prototype[ways=3,shots=2]:digits", "", 2, 8))
    shown = mire.chosen(task)
    names = task.data.classes
    assert shown.captions == tuple(f"{side}: {name}" for side in ("support", "query") for name in names)
    support = task.data.support(task.model.shape)
    torch.testing.assert_close(shown.x[:3], task.normalise(support.x[::2]))  # the first of two shots
    queries = task.data.load("scoring", None, task.model.shape)
    for way, x in enumerate(shown.x[3:]):
        same = (task.normalise(queries.x) == x).flatten(1).all(1).nonzero()[0, 0]
        assert int(queries.label[same]) == way


def test_pictures_are_in_the_datas_own_colours() -> None:
    task = small_task(3)
    shown = as_picture(task, task.scoring.x[0])
    expected = (task.scoring.x[0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0)
    torch.testing.assert_close(shown, expected)
