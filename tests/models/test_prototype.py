"""The prototype network answers with distances to the means of its support, written again here sample by sample."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from mibench.errors import DataError
from mibench.models.prototype import Prototype
from mibench.models.training import Lesson, frozen
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, FittedExplainer, Known, Unsupported
from mibench.record.cells import TaskSpec
from mibench.run.explaining import fault, in_batches
from mibench.run.task import Task, make_task


def prototype(spec: str) -> Prototype:
    model = registry.model(spec)
    assert isinstance(model, Prototype)
    return model


def untrained(lesson: Lesson, build: object, teach: object) -> nn.Module:
    torch.manual_seed(0)
    return frozen(build())  # type: ignore[operator]


@pytest.mark.parametrize("shots", [1, 5])
def test_logits_are_negative_squared_distances_to_the_means(shots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mibench.models.prototype.trained", untrained)
    model = prototype(f"prototype[ways=3,shots={shots}]")
    network = model.load()
    assert isinstance(network, nn.Sequential)
    embedding = network[:-1]
    support = model.source.support(model.shape)
    queries = model.source.load("scoring", 4, model.shape)
    logits = network((queries.x - 0.13) / 0.31)
    for i in range(4):
        z = embedding((queries.x[i : i + 1] - 0.13) / 0.31)[0]
        for way in range(3):
            shown = [embedding((x[None] - 0.13) / 0.31)[0] for x in support.x[support.label == way]]
            mean = sum(shown[1:], shown[0]) / len(shown)
            assert float(logits[i, way]) == pytest.approx(-float(((z - mean) ** 2).sum()), rel=1e-4, abs=1e-4)


def test_the_linear_head_says_what_the_distances_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mibench.models.prototype.trained", untrained)
    distance, linear = (prototype(f"prototype[shots=5,head={head}]").load() for head in ("distance", "linear"))
    assert isinstance(linear.get_submodule("prototypes"), nn.Linear)
    x = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(linear(x).softmax(1), distance(x).softmax(1))


def test_a_support_image_of_one_shot_is_its_own_prototype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mibench.models.prototype.trained", untrained)
    model = prototype("prototype")
    support = model.source.support(model.shape)
    logits = model.load()((support.x - 0.13) / 0.31)
    assert logits.argmax(1).tolist() == [0, 1, 2, 3, 4]
    assert logits.diagonal().abs().max() < 1e-4


def test_a_learned_embedding_serves_every_episode_and_beats_chance() -> None:
    accuracies = [make_task(TaskSpec(f"prototype[episode={n}]", "", 1, 1)).accuracy for n in range(3)]
    assert sum(accuracies) / 3 > 0.45  # chance is 0.2


@pytest.mark.slow
def test_five_shots_are_better_than_one() -> None:
    one, five = (
        sum(make_task(TaskSpec(f"prototype[shots={s},episode={n}]", "", 1, 1)).accuracy for n in range(4)) / 4
        for s in (1, 5)
    )
    assert five > one + 0.1


def test_the_model_is_explained_on_its_own_episode() -> None:
    assert prototype("prototype").data == "episodes"
    model = prototype("prototype[ways=3,shots=5,episode=2]:digits")
    assert model.data == "episodes[episode=2,shots=5,ways=3]:digits"
    assert prototype("prototype:folder:birds").shape == (3, 84, 84)


def test_a_pretrained_backbone_embeds_without_learning(tmp_path: Path) -> None:
    for label in range(4):
        (tmp_path / f"class{label}").mkdir()
        for index in range(5):
            picture = Image.new("RGB", (224, 224), (60 * label, 255 - 60 * label, 20 * index))
            picture.save(tmp_path / f"class{label}" / f"{index}.png")
    task = make_task(TaskSpec(f"prototype[ways=2,backbone=efficientnet-lite0]:folder:{tmp_path}", "", 2, 2))
    assert task.probe.grid == (7, 7)
    local = task.probe.features(task.scoring.x).local
    assert torch.allclose(task.probe.resume(local).logits, task.probe.logits(task.scoring.x), rtol=1e-4)
    assert task.accuracy > 0.5


@pytest.mark.slow
def test_an_embedding_is_learned_on_a_folder_of_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight colours, four to learn from and four that it never saw, each in pictures as large as a camera's."""
    monkeypatch.setenv("MIBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mibench.models.prototype.EPISODES", 10)
    random = torch.Generator().manual_seed(0)
    for label in range(8):
        (tmp_path / "photographs" / f"class{label}").mkdir(parents=True)
        colour = torch.tensor([label >> 2 & 1, label >> 1 & 1, label & 1])[:, None, None].expand(3, 96, 128)
        for index in range(12):
            noisy = (0.2 + 0.6 * colour + 0.1 * torch.randn(colour.shape, generator=random)).clamp(0, 1)
            picture = Image.fromarray((255 * noisy).byte().permute(1, 2, 0).numpy())
            picture.save(tmp_path / "photographs" / f"class{label}" / f"{index}.jpg")
    task = make_task(TaskSpec(f"prototype[ways=4,shots=1]:folder:{tmp_path / 'photographs'}", "", 4, 8))
    assert task.model.shape == (3, 84, 84)
    assert task.probe.classes == tuple(f"class{label}" for label in range(4, 8))
    assert task.accuracy > 0.7
    explainer = registry.method("mire[epochs=1,batch=8,references=100]").explainer
    assert isinstance(explainer, FittedExplainer)
    explainer.restore(task.probe, explainer.learn(task.probe, task.calibration, 0))
    maps = explainer.explain(task.probe, task.scoring.x, task.target, range(4)).maps
    assert all(map_.shape == (4, 84, 84) and bool(map_.isfinite().all()) for map_ in maps.values())


EXPLAINERS = sorted(
    name
    for name, cls in registry.plugins("methods").items()
    if issubclass(cls, Explainer) and not issubclass(cls, Known)
)


@pytest.fixture(scope="module")
def episodes_of_digits() -> dict[tuple[int, str], Task]:
    """5-way tasks by shots and head, with an embedding of random weights, whose maps are as many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mibench.models.prototype.trained", untrained)
        specs = {(shots, head): f"prototype[shots={shots},head={head}]" for shots, head in HEADS}
        return {key: make_task(TaskSpec(spec, "", samples=2, calibration=64)) for key, spec in specs.items()}


HEADS = ((1, "linear"), (5, "linear"), (1, "distance"))


def explain(task: Task, name: str) -> tuple[str, list[str]]:
    """The reason why an explainer refuses a task, and the faults of its maps."""
    cls = registry.plugins("methods")[name]
    quick = {"epochs": 1} if "epochs" in cls.Parameters.model_fields else {}
    explainer = cls(cls.Parameters(**quick))
    try:
        if isinstance(explainer, FittedExplainer):
            explainer.restore(task.probe, explainer.learn(task.probe, task.calibration, 0))
        explanation = in_batches(explainer, task.probe, task.scoring.x, task.target, (0, 1), 0)
    except Unsupported as refusal:
        return str(refusal), []
    faults = [] if explainer.control else [fault(map_) for maps in explanation.maps.values() for map_ in maps]
    return "", [each for each in faults if each]


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer_explains_an_episode(
    name: str, shots: int, episodes_of_digits: dict[tuple[int, str], Task]
) -> None:
    assert explain(episodes_of_digits[shots, "linear"], name) == ("", [])


@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_last_layer_of_distances_may_be_refused_with_the_reason(
    name: str, episodes_of_digits: dict[tuple[int, str], Task]
) -> None:
    reason, faults = explain(episodes_of_digits[1, "distance"], name)
    assert not faults
    assert not reason or "layer 'neg'" in reason or "a parameter by itself" in reason


def test_data_of_too_few_classes_are_refused() -> None:
    with pytest.raises(DataError, match="an episode of 6 ways needs 11 or more"):
        prototype("prototype[ways=6]").load()
