"""What figures are drawn with: samples as pictures, and figures as files that are the same to the byte each time."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mibench.run.task import Task


def as_picture(task: Task, x: Tensor) -> Tensor:
    """An input (C, H, W) as a picture (H, W, 3) in [0, 1]."""
    mean, deviation = (torch.tensor(each).reshape(-1, 1, 1) for each in (task.model.mean, task.model.std))
    return (x * deviation + mean).clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0)


def without_ticks(axes: Axes) -> None:
    """Axes that show a picture."""
    axes.set_xticks([])
    axes.set_yticks([])


def save(figure: Figure, stem: Path, text: Literal["path", "none"] = "path") -> list[Path]:
    """As PNG and as SVG, the same to the byte each time; SVG has text as paths, or, with `none`, as text."""
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]  # names may hold dots
    with rc_context({"svg.hashsalt": "mibench", "svg.fonttype": text}):
        figure.savefig(files[0], dpi=150, metadata={"Software": None})
        figure.savefig(files[1], metadata={"Date": None})
    return files
