"""The Python API: ten lines of a notebook, the network left as found, one clear line where something is wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torchvision.models import resnet18

import mibench as mb
from mibench.api import progress
from mibench.api.boards import spec_of
from mibench.api.opening import Net
from mibench.errors import DataError, ModelError, UsageError
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, Explanation, Unsupported

X = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
Y = torch.arange(4)
QUICK = {"steps": 2, "copies": 2}


def network() -> nn.Module:
    """A ResNet-18 of four classes with random weights, as training left it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return resnet18(num_classes=4)


def small() -> nn.Module:
    """A network that is opened and explained in no time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))


def opened() -> Net:
    """The small network, at its rectifier and what goes into its last layer."""
    return mb.open(small(), local="1", representation="3")


@pytest.fixture(scope="module")
def net() -> Net:
    return mb.open(network(), local="layer2", representation="avgpool", classes=list("abcd"), name="<b>mine</b>")


@pytest.fixture(scope="module")
def iba(net: Net) -> Explainer:
    return mb.methods.Iba(beta=5, **QUICK).fit(net, X, Y, seed=0)


def test_ten_lines_explain_score_and_compare_a_resnet(net: Net, iba: Explainer) -> None:
    maps = iba(X, target=Y)
    assert maps["map"].shape == (4, 32, 32)
    assert maps.units == {"map": "bits", "calibrated": "bits"}
    assert torch.allclose(maps["map"].sum((1, 2)), maps.facts["bits"], rtol=1e-3)
    assert isinstance(maps.plot(samples=2), matplotlib.figure.Figure)
    scores = mb.metrics.pixel_flipping(net, X, Y, maps["map"])
    assert scores.shape == (4,)
    compared = mb.compare(net, X, Y, [iba, "saliency", "random"], ["pixel-flipping", "sparseness"])
    table = compared.frame().set_index(["method", "metric"])
    assert table.loc[("iba[beta=5,copies=2,steps=2]", "pixel-flipping"), "value"] == pytest.approx(float(scores.mean()))
    assert len(compared.pairs()) == 3 * 2
    assert "&lt;b&gt;mine&lt;/b&gt;" in compared._repr_html_()
    assert "<b>mine" not in compared._repr_html_()


def test_paired_differences_hold_the_mean_difference() -> None:
    x, y = torch.rand((24, 3, 32, 32), generator=torch.Generator().manual_seed(2)), torch.arange(24) % 4
    found = mb.compare(opened(), x, y, ["saliency", "random"], ["sparseness", "complexity"])
    for line in found.pairs().itertuples():
        first, second = (
            mb.score(opened(), x, y, found.maps[name], line.metric).numpy() for name in (line.first, line.second)
        )
        assert line.difference == pytest.approx(float(np.mean(first - second)))
        assert line.low < line.difference < line.high
        assert (line.low < 0 < line.high) == (line.p > 0.05)
        higher = line.first if line.difference > 0 else line.second
        lower = line.second if line.difference > 0 else line.first
        assert line.better == {"sparseness": higher, "complexity": lower}[line.metric]


def test_the_network_is_left_as_it_was_found() -> None:
    model = small().train()  # not as `opened` has it: its modes and flags are uneven
    model[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    net = mb.open(model, local="1", representation="3")
    with torch.no_grad():
        maps = mb.explain(net, X, "iba[steps=2,copies=2]", calibration=(X, Y))
        assert not torch.is_grad_enabled()
    mb.score(net, X, Y, maps, "pixel-flipping")
    with pytest.raises(RuntimeError, match="on purpose"):
        mb.explain(net, X, Failing())
    assert torch.equal(torch.rand(2), expected)
    assert all(module.training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_map_depends_on_its_sample_and_not_on_its_batch() -> None:
    noise = mb.methods.SmoothGrad(copies=2).fit(opened())
    together = noise(X, target=Y)["map"]
    assert torch.allclose(noise(X[2:], target=Y[2:])["map"], together[2:], atol=1e-6)
    assert not torch.allclose(noise(X, target=Y, seed=1)["map"], together)


def test_layers_that_are_not_named_are_proposed() -> None:
    probe = mb.open(small()).probe(X)
    assert (probe.local, probe.network.representation) == ("1", "3")
    assert probe.classes == ("class 0", "class 1", "class 2", "class 3")


def test_a_wrapper_and_a_control_can_be_explained() -> None:
    plain, turned = (mb.explain(opened(), X, spec, target=Y)["map"] for spec in ("saliency", "inverted:saliency"))
    assert torch.equal(plain.flatten(1).argmax(1), turned.flatten(1).argmin(1))


class Failing(Explainer):
    """An explainer that fails half-way."""

    name = "failing"
    title = "Failing"

    def explain(self, probe: Any, x: Tensor, target: Tensor, seeds: Any) -> Explanation:
        torch.rand(1)
        raise RuntimeError("on purpose")


class Mine(Explainer):
    """An explainer of the user's that no package has."""

    name = "mine"
    title = "Mine"

    def explain(self, probe: Any, x: Tensor, target: Tensor, seeds: Any) -> Explanation:
        return Explanation({"map": x.mean(1).abs()})


def test_an_explainer_of_ones_own_is_compared_here_but_not_sent_to_workers() -> None:
    found = mb.compare(opened(), X, Y, [Mine(), "saliency"], ["sparseness"])
    assert "mine" in set(found.frame()["method"])
    with pytest.raises(UsageError, match=r'entry-points."mibench.methods"\] mine = "tests.api.test_api"'):
        spec_of(Mine())
    assert spec_of(mb.methods.Iba(beta=5)) == "iba[beta=5]"


def trained() -> Tensor:
    """A network that learned after it was opened."""
    net = opened()
    explainer = mb.methods.Saliency().fit(net)
    explainer(X)
    with torch.no_grad():
        net.model[0].weight.mul_(2)
    return explainer(X)["map"]


WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a parameter's type": (lambda: mb.methods.Iba(beta="x"), UsageError, "beta='x'"),
    "a parameter's name": (lambda: mb.methods.Iba(betta=1), UsageError, "no parameter 'betta'"),
    "explain before fit": (lambda: mb.methods.Iba()(X), UsageError, r"Iba is not fitted: call fit\(network, x, y\)"),
    "fit without samples": (lambda: mb.methods.Iba().fit(opened()), UsageError, "learns from calibration samples"),
    "a name that must learn": (lambda: mb.explain(opened(), X, "iba"), UsageError, r"pass calibration=\(x, y\)"),
    "a wrong layer": (lambda: mb.open(network(), local="layr4"), ModelError, "did you mean layer4"),
    "a network without numbers": (lambda: mb.open(small().to("meta")), ModelError, "'meta', where weights hold no"),
    "samples without numbers": (lambda: opened().probe(X.to("meta")), DataError, "'meta', where tensors hold no"),
    "samples of another size": (lambda: [net.probe(X[..., :s]) for net in [opened()] for s in (32, 16)], UsageError,
                                "x holds samples of 3x32x16, but Sequential was opened for 3x32x32"),
    "an array": (lambda: opened().probe(X.numpy()), UsageError, r"write torch.as_tensor\(x\)"),
    "bytes": (lambda: opened().probe(X.byte()), DataError, r"write x.float\(\)"),
    "NaN": (lambda: opened().probe(X * torch.nan), DataError, "NaN or infinite"),
    "one sample": (lambda: opened().probe(X[0]), DataError, r"write a batch of images \(B, C, H, W\)"),
    "a class too many": (lambda: mb.explain(opened(), X, "saliency", target=4), DataError, "the classes 0 to 3"),
    "too few targets": (lambda: mb.explain(opened(), X, "saliency", target=Y[:2]), DataError, r"as \(4,\) whole"),
    "too many names": (lambda: mb.open(small(), classes=list("abcde")).probe(X), UsageError, "5 classes are named"),
    "a map of another size": (lambda: mb.score(opened(), X, Y, X[:, 0, :9], "irof"), DataError, "the map has the"),
    "a lack of a mask": (lambda: mb.score(opened(), X, Y, X[:, 0], "pointing-game"), Unsupported, "needs mask"),
    "a name of no method": (lambda: mb.methods.Ibaa, AttributeError, "did you mean Iba"),
    "no network": (lambda: mb.open(3), UsageError, "takes a torch.nn.Module or a network's name, not int"),
    "a network that learned": (trained, ModelError, "has been trained or moved since it was opened"),
    "no methods": (lambda: mb.compare(opened(), X, Y, [], ["irof"]), UsageError, "name methods and metrics"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_line_with_the_mend(what: str) -> None:
    do, kind, line = WRONG[what]
    with pytest.raises(kind, match=line) as caught:
        do()
    assert "\n" not in str(caught.value)


def test_an_explainer_fitted_elsewhere_learns_again_or_is_refused(iba: Explainer) -> None:
    other = opened()
    with pytest.raises(UsageError, match="or fit it to this network"):
        mb.explain(other, X, iba)
    before = iba.network
    assert mb.explain(other, X, iba, calibration=(X, Y))["map"].shape == (4, 32, 32)
    assert iba.network is before


def test_every_plugin_is_an_attribute_of_its_room() -> None:
    for cls in registry.plugins("methods").values():
        assert getattr(mb.methods, cls.__name__) is cls
    for name, cls in registry.plugins("metrics").items():
        assert getattr(mb.metrics, cls.__name__) is cls
        assert type(getattr(mb.metrics, name.replace("-", "_"))) is cls  # and no module of the room has this name
    assert {"Iba", "MireNoise"} <= set(dir(mb.methods))
    assert {"IROF", "irof", "pixel_flipping"} <= set(dir(mb.metrics))


def test_a_module_of_a_room_is_no_plugin() -> None:
    assert PathFinder.find_spec("mibench.methods.gradcam", mb.methods.__path__)
    from mibench.methods import gradcam

    assert gradcam.__name__ == "mibench.methods.gradcam"


def test_bars_are_drawn_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        drawn = io.StringIO()
        console = Console(file=drawn, force_terminal=terminal, width=80)
        monkeypatch.setattr(progress, "console", lambda console=console: console)
        assert list(progress.bar("ab", 2, "explaining")) == ["a", "b"]
        assert ("explaining" in drawn.getvalue()) == terminal
