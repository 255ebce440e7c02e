"""The panels of MIRE: PNG and SVG with scale and unit, the same to the byte each time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mibench import figures
from mibench.contract import Samples
from mibench.errors import UsageError
from mibench.figures import mire
from mibench.probe import open_probe


def small_task(channels: int) -> Any:
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 5, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    model = nn.Sequential(*layers).eval().requires_grad_(False)
    shape, classes = (channels, 8, 8), ("a", "b", "c")
    probe = open_probe(model, kind="grid", local="1", representation="3", shape=shape, classes=classes)
    samples = Samples(torch.randn(66, *shape), torch.zeros(66, dtype=torch.int64), tuple(map(str, range(66))))
    return SimpleNamespace(
        name="tiny/small",
        probe=probe,
        model=SimpleNamespace(mean=(0.5,), std=(0.5,)),
        calibration=samples,
        scoring=samples[slice(2)],
        target=samples.label[:2],
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_page_is_written_as_png_and_svg_with_its_scale_and_unit(channels: int, tmp_path: Path) -> None:
    task = small_task(channels)
    maps = mire.explained(task, "mire[epochs=1]")
    maps["Grad-CAM"] = mire.explained(task, "gradcam")["map"]
    png, svg = mire.page(task, "mire", maps, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = svg.read_text(encoding="utf-8")
    for words in ("information (nats)", "Grad-CAM", "total", "decision", "redundant", "over the image"):
        assert f"<!-- {words} -->" in drawn, words
    first = png.read_bytes(), svg.read_bytes()
    again = mire.page(task, "mire", maps, tmp_path)
    assert first == (again[0].read_bytes(), again[1].read_bytes())


def test_pictures_are_in_the_datas_own_colours() -> None:
    task = small_task(3)
    shown = torch.as_tensor(mire.picture(task, 0))
    expected = (task.scoring.x[0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0)
    torch.testing.assert_close(shown, expected)


def test_figures_that_are_not_there_get_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mire"):
        figures.draw("mir", tmp_path)
