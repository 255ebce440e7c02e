"""The cuts that are proposed for a network open it, word for word, and resume from there."""

from __future__ import annotations

import sys
import types

import pytest
import torch
import torchvision
from torch import Tensor, nn
from typer.testing import CliRunner

from mibench.cli.main import app
from mibench.errors import ModelError
from mibench.models.layers import Proposal, propose
from mibench.plugins import registry
from mibench.plugins.contract import Model
from mibench.run.task import opened
from tests.methods import heads


def proposed(monkeypatch: pytest.MonkeyPatch, network: nn.Module, shape: tuple[int, ...] = ()) -> Proposal:
    """The cuts for a network that a made-up module builds."""
    module = types.ModuleType("made_up")
    module.build = lambda: network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up", module)
    return propose("made_up:build", shape)


def works(found: Proposal) -> Model:
    """The spec is taken as it is, and the opened network resumes from its local features."""
    model = registry.model(found.spec)
    probe = opened(model, ())
    x = probe.network.example()
    features = probe.features(x)
    assert torch.allclose(probe.resume(features.local).logits, features.logits, atol=1e-5)
    return model


@pytest.mark.parametrize("head", [name for name in heads.HEADS if name != "a branch on values"])
def test_every_idiom_of_a_head_is_opened_at_its_features(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = proposed(monkeypatch, heads.Written(head), heads.SHAPE)
    works(found)
    assert found.local == "features"


def small_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5)


def table() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


NETWORKS = {  # builder, shape -> kind, local, representation
    "resnet18": (torchvision.models.resnet18, (3, 64, 64), "grid", "layer4", "avgpool"),
    "vgg11": (torchvision.models.vgg11, (), "grid", "features", "classifier.5"),
    "vit": (small_vit, (3, 32, 32), "tokens", "encoder.layers.encoder_layer_1", "encoder"),
    "table": (table, (), "columns", "input", "1"),
}


@pytest.mark.parametrize("name", ["resnet18", "vit", "table", pytest.param("vgg11", marks=pytest.mark.slow)])
def test_well_known_networks_are_opened_where_one_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, shape, *expected = NETWORKS[name]
    found = proposed(monkeypatch, build(), shape)
    works(found)
    assert [found.kind, found.local, found.representation] == expected
    assert {found.local, found.representation} - {"input"} <= {layer.name for layer in found.candidates}


def test_the_command_prints_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    found = proposed(monkeypatch, heads.Written("F.avg_pool2d(h, h.size()[3])"), (3, 32, 32))
    shown = CliRunner().invoke(app, ["layers", "made_up:build", "--shape", "3x32x32"]).output
    assert f'--models "{found.spec}"' in shown
    assert "user[local=features,representation=fc.input,shape=3x32x32]:made_up:build" in shown
    assert "6x16x16" in shown  # the local layer's output


class Unlike(nn.Module):
    """Takes images of 20 x 20 only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 18 * 18, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).flatten(1))  # type: ignore[no-any-return]


def test_what_cannot_be_opened_is_refused_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="give --shape, such as 3x32x32"):
        proposed(monkeypatch, Unlike())
    works(proposed(monkeypatch, Unlike(), (3, 20, 20)))
    with pytest.raises(ModelError, match="gives a tuple, not logits"):
        proposed(monkeypatch, heads.TwoHeads("mean([2, 3])"))


def test_a_network_of_two_heads_is_refused_before_anything_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    proposed(monkeypatch, heads.Written("mean([2, 3])"), heads.SHAPE)
    sys.modules["made_up"].build = lambda: heads.TwoHeads("mean([2, 3])")
    with pytest.raises(ModelError, match=r"returns a tuple, not one tensor of logits.*return the logits alone"):
        opened(registry.model("user[local=features,representation=fc.input,shape=3x8x8]:made_up:build"), ())
