"""CNN-C learns a folder of CIFAR-10's layout, ten classes of 32 x 32 pictures, and MIP-IN inverts it to the input."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mibench.models.training import Recipe
from mibench.plugins import registry
from mibench.plugins.contract import FittedExplainer
from mibench.record.cells import TaskSpec
from mibench.run.task import Task, make_task
from mibench.suites import suite

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every class is a disc of its own hue in noise."""
    root, generator = tmp_path_factory.mktemp("cifar"), np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    for label, name in enumerate(CIFAR):
        (root / name).mkdir()
        for index in range(40):
            picture = generator.integers(90, 150, (32, 32, 3))
            row, column = generator.integers(10, 22, 2)
            disc = (rows - row) ** 2 + (columns - column) ** 2 < 64
            picture[disc] = 255 * np.array(colorsys.hsv_to_rgb(label / 10, 1, 1))
            Image.fromarray(picture.astype(np.uint8)).save(root / name / f"{index:04d}.png")
    return root


@pytest.fixture
def task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """The suite's own task, on the user's folder, with a shorter lesson."""
    monkeypatch.setattr("mibench.models.appendix.AppendixNetwork.recipe", Recipe(epochs=12, rate=2e-3))
    declared = suite.narrow(suite.load("mipin-table1"), models=[f"cnn-c[data=folder:{folder}]"])
    [only] = declared.tasks
    return make_task(TaskSpec(only.model, only.data, samples=80, calibration=160))


def test_the_source_signal_of_cnn_c_keeps_the_class(task: Task) -> None:
    explainer = registry.method("mipin").explainer
    assert isinstance(explainer, FittedExplainer)
    x, target = task.scoring.x, task.scoring.label
    assert task.data.classes == CIFAR
    assert task.accuracy > 0.9
    explainer.restore(task.probe, explainer.learn(task.probe, task.calibration, 0))
    source = explainer.explain(task.probe, x, target, range(len(x))).signals["source"]
    assert source.shape == x.shape
    there, left, mean = (
        task.probe.logits(each).gather(1, target[:, None])[:, 0]
        for each in (x, source, task.calibration.x.mean(0).expand_as(x))
    )
    change = ((there - left) / there).abs().median()
    assert change < 0.5 * ((there - mean) / there).abs().median()
    assert (task.probe.logits(source).argmax(1) == target).float().mean() > 0.9
    assert torch.isfinite(source).all()
