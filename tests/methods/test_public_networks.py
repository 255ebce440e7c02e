"""Networks as they are published are loaded at the first try, and explained by every method that can walk them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from mibench.models.layers import propose
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Unsupported
from mibench.run.task import opened
from tests.methods.public_networks import CifarResNet, TimmResNet
from tests.methods.small_networks import CLASSES, explained, frozen

SMALL = {"CIFAR's": CifarResNet, "timm's": TimmResNet}
NETWORKS = SMALL | {"torchvision's": lambda: torchvision.models.resnet18(num_classes=3)}
CUTS = {
    "CIFAR's": ("layer3", "linear.input"),
    "timm's": ("layer3", "global_pool"),
    "torchvision's": ("layer4", "avgpool"),
}


def probe_of(name: str, build: Callable[[], nn.Module]) -> OpenProbe:
    local, representation = CUTS[name]
    model = frozen(build()) if name in SMALL else build().eval().requires_grad_(False)
    cuts = {"local": local, "representation": representation}
    return open_probe(model, kind="grid", **cuts, shape=(3, 32, 32), classes=CLASSES)


@pytest.mark.parametrize("network", [*SMALL, pytest.param("torchvision's", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["lrp", "deep-taylor", "mipin", "gradcam"])
def test_published_styles_of_resnets_are_explained(method: str, network: str) -> None:
    found = explained(registry.explainer(method), probe_of(network, NETWORKS[network])).maps["map"]
    assert found.shape == (4, 32, 32)
    assert bool(found.isfinite().all())
    assert float(found.std()) > 0


@pytest.mark.parametrize("method", ["patternnet", "patternattribution", "mipin[depth=input]"])
def test_a_residual_network_is_no_chain_down_to_its_input_and_says_where(method: str) -> None:
    with pytest.raises(Unsupported, match=r"values meet at '\w+'.*choose lrp, or mipin\[depth=classifier\]"):
        explained(registry.explainer(method), probe_of("CIFAR's", CifarResNet))


@pytest.mark.parametrize("style", ["net, module.", "state_dict, model.", "model, _orig_mod.", "state_dict, module."])
def test_a_published_checkpoint_is_loaded_at_the_first_try(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    key, prefix = style.split(", ")
    published = frozen(CifarResNet(), seed=5)
    named = {f"{prefix}{name}": tensor for name, tensor in published.state_dict().items()}
    torch.save({key: named, "acc": 91.7, "epoch": 182, "best_prec1": 91.73}, tmp_path / "resnet.th")
    spec = propose("public_networks:build", (3, 32, 32)).spec
    assert "local=layer3,representation=linear.input" in spec
    loaded = opened(registry.model(spec.replace("user[", f"user[name=resnet8,weights={tmp_path / 'resnet.th'},")), ())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.logits(x), published(x))
