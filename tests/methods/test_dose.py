"""Doses of noise in the truth: none is the truth itself, all is no truth, and a sample's noise is its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mibench.methods.dose import Dose
from mibench.methods.truth import Truth
from mibench.metrics.information import on_cells
from mibench.plugins.contract import Unsupported
from mibench.record.cells import TaskSpec
from mibench.run.explaining import task_of
from mibench.run.scoring import scene_of
from mibench.run.task import Task

SPEC = TaskSpec("planted[variant=graded]", "planted[variant=graded]", samples=6, calibration=64)


@pytest.fixture(scope="module")
def task() -> Task:
    return task_of(SPEC, "cpu", "fp32")


def cells(task: Task, dose: Dose, part: slice = slice(None)) -> Tensor:
    """What a dose shows of some samples, on cells."""
    samples = replace(task.scoring, truth=task.truth)[part]
    shown = dose.show(task.probe, samples, task.target[part]).maps["decision"]
    return on_cells(scene_of(SPEC, "cpu", "fp32", 0, 0), shown.double())


def test_no_noise_is_the_additive_truth_over_its_largest_magnitude(task: Task) -> None:
    samples = replace(task.scoring, truth=task.truth)
    truth = Truth().show(task.probe, samples, task.target).maps["additive"]
    whole = on_cells(scene_of(SPEC, "cpu", "fp32", 0, 0), truth.double())
    expected = whole / whole.abs().amax(1, keepdim=True)
    torch.testing.assert_close(cells(task, Dose(noise=0)), expected, atol=1e-5, rtol=0)


def test_doses_mix_one_and_the_same_noise(task: Task) -> None:
    none, half, whole = (cells(task, Dose(noise=noise)) for noise in (0, 0.5, 1))
    torch.testing.assert_close(half, (none + whole) / 2, atol=1e-5, rtol=0)
    assert float(whole.min()) + 1e-5 >= 0
    assert float(whole.max()) <= 1 + 1e-5
    other = torch.corrcoef(torch.stack([none.flatten(), whole.flatten()]))[0, 1]
    assert abs(float(other)) < 0.3


def test_a_swapped_dose_loses_a_share_of_the_cells(task: Task) -> None:
    none, half, whole = (cells(task, Dose(noise=noise, kind="swapped")) for noise in (0, 0.5, 1))
    lost, kept = (half - whole).abs() < 1e-4, (half - none).abs() < 1e-4
    assert (lost | kept).all()
    assert lost.sum(1).tolist() == [8] * 6
    torch.testing.assert_close(none, cells(task, Dose(noise=0)), atol=1e-5, rtol=0)


def test_a_samples_dose_does_not_depend_on_the_others(task: Task) -> None:
    torch.testing.assert_close(cells(task, Dose())[2:4], cells(task, Dose(), slice(2, 4)), atol=1e-5, rtol=0)


def test_where_no_truth_is_known_there_is_no_dose(task: Task) -> None:
    with pytest.raises(Unsupported, match="do not state"):
        Dose().show(task.probe, replace(task.scoring, truth=None), task.target)
