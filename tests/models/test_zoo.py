"""Every model of the zoo can be opened at its cut points, and goes on from each of them without what lies before."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mibench.models.training import frozen
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Model

SPECS = {  # where the plain name would download, or take long
    "cnn-c": "cnn-c[data=digits]",
    "resnet18": "resnet18[weights=random]",
    "resnet50": "resnet50[weights=random]",
    "vgg16": "vgg16[weights=random]",
    "vgg19": "vgg19[weights=random]",
    "vit-b-16": "vit-b-16[weights=random]",
    "user": "user[local=features,representation=avgpool,shape=3x16x16]:made_networks:build",
}
SMALLER = dict.fromkeys(("resnet18", "resnet50", "vgg16", "vgg19"), (3, 64, 64))  # the same layers, less to do
LONG = ("vit-b-16", "vgg16")  # an input that cannot be made smaller; weights that are drawn longer than used
ZOO = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in registry.names("models")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained, and the user's module can be imported."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for module in ("appendix", "mlp", "planted", "prototype"):
        monkeypatch.setattr(f"mibench.models.{module}.trained", lambda lesson, build, teach: untrained(build()))


def untrained(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter[0].numel()))
    return frozen(network)


def opened(name: str) -> tuple[Model, OpenProbe]:
    model = registry.model(SPECS.get(name, name))
    probe = open_probe(
        model.load(),
        kind=model.kind,
        local=model.local,
        representation=model.representation,
        depths=model.depths,
        shape=SMALLER.get(name, model.shape),
        classes=(),
    )
    return model, probe


class Touched(TorchDispatchMode):
    """Which of a network's parameters and buffers any operation has read."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {tensor.data_ptr(): name for name, tensor in model.state_dict().items()}
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and leaf.data_ptr() in self.names:
                self.found.add(self.names[leaf.data_ptr()])
        return func(*args, **(kwargs or {}))


def before(probe: OpenProbe, layer: str, x: Tensor) -> set[str]:
    """The parameters that are read until a layer has answered."""
    found: set[str] = set()
    touched = Touched(probe.model)
    handle = dict(probe.model.named_modules())[layer].register_forward_hook(lambda *_: found.update(touched.found))
    with handle, touched:
        probe.logits(x)
    return found


@pytest.mark.parametrize("name", ZOO)
def test_every_cut_gives_the_numbers_of_the_whole_forward(name: str) -> None:
    model, probe = opened(name)
    shape = SMALLER.get(name, model.shape)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    for layer in model.depths:
        with torch.no_grad():
            cut = probe.at(layer)
            whole = cut.features(x)
            with Touched(probe.model) as touched:
                resumed = cut.resume(whole.local)
            earlier = before(probe, layer, x) if layer != "input" else set()
        for again, once in ((resumed.logits, whole.logits), (resumed.representation, whole.representation)):
            assert (again - once).abs().max() <= 1e-5 * once.abs().max(), layer
        assert not touched.found & earlier, layer
        assert touched.found
        assert earlier or layer == "input"


@pytest.mark.parametrize("name", registry.names("models"))
def test_every_model_says_where_it_is_cut_and_how_it_is_normalised(name: str) -> None:
    model = registry.model(SPECS.get(name, name))
    assert model.local in model.depths
    assert model.title
    assert {len(model.mean), len(model.std)} <= {1, model.shape[0]}
    assert min(model.std) > 0
    registry.data(model.data)
