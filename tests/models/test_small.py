"""The small networks have the paper's layers, learn what they should, and can learn other data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.data import searching
from mibench.data.planted import CELL, ideal_accuracies, patches, unpatched
from mibench.errors import DataError, ModelError
from mibench.models.planted import ChainHeads, PlantedModel, PlantedNetwork
from mibench.models.training import accuracy
from mibench.plugins import registry
from mibench.plugins.contract import Unsupported
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task


def scored(spec: str, count: int | None = None) -> float:
    """A model's accuracy on the scoring split of its data."""
    model = registry.model(spec)
    samples = registry.data(model.data).load("scoring", count, model.shape)
    mean, std = (torch.tensor(figures).reshape(-1, *[1] * (samples.x.dim() - 2)) for figures in (model.mean, model.std))
    return accuracy(model.load(), (samples.x - mean) / std, samples.label)


@pytest.mark.parametrize(
    ("spec", "at_least"), [("planted", 0.995), ("mlp-m", 0.94), ("cnn-m", 0.96), ("mlp", 0.85), ("mlp[data=wine]", 0.9)]
)
def test_trained_networks_are_right_on_samples_they_never_saw(spec: str, at_least: float) -> None:
    assert scored(spec) >= at_least


@pytest.mark.slow
def test_the_transformer_learns_both_labels_and_each_token_sees_one_cell() -> None:
    model = registry.model("planted-vit")
    assert isinstance(model, PlantedModel)
    heads, (x, plan) = model.two_heads(), model.drawn("scoring", 500)
    pooled, z = heads.pooled(x)
    assert pooled.shape == z.shape
    assert torch.allclose(heads.trunk(x), z, atol=1e-5)
    assert (heads.head(z).argmax(1) == plan.label).float().mean() >= 0.995
    assert (heads.second(z).argmax(1) == plan.second).float().mean() >= 0.995
    probe = make_task(TaskSpec("planted-vit", "", 1, 1)).probe
    changed = x[:1].clone()
    changed[:, :, CELL : 2 * CELL, 2 * CELL : 3 * CELL] = 0.0  # the cell at (1, 2), token 6 of the cells
    differs = probe.cells(probe.features(x[:1]).local) != probe.cells(probe.features(changed).local)
    assert differs.any(2)[0].nonzero().flatten().tolist() == [6]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["shared", "partial", "xor", "and", "rdnxor"])
def test_every_planted_variant_is_learned(variant: str) -> None:
    assert scored(f"planted[variant={variant}]") >= 0.995


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["graded", "suppressor", "copies"])
def test_networks_of_doubtful_labels_are_nearly_ideal_observers(variant: str) -> None:
    model = registry.model(f"planted[variant={variant}]")
    assert isinstance(model, PlantedModel)
    _, plan = model.drawn("scoring", 1_000)
    ideal, _ = ideal_accuracies(model.parameters, plan)
    assert scored(f"planted[variant={variant}]", 1_000) >= 0.97 * ideal


@pytest.mark.slow
def test_the_network_needs_the_suppressor() -> None:
    model = registry.model("planted[variant=suppressor]")
    assert isinstance(model, PlantedModel)
    x, plan = model.drawn("scoring", 500)
    for source, at_most in ((0, 0.4), (1, 0.6)):  # the signal's cell, the suppressor's
        cells, here = patches(x, 4), torch.arange(500)
        place = plan.places[:, source]
        cells = cells.clone()
        cells[here, place] = cells[here, place].roll(1, 0)  # another image's
        assert accuracy(model.load(), unpatched(cells, 4), plan.label) < at_most
    assert accuracy(model.load(), x, plan.label) > 0.97


def test_the_networks_are_those_of_the_appendix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mibench.models.appendix.trained", lambda lesson, build, teach: build())
    sizes = {
        "mlp-m": [(512, 784), (512, 512), (10, 512)],
        "cnn-m": [(16, 1, 5, 5), (64, 16, 3, 3), (512, 7744), (10, 512)],
        "cnn-c[data=digits]": [(32, 3, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (512, 2304), (10, 512)],
    }
    for spec, expected in sizes.items():
        network = registry.model(spec).load()
        assert [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")] == expected
        assert not any(isinstance(layer, nn.Dropout) for layer in network.modules())


def test_a_network_of_other_data_has_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mibench.models.appendix.trained", lambda lesson, build, teach: build())
    model = registry.model("cnn-c[data=planted]")
    assert model.data == "planted"
    assert model.load()(torch.zeros(2, 3, 32, 32)).shape == (2, 6)


def test_cnn_c_says_that_cifar_must_be_brought() -> None:
    with pytest.raises(Unsupported, match=r"cnn-c\[data=folder:PATH\]"):
        registry.model("cnn-c").load()


def test_a_table_s_perceptron_is_as_wide_as_the_table(tmp_path: Path) -> None:
    model = registry.model("mlp[data=breast-cancer,hidden=7]")
    assert model.shape == (30,)
    assert len(model.mean) == len(model.std) == 30
    network = model.load()
    assert [tuple(layer.weight.shape) for layer in network.children() if isinstance(layer, nn.Linear)] == [
        (7, 30),
        (2, 7),
    ]


def test_a_perceptron_of_images_is_refused() -> None:
    with pytest.raises(ModelError, match="mnist is none"):
        registry.model("mlp[data=mnist]").load()
    with pytest.raises(DataError, match="csv:PATH"):
        registry.model("mlp[data=csv]").load()


def test_a_table_that_tells_nothing_is_refused_below_the_floor(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(60, generator=generator).tolist()
    (tmp_path / "noise.csv").write_text("x,kind\n" + "".join(f"{x},{i % 2}\n" for i, x in enumerate(numbers)))
    with pytest.raises(ModelError, match="below its floor"):
        registry.model(f"mlp[data=csv:{tmp_path / 'noise.csv'}]").load()


@pytest.fixture(scope="module")
def planted() -> PlantedNetwork:
    model = registry.model("planted")
    assert isinstance(model, PlantedNetwork)
    return model


def test_a_position_of_the_planted_network_sees_its_cell_and_no_other(planted: PlantedNetwork) -> None:
    trunk = planted.two_heads().trunk[:6]
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, :, CELL : 2 * CELL, 2 * CELL : 3 * CELL] = 0.0  # the cell at (1, 2)
    moved = (trunk(x) != trunk(changed)).any(1)[0]
    assert moved.nonzero().tolist() == [[1, 2]]


def test_the_planted_representation_tells_both_labels(planted: PlantedNetwork) -> None:
    x, plan = planted.drawn("scoring", 500)
    heads = planted.two_heads()
    z = heads.trunk(x)
    assert (heads.head(z).argmax(1) == plan.label).float().mean() >= 0.995
    assert (heads.second(z).argmax(1) == plan.second).float().mean() >= 0.995
    assert torch.equal(planted.load()(x), heads.head(z))


def unread(z: Tensor, shown: Tensor) -> Tensor:
    """The share of each column's variance that a linear reader of z, fitted on other samples, leaves unexplained."""
    z = torch.cat([(z - z.mean(0)) / (z.std(0) + 1e-6), torch.ones(len(z), 1)], 1)
    half = len(z) // 2
    fitted = torch.linalg.lstsq(z[:half], shown[:half]).solution
    return (z[half:] @ fitted - shown[half:]).square().mean(0) / shown[half:].var(0)


def test_the_planted_representation_does_not_tell_the_distractors(planted: PlantedNetwork) -> None:
    x, plan = planted.drawn("scoring", 2_000)
    shown = F.one_hot(plan.glyph, 12) * (plan.role == 0)[..., None]  # (N, K, 12)
    z = planted.two_heads().trunk(x)
    assert (unread(z, shown.sum(1).float()) > 0.95).all()
    assert (unread(z, F.one_hot(plan.label, 6).float()) < 0.05).all()  # the reader can read what is there


@pytest.mark.slow
def test_the_representation_behind_an_xor_has_the_label_not_the_glyphs() -> None:
    model = registry.model("planted[variant=xor]")
    assert isinstance(model, PlantedNetwork)
    x, plan = model.drawn("scoring", 2_000)
    shown = F.one_hot(plan.glyph[plan.role == 1].reshape(-1, 2), 6).sum(1).float()  # (N, 6)
    assert (unread(model.two_heads().trunk(x), shown) > 0.95).all()


def test_the_planted_model_is_explained_on_the_data_it_learned(planted: PlantedNetwork) -> None:
    assert planted.data == "planted"
    other = registry.model("planted[grid=5,variant=shared]")
    assert other.data == "planted[grid=5,variant=shared]"
    assert other.shape == (3, 40, 40)


@pytest.mark.parametrize(
    ("spec", "beside"),
    [
        ("planted[variant=suppressor]", 0),
        ("planted[noise=0.8,variant=graded]", 0),
        ("planted-residual", 0),
        ("planted-vgg", 1),  # its convolutions overlap
    ],
)
def test_a_feature_at_the_cut_sees_its_cell_and_as_many_beside_as_stated(spec: str, beside: int) -> None:
    model = registry.model(spec)
    assert isinstance(model, PlantedModel)
    heads = model.build()
    assert isinstance(heads, ChainHeads)
    features = heads.trunk[: 1 + [*dict(heads.trunk.named_children())].index(model.local)]
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, :, CELL : 2 * CELL, 2 * CELL : 3 * CELL] = 5.0  # the cell at (1, 2)
    moved = (features(x) != features(changed)).any(1)[0].nonzero()  # (M, 2)
    assert (moved - torch.tensor([1, 2])).abs().amax() == beside


def test_under_loud_noise_cells_are_read_linearly() -> None:
    for spec in ("planted[variant=suppressor]", "planted[noise=0.8,variant=graded]", "planted-residual"):
        model = registry.model(spec)
        assert isinstance(model, PlantedModel)
        read = model.build().trunk[0]
        a, b, nothing = torch.rand(3, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(read(a) + read(b) - read(nothing), read(a + b - nothing), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.5, 0.8, 1.1, 1.4])
def test_networks_of_the_ladder_are_nearly_as_good_as_a_searching_observer(noise: float) -> None:
    spec = f"planted[cells=1,grid=3,noise={noise},variant=graded]"
    model = registry.model(spec)
    assert isinstance(model, PlantedModel)
    _, plan = model.drawn("scoring", 1_000)
    ideal, _ = searching.accuracies(model.parameters, plan)
    assert scored(spec, 1_000) >= 0.95 * ideal  # 97 % on the split that is held out; these are others
