"""Occlusion covers every window once and shares each fall among the pixels it covered."""

from __future__ import annotations

import torch
from torch import Tensor

from mibench.methods.occlusion import Occlusion
from tests.methods.small_networks import calibration, convolutional, explained, some, table


def logit(probe: object, x: Tensor, target: int) -> float:
    return float(probe.model(x[None])[0, target])  # type: ignore[attr-defined]


def test_the_map_is_the_mean_fall_over_the_windows_that_cover_a_pixel() -> None:
    probe, expected = convolutional(), []
    mean = calibration(probe).x.mean((0, 2, 3))[:, None, None]
    for x, target, _ in zip(*some(probe), strict=True):
        total, count = torch.zeros(8, 8), torch.zeros(8, 8)
        for top in range(0, 6, 2):  # windows of 3 by 3 at 0, 2, 4, and at 6 what is left of one
            for left in range(0, 6, 2):
                rows, columns = slice(top, top + 3), slice(left, left + 3)
                covered = x.clone()
                covered[:, rows, columns] = mean
                total[rows, columns] += logit(probe, x, int(target)) - logit(probe, covered, int(target))
                count[rows, columns] += 1
        expected.append((total, count))
    ours = explained(Occlusion(Occlusion.Parameters(window=3, stride=2)), probe).maps["map"]
    for (total, count), map_ in zip(expected, ours, strict=True):
        inner = slice(0, 6)  # no cut window reaches here
        assert torch.allclose(map_[inner, inner], (total / count)[inner, inner], atol=1e-5)
    assert (ours != 0).all()


def test_each_column_of_a_table_is_covered_alone() -> None:
    probe = table()
    mean = calibration(probe).x.mean(0)
    expected = torch.zeros(4, 1, 5)
    for n, (x, target, _) in enumerate(zip(*some(probe), strict=True)):
        for column in range(5):
            covered = x.clone()
            covered[column] = mean[column]
            expected[n, 0, column] = logit(probe, x, int(target)) - logit(probe, covered, int(target))
    assert torch.allclose(explained(Occlusion(), probe).maps["map"], expected, atol=1e-5)


def test_a_window_larger_than_the_image_covers_it_all() -> None:
    probe = convolutional()
    ours = explained(Occlusion(Occlusion.Parameters(window=99)), probe).maps["map"]
    assert torch.allclose(ours, ours[:, :1, :1].expand_as(ours))
