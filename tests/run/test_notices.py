"""A set-up that is most likely not meant has its notice, and a sound one has none."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from mibench.errors import ModelError
from mibench.record.cells import TaskSpec
from mibench.run.notices import fewer, near_chance, notices, other_order, probabilities
from mibench.run.task import Task, make_task

CLASSES = tuple("abcdefghij")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "models"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten classes of three pictures of 20 x 20."""
    for label in range(10):
        (tmp_path / f"class{label}").mkdir()
        for index in range(3):
            Image.effect_noise((20, 20), 30 + label + index).save(tmp_path / f"class{label}" / f"{index}.png")
    return tmp_path


def task(pictures: Path, factory: str = "build", **changes: str) -> Task:
    settings = {"local": "features", "representation": "avgpool", "shape": "3x16x16"} | changes
    model = f"user[{','.join(f'{key}={value}' for key, value in settings.items())}]:made_networks:{factory}"
    return make_task(TaskSpec(model, f"folder:{pictures}", 10, 10))


def answers(label: Tensor, accuracy: float, seed: int = 0) -> Tensor:
    """What a network of this accuracy answers, whose mistakes are any other class."""
    generator = torch.Generator().manual_seed(seed)
    other = (label + torch.randint(1, 10, label.shape, generator=generator)) % 10
    return torch.where(torch.rand(len(label), generator=generator) < accuracy, label, other)


@pytest.mark.parametrize(("right", "count"), [(5, 10), (8, 10), (9, 10), (59, 100), (60, 100), (40, 100)])
def test_chance_is_told_by_the_exact_binomial_tail(right: int, count: int) -> None:
    label = torch.arange(count) % 2
    prediction = torch.where(torch.arange(count) < right, label, 1 - label)
    tail = sum(math.comb(count, k) for k in range(right, count + 1)) / 2**count
    assert bool(near_chance(label, prediction, 2)) == (tail > 0.05)


def test_always_answering_the_commonest_class_is_chance() -> None:
    label = (torch.arange(100) >= 90).long()
    notice = near_chance(label, torch.zeros(100, dtype=torch.int64), 2)
    assert "right on 90 of 100 held-out samples, which is not significantly above chance (90.0%" in notice
    assert not near_chance(label, label, 2)


def test_pictures_of_one_class_alone_are_no_reason_for_a_notice() -> None:
    label = torch.full((6,), 3)
    assert not near_chance(label, label, 10)


def test_classes_in_another_order_are_named() -> None:
    """Five classes of ten are renamed among themselves: 50 % are right, significantly above chance."""
    label = torch.arange(200) % 10
    prediction = torch.tensor([1, 2, 3, 4, 0, 5, 6, 7, 8, 9])[label]
    assert not near_chance(label, prediction, 10)
    notice = other_order(label, prediction, CLASSES)
    pairs = re.findall("'(.)' where the data have '(.)'", notice)
    assert len(pairs) == 3
    assert {*pairs} < {("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("a", "e")}
    assert "and 2 more; renamed, 100.0% of the held-out samples would be right and not" in notice


@pytest.mark.parametrize("classes", [2, 10])
def test_a_network_that_is_merely_bad_is_not_told_of_another_order(classes: int) -> None:
    """Its best renaming always looks better on the samples on which it was found."""
    alarms = 0
    for seed in range(200):
        label = torch.randint(0, classes, (60,), generator=torch.Generator().manual_seed(1000 + seed))
        prediction = (
            answers(label, 0.55, seed)
            if classes == 10
            else torch.randint(0, 2, (60,), generator=torch.Generator().manual_seed(seed))
        )
        alarms += bool(other_order(label, prediction, CLASSES[:classes]))
    assert alarms <= 6  # of 200; 2 are expected at the most


def test_outputs_of_a_softmax_are_told_from_logits() -> None:
    logits = torch.randn((8, 5), generator=torch.Generator().manual_seed(0))
    assert "add up to one" in probabilities(logits.softmax(1))
    assert "add up to one" in probabilities(logits.softmax(1).bfloat16().float())
    for other in (logits, logits.relu(), logits.log_softmax(1), logits.sigmoid(), torch.ones((3, 1))):
        assert not probabilities(other)


def test_a_split_that_is_smaller_than_the_suite_wants_is_told() -> None:
    assert fewer("calibration", 160, 512) == "the data have 160 calibration samples, not the 512 of the suite"
    assert not fewer("scoring", 64, 64)


def test_a_task_is_told_all_of_it(pictures: Path) -> None:
    """An untrained network on 30 pictures, which are smaller than its input."""
    found = notices(task(pictures, "softmaxed", shape="3x32x32"))
    for words in (
        "not significantly above chance",
        "add up to one, as after a softmax",
        "scoring: 6 of 6 pictures",
        "calibration: ",
        "smaller than the model's input of 32x32 and were enlarged",
    ):
        assert sum(words in each for each in found) >= 1, (words, found)
    assert not any("layer" in each for each in found)
    more = make_task(TaskSpec(task(pictures).spec.model, f"folder:{pictures}", 12, 600))
    counts = [each for each in notices(more) if "of the suite" in each]
    assert counts == [fewer("scoring", len(more.scoring), 12), fewer("calibration", len(more.calibration), 600)]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"local": "avgpool"}, "the local layer 'avgpool' and the representation 'avgpool' are the same values"),
        ({"representation": "fc"}, "the representation 'fc' is at the network's logits"),
    ],
)
def test_places_that_are_one_are_told(places: dict[str, str], words: str, pictures: Path) -> None:
    (found,) = [each for each in notices(task(pictures, **places)) if "layer" in each]
    assert words in found


def test_sound_tasks_have_no_notice() -> None:
    for spec in (TaskSpec("planted", "", 16, 32), TaskSpec("mlp", "", 30, 60), TaskSpec("linear-gaussian", "", 16, 32)):
        assert notices(make_task(spec)) == ()


@pytest.mark.parametrize("shape", ["3x3x3", "3x7x32", "1x32x7"])
def test_an_input_that_is_too_small_for_an_image_is_refused(shape: str, pictures: Path) -> None:
    with pytest.raises(ModelError, match=f"an input of {shape} .* at least 8 pixels a side"):
        task(pictures, shape=shape)
