"""Weights that come with the package are whole, fit their networks, and are taken in turn by a run's seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mibench.errors import ModelError
from mibench.models import cache, shipped, trained
from mibench.plugins import registry
from mibench.record.cells import TaskSpec
from mibench.run import planning
from mibench.run.task import make_task
from mibench.suites import suite as suites

DEFAULT = ("planted[variant=graded]", "planted[variant=suppressor]", "cnn-m")
EVERY = sorted({json.loads(json.dumps(cache.read(file)[1]))["name"] for file in shipped.FOLDER.glob("*.safetensors")})
BYTES = 40 * 2**20


def test_all_weights_together_stay_within_what_a_package_may_weigh() -> None:
    files = list(shipped.FOLDER.glob("*.safetensors"))
    assert {shipped.path(name, 0) for name in EVERY} <= set(files)
    assert sum(file.stat().st_size for file in files) <= BYTES


@pytest.mark.parametrize("name", EVERY)
def test_weights_are_whole_and_differ_and_their_networks_open(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mibench.models.training.descend", lambda *_: pytest.fail("it was trained"))
    x = torch.rand(2, *registry.model(name).shape, generator=torch.Generator().manual_seed(0))
    answers = [trained.of(registry.model(name), number).load()(x) for number in range(shipped.count(name))]
    assert all(not torch.equal(a, b) for k, a in enumerate(answers) for b in answers[:k])


@pytest.mark.parametrize("name", DEFAULT)
@pytest.mark.parametrize("number", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2))])
def test_the_default_suites_networks_reach_their_accuracy(name: str, number: int) -> None:
    task = make_task(TaskSpec(name, registry.model(name).data, 8, 64, network=number))
    floor = 0.95 if name == "cnn-m" else 0.9  # of what an ideal observer reaches, `graded` leaves doubt
    assert task.accuracy > floor


def test_seeds_take_the_weights_in_turn_and_retraining_leaves_them() -> None:
    suite = suites.load("default").model_copy(update={"seeds": 5})
    specs = planning.specs(suite)
    assert [spec.network for spec in specs if spec.model == DEFAULT[0]] == [0, 1, 2]
    assert {spec.retrain for spec in planning.specs(suite, retrain=True)} == {True}
    (one,) = [spec for spec in planning.specs(suites.load("default")) if spec.model == DEFAULT[0]]
    assert one.network == 0


def test_damaged_weights_of_the_package_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(shipped.path(DEFAULT[0], 0).read_bytes())
    content[-7] ^= 1
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    shipped.path(DEFAULT[0], 0).write_bytes(bytes(content))
    with pytest.raises(ModelError, match="comes with the package, is damaged: install mibench again"):
        registry.model(DEFAULT[0]).load()


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFAULT)
def test_the_recipe_gives_the_shipped_weights_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIBENCH_CACHE", str(tmp_path))
    model = trained.of(registry.model(name), 1, retrain=True)
    assert isinstance(model, trained.Trained)
    model.load()
    _, ours = cache.read(model.lesson.path())
    _, theirs = cache.read(shipped.path(name, 1))
    assert abs(ours["accuracy"] - theirs["accuracy"]) < 0.01
