"""Large networks are inverted down to the top feature map, all classes in one pass."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from mibench.methods.mipin import mipin
from mibench.methods.mipin.classifier import invert_classifier, is_classifier
from mibench.methods.mipin.learning import Lesson, members_of, stacked
from mibench.methods.mipin.mipin import MIPIN
from mibench.methods.mipin.ridge import Penalty
from mibench.network.chain import Chain, walk
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Samples, Unsupported
from tests.methods.small_networks import CLASSES, Functional, Residual, calibration, convolutional, frozen, some


class Picked(nn.Module):
    """A classifier on the first of some tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8), nn.Linear(8, 3)
        self.mix = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.mix(self.patches(x).flatten(2)).transpose(1, 2)  # (B, 5, 8)
        return self.head(self.norm(tokens)[:, 0])  # type: ignore[no-any-return]


def tokens() -> OpenProbe:
    model = frozen(Picked())
    return open_probe(model, kind="tokens", local="norm", representation="norm", shape=(3, 8, 8), classes=CLASSES)


def fitted(probe: OpenProbe, samples: Samples, **parameters: object) -> MIPIN:
    explainer = MIPIN(MIPIN.Parameters(**parameters))
    explainer.restore(probe, explainer.learn(probe, samples, seed=0))
    return explainer


def off(found: Tensor, expected: Tensor) -> float:
    """The size of the difference beside what was expected."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("probe", [convolutional(Residual), convolutional(Functional)], ids=["modules", "functions"])
@pytest.mark.parametrize("forward_relu", [True, False])
@pytest.mark.parametrize("penalty", [0.1, "auto"])
def test_one_pass_for_all_classes_gives_what_learning_class_by_class_gives(
    probe: OpenProbe, forward_relu: bool, penalty: Penalty
) -> None:
    chain, samples = walk(probe.model, probe.shape, "classifier"), calibration(probe, 50)
    assert is_classifier(chain, chain.activations(samples.x[:1]))
    settings = MIPIN.Parameters(penalty=penalty, forward_relu=forward_relu)
    members = members_of(samples.label, 3, everyone=True)
    loop = stacked(Lesson(chain, samples.x, settings, 0).learn(members), with_base=False)
    once = invert_classifier(chain, samples.x.split(16), penalty=penalty, forward_relu=forward_relu)
    assert once.keys() == loop.keys()
    assert 0 in once
    for place, inverse in once.items():
        assert off(inverse.weight, loop[place].weight) < 1e-3  # the loop rounds S to single precision
        assert (inverse.bias is None) == (loop[place].bias is None)
        assert inverse.bias is None or off(inverse.bias, loop[place].bias) < 1e-3


def test_the_map_is_the_attribution_of_the_top_features_written_out() -> None:
    """One linear regression a feature (Cov(Z, y) / (Var y + penalty)), then one a cell, on the sample's own ReLUs."""
    probe, penalty = convolutional(Residual), 0.1
    samples = calibration(probe, 80)
    x, target, seeds = some(probe, 6)
    maps = fitted(probe, samples, penalty=penalty).explain(probe, x, target, seeds).maps["map"]
    fit, new = probe.features(samples.x), probe.features(x)
    for n, c in enumerate(target.tolist()):
        y, grid = fit.logits[:, c].double(), torch.zeros(4, 4).double()
        for channel in range(6):
            cells = fit.local[:, channel].double()  # (N, 4, 4)
            z = cells.mean((1, 2))
            slope = ((z - z.mean()) * (y - y.mean())).mean() / (y.var(correction=0) + penalty)
            s = (slope * y + z.mean() - slope * y.mean()) * (z != 0)
            covariance = ((cells - cells.mean(0)) * (s - s.mean())[:, None, None]).mean(0)
            a = new.logits[n, c].double() * slope * covariance / s.var(correction=0)
            grid += a * (new.local[n, channel] != 0) / 6
        expected = probe.upsample(grid.clamp(min=0)[None].float())[0]
        assert torch.allclose(maps[n], expected, atol=2e-3 * float(expected.max()))


def test_tokens_are_refused_with_the_name_of_their_layer() -> None:
    with pytest.raises(Unsupported, match="layer 'norm' gives tokens"):
        fitted(tokens(), calibration(tokens(), 20))
    with torch.device("meta"):
        transformer = torchvision.models.vit_b_16(weights=None).eval()
    with pytest.raises(Unsupported, match=r"layer 'encoder\.ln' gives tokens"):
        walk(transformer, (3, 224, 224), "classifier")


@pytest.mark.parametrize("fit_on", ["class", "all"])
def test_several_dense_layers_are_learned_when_a_class_is_explained(
    fit_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 16)
    model = frozen(nn.Sequential(*layers, nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)))
    probe = open_probe(model, kind="grid", local="2", representation="9", shape=(3, 8, 8), classes=CLASSES)
    chain = walk(model, (3, 8, 8), "classifier")
    assert chain.base == "2"
    samples = calibration(probe, 60)
    now = fitted(probe, samples, depth="classifier", fit_on=fit_on).explain(probe, *some(probe, 6))
    monkeypatch.setattr(mipin, "KEEP", 0)
    later = fitted(probe, samples, depth="classifier", fit_on=fit_on)
    assert later._tensors["base"].shape == (60, 4, 3, 3)
    assert torch.allclose(now.maps["map"], later.explain(probe, *some(probe, 6)).maps["map"], atol=1e-5)


def test_a_network_is_inverted_to_the_input_or_else_the_top_features() -> None:
    samples = calibration(convolutional(), 40)
    assert fitted(convolutional(), samples)._chain.base == "relu"
    with pytest.raises(Unsupported, match="values meet"):
        fitted(convolutional(), samples, depth="input")


LARGE = {
    "resnet50": (["Mean", "Reshape", "Dense"], (2048, 7, 7)),
    "vgg19": (["Mean", "Reshape", *["Dense", "Rectifier"] * 2, "Dense"], (512, 7, 7)),
    "mobilenet_v2": (["Mean", "Reshape", "Dense"], (1280, 7, 7)),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_top_features_of_a_well_known_network_are_found(name: str) -> None:
    with torch.device("meta"):  # shapes without numbers
        model = getattr(torchvision.models, name)(weights=None).eval().requires_grad_(False)
        chain, x = walk(model, (3, 224, 224), "classifier"), torch.empty(1, 3, 224, 224)
    kinds, shape = LARGE[name]
    assert [type(layer).__name__ for layer in chain.layers] == kinds
    values = chain.activations(x)
    assert values[0].shape[1:] == shape
    assert values[-1].shape == (1, 1000)


def large(name: str) -> OpenProbe:
    """A network of ImageNet's size with random weights and as many classes as the small ones."""
    model = registry.model(f"{name}[weights=random,classes={len(CLASSES)}]")
    return open_probe(
        model.load(),
        kind=model.kind,
        local=model.local,
        representation=model.representation,
        shape=model.shape,
        classes=CLASSES,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg19"])
def test_networks_of_imagenet_s_size_are_fitted_and_explained(name: str) -> None:
    probe = large(name)
    explainer = fitted(probe, calibration(probe, 9), fit_on="class")
    assert explainer._chain.base != "input"
    maps = explainer.explain(probe, *some(probe, 3)).maps["map"]
    assert maps.shape == (3, 224, 224)
    assert bool(maps.isfinite().all())
    assert all(float(map_.min()) >= 0 and float(map_.std()) > 0 for map_ in maps)


@pytest.mark.slow
def test_a_transformer_of_imagenets_size_is_refused_with_its_layers_name() -> None:
    probe = large("vit-b-16")
    with pytest.raises(Unsupported, match=r"layer 'encoder\.ln' gives tokens"):
        fitted(probe, calibration(probe, 6))


def classifier(*layers: nn.Module, shape: tuple[int, ...], count: int) -> tuple[Chain, Tensor]:
    """Layers on made-up top features, sparse as after a rectifier."""
    x = torch.randn((count, *shape), generator=torch.Generator().manual_seed(2)).relu()
    return walk(frozen(nn.Sequential(*layers)), shape, "input"), x


def test_a_thousand_classes_of_a_wide_classifier_are_learned_in_one_pass() -> None:
    layers = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)
    chain, x = classifier(*layers, shape=(1280, 7, 7), count=48)
    once = invert_classifier(chain, x.split(16), penalty=0.1, forward_relu=True)
    assert once[0].weight.shape == (1000, 1280, 7, 7)
    members = {c: torch.ones(48, dtype=torch.bool) for c in (3, 997)}
    loop = Lesson(chain, x, MIPIN.Parameters(penalty=0.1), 0).learn(members)
    assert max(off(once[0].weight[c], loop[c][0].weight) for c in members) < 5e-3


def test_wide_dense_layers_are_inverted_from_few_samples_in_dual_form() -> None:
    layers = nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 3)
    chain, x = classifier(*layers, shape=(64, 7, 7), count=24)
    members = {2: torch.ones(24, dtype=torch.bool)}
    learned = Lesson(chain, x, MIPIN.Parameters(), 0).learn(members)[2]
    dual = [inverse for inverse in learned.values() if inverse.basis is not None]
    assert [tuple(inverse.weight.shape) for inverse in dual] == [(24, 512), (24, 512)]
