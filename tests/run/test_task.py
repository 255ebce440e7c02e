"""A task is made from data alone, is the same every time, and is refused before anything wrong is explained."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mibench.errors import DataError, MibenchError, ModelError, UsageError
from mibench.models.kept import kept
from mibench.plugins import registry
from mibench.plugins.contract import Samples
from mibench.record.cells import TaskSpec
from mibench.run.task import Task, make_task

TINY = "local=features,representation=avgpool,shape=3x16x16"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "models"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten classes of five pictures in different greys."""
    for label in range(10):
        (tmp_path / "pictures" / f"class{label}").mkdir(parents=True)
        for index in range(5):
            picture = Image.effect_noise((20, 20), 30 + label).convert("RGB")
            picture.putpixel((0, 0), (index, label, 0))
            picture.save(tmp_path / "pictures" / f"class{label}" / f"{index}.png")
    return tmp_path / "pictures"


def user(factory: str = "build", more: str = "", parameters: str = TINY) -> str:
    return f"user[{parameters}{more}]:made_networks:{factory}"


def on_pictures(pictures: Path, model: str | None = None, samples: int = 4) -> Task:
    return make_task(TaskSpec(model or user(), f"folder:{pictures}", samples, 8))


def test_a_task_has_samples_targets_and_a_name() -> None:
    task = make_task(TaskSpec("mlp", "", 10, 20))
    assert task.name == "iris/mlp"
    assert (len(task.scoring), len(task.calibration)) == (10, 20)
    assert torch.equal(task.target, task.probe.logits(task.scoring.x).argmax(1))
    assert not set(task.scoring.ids) & set(task.calibration.ids)


def test_where_the_data_say_so_the_label_is_explained() -> None:
    task = make_task(TaskSpec("planted", "", 6, 6))
    assert torch.equal(task.target, task.scoring.label)
    assert task.scoring.truth is not None


def test_samples_are_normalised_as_the_model_wants() -> None:
    task = make_task(TaskSpec("planted", "", 6, 6))
    raw = registry.data("planted").load("scoring", 6, (3, 32, 32)).x
    mean, std = (torch.tensor(figures)[:, None, None] for figures in (task.model.mean, task.model.std))
    assert torch.allclose(task.scoring.x * std + mean, raw, atol=1e-6)


def test_more_samples_than_there_are_give_all_there_are() -> None:
    assert len(make_task(TaskSpec("mlp", "iris", 1_000, 1_000)).scoring) == 30


def test_baselines_are_in_the_normalised_space(pictures: Path) -> None:
    task = on_pictures(pictures)
    baselines = task.baselines
    assert set(baselines) == {"mean", "uniform", "blur", "black"}
    assert all(each.shape == task.scoring.x.shape for each in baselines.values())
    mean, std = torch.tensor(task.model.mean), torch.tensor(task.model.std)
    assert torch.allclose(baselines["black"][0, :, 3, 3], -mean / std)
    assert torch.allclose(baselines["mean"][1, :, 5, 7], task.calibration.x.mean((0, 2, 3)), atol=1e-5)
    assert baselines["blur"].var() < task.scoring.x.var() / 2
    assert torch.allclose(baselines["blur"].mean(), task.scoring.x.mean(), atol=0.05)
    assert baselines["uniform"].min() >= task.calibration.x.min()
    assert baselines["uniform"].max() <= task.calibration.x.max()
    assert torch.equal(baselines["uniform"][0], baselines["uniform"][1])


def test_a_table_s_baselines_are_its_mean_and_what_is_drawn() -> None:
    assert set(make_task(TaskSpec("mlp", "iris", 3, 9)).baselines) == {"mean", "uniform"}


def test_accuracy_is_over_all_pictures_for_a_network_that_learned_none(pictures: Path) -> None:
    task = on_pictures(pictures)
    every = [task.data.load(split, None, (3, 16, 16)) for split in ("training", "calibration", "scoring")]
    x, label = torch.cat([each.x for each in every]), torch.cat([each.label for each in every])
    assert len(x) == 50
    expected = (task.predictions(task.normalise(x)) == label).float().mean()
    assert task.accuracy == pytest.approx(float(expected))


def test_the_accuracy_of_a_network_of_ours_leaves_out_what_it_learned() -> None:
    task = make_task(TaskSpec("mlp", "iris", 4, 4))
    every = [task.data.load(split, None, (4,)) for split in ("calibration", "scoring")]
    x, label = torch.cat([each.x for each in every]), torch.cat([each.label for each in every])
    assert task.accuracy == pytest.approx(float((task.predictions(task.normalise(x)) == label).float().mean()))


def test_hashes_repeat_and_change_with_what_is_hashed(pictures: Path, tmp_path: Path) -> None:
    first, again, more = on_pictures(pictures), on_pictures(pictures), on_pictures(pictures, samples=5)
    assert (first.weights_hash, first.data_hash) == (again.weights_hash, again.data_hash)
    assert more.data_hash != first.data_hash
    weights = first.probe.model.state_dict()
    weights["fc.bias"][0] += 1e-3
    save_file(weights, tmp_path / "other.safetensors")
    other = on_pictures(pictures, user(more=f",weights={tmp_path / 'other.safetensors'}"))
    assert other.weights_hash != first.weights_hash
    cut = on_pictures(pictures, user(parameters=TINY.replace("local=features", "local=features.2")))
    assert cut.weights_hash != first.weights_hash


def test_a_picture_that_changes_by_one_pixel_changes_the_hash(pictures: Path) -> None:
    before = on_pictures(pictures, samples=10).data_hash
    for path in pictures.rglob("*.png"):
        picture = Image.open(path).convert("RGB")
        picture.putpixel((10, 10), (1, 2, 3))
        picture.save(path)
    assert on_pictures(pictures, samples=10).data_hash != before


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precision_changes_the_arithmetic_and_not_the_answer(precision: str) -> None:
    spec = TaskSpec("planted", "", 16, 4)
    exact, asked = make_task(spec), make_task(spec, precision=precision)
    gap = float((exact.probe.logits(exact.scoring.x) - asked.probe.logits(exact.scoring.x)).abs().max())
    assert (gap > 0) == (precision == "bf16")
    assert torch.equal(exact.predictions(exact.scoring.x), asked.predictions(exact.scoring.x))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown precision 'fp8'; choose one of fp32, tf32, fp16, bf16"):
        make_task(TaskSpec("mlp", "", 1, 1), precision="fp8")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (user("dicing"), "two forwards of the same input differ in eval mode"),
        (
            user("build", parameters=TINY.replace("avgpool", "avgpol")),
            "no layer 'avgpol'; did you mean avgpool",
        ),
        (user("build", parameters=TINY.replace("3x16x16", "1x16x16")), "cannot take an input of 1x16x16"),
        (user("pair"), "not one tensor of logits"),
        (user("flat"), r"a tensor of shape \(16,\) for two inputs, not logits"),
        (user("overflowing"), "its logits of an ordinary input are NaN or infinite"),
    ],
)
def test_a_network_that_cannot_be_explained_is_refused(model: str, message: str, pictures: Path) -> None:
    with pytest.raises(ModelError, match=message):
        on_pictures(pictures, model)


def test_nan_in_the_factory_s_own_weights_is_refused(pictures: Path) -> None:
    with pytest.raises(ModelError, match=r"1 of the weights in 'fc\.weight' are NaN or infinite"):
        on_pictures(pictures, user("poisoned"))


def test_data_of_other_classes_than_the_network_s_are_refused(pictures: Path) -> None:
    for index in range(5):
        (pictures / f"class{index}").rename(pictures.parent / f"class{index}")
    with pytest.raises(DataError, match=r"has 5 classes and user.* gives 10"):
        on_pictures(pictures)


def altered(samples: Samples, what: str) -> Samples:
    x, label = samples.x.clone(), samples.label.clone()
    if what == "label":
        label[2] = 10
    elif what == "nan":
        x[1, 0, 3, 3] = float("nan")
    else:
        x = x[:, :, :8]
    return Samples(x, label, samples.ids)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("label", r"sample 'class.*' has the label 10, outside the 10 classes"),
        ("nan", r"sample 'class.*' holds NaN or infinite values"),
        ("shape", r"gives samples of 3x8x16, but user.* expects 3x16x16"),
    ],
)
def test_samples_that_cannot_be_used_are_named(
    what: str, message: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = on_pictures(pictures)
    load = type(task.data).load

    def bad(self: Any, *arguments: Any) -> Samples:
        return altered(load(self, *arguments), what)

    monkeypatch.setattr(type(task.data), "load", bad)
    with pytest.raises(DataError, match=message):
        _ = task.scoring


def test_a_split_without_samples_is_told(tmp_path: Path) -> None:
    for label in range(10):
        (tmp_path / f"class{label}").mkdir()
    for label in range(2):
        Image.effect_noise((20, 20), 50).convert("RGB").save(tmp_path / f"class{label}" / "one.png")
    task = on_pictures(tmp_path)
    assert len(task.scoring) == len(task.calibration) == 1
    assert 0.0 <= task.accuracy <= 1.0
    (tmp_path / "class1" / "one.png").rename(tmp_path / "class0" / "two.jpg.gone")
    alone = tmp_path.parent / f"{tmp_path.name}-alone"
    tmp_path.rename(alone)
    with pytest.raises(DataError, match="no samples in its calibration split"):
        _ = on_pictures(alone).calibration


def test_small_pictures_are_enlarged_and_said_so(pictures: Path) -> None:
    for path in pictures.rglob("0.png"):
        Image.new("RGB", (10, 10)).save(path)
    task = on_pictures(pictures, samples=10)
    assert task.scoring.x.shape == (10, 3, 16, 16)
    (notice,) = task.data_notices
    assert notice.startswith("scoring: ")
    assert "smaller than the model's input of 16x16 and were enlarged" in notice


def test_an_image_network_on_a_table_is_refused() -> None:
    with pytest.raises(DataError):
        make_task(TaskSpec(user(), "iris", 1, 1))


@pytest.mark.parametrize("spec", ["cnn-n", "planted[grid=none]"])
def test_wrong_names_are_usage_errors(spec: str) -> None:
    with pytest.raises(MibenchError) as caught:
        make_task(TaskSpec(spec, "iris", 1, 1))
    assert caught.value.code == 2


def test_making_a_task_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = make_task(TaskSpec("planted", "", 4, 4)).baselines


def test_maps_of_planted_images_are_judged_by_the_networks_own_truth() -> None:
    task = make_task(TaskSpec("planted", "planted", 8, 8))
    truth, figures = task.truth, task.truth_figures
    assert truth is not None
    assert truth.network is not None
    assert task.scoring.truth is not None
    assert truth.network.shape == task.scoring.truth.beliefs.shape == (8, 2, 6)  # type: ignore[union-attr]
    assert torch.equal(truth.information["decision"], task.scoring.truth.information["decision"])  # the data's still
    assert 0 < figures["marginal gap"] < 0.05  # a network that is nearly always right, and nearly always sure
    assert figures["marginal largest error"] == 0  # all glyphs were tried
    assert 0 <= figures["leak"] <= figures["largest leak"] < 0.1


def test_the_networks_own_truth_is_asked_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIBENCH_CACHE", str(tmp_path))
    made = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"beliefs": torch.ones(2)}

    first, second = kept("some", make), kept("some", make)
    assert first is not None
    assert second is not None
    assert torch.equal(first["beliefs"], second["beliefs"])
    assert len(made) == 1
    (file,) = (tmp_path / "truth").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="computed again"):
        kept("some", make)
    assert len(made) == 2
