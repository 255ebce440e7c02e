"""MIRE and MI-LR on a device that is not there: torch's fake tensors name it, and refuse to mix it with the CPU.

Nothing is computed, so this says that the code keeps to one device, and not what it finds there. Autograd wants a real
device for its way back; the one that is written by hand is asked by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from mibench.information import infonce
from mibench.methods.milr import milr
from mibench.methods.milr.milr import MiLr
from mibench.methods.mire import mire
from mibench.methods.mire.mire import Mire
from mibench.methods.mire.noise import MireNoise
from mibench.network.calibration import Calibration, Moments
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins.contract import Explanation

COUNT, CHANNELS, CELLS = 16, 6, 16


class Anywhere(torch.Generator):
    """A generator that takes any device's name."""

    def __new__(cls, *_: Any) -> Anywhere:
        return super().__new__(cls)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """CUDA in name: fake tensors, generators of any device, and a probe that need not compare numbers."""
    monkeypatch.setattr(torch, "Generator", Anywhere)
    monkeypatch.setattr("mibench.network.probe._agrees", lambda *_: True)
    monkeypatch.setattr(nn.Module, "to", carried)
    monkeypatch.setattr(nn.Module, "to_empty", carried)
    with FakeTensorMode():
        yield torch.device("cuda:0")


def carried(module: nn.Module, device: torch.device | str) -> nn.Module:
    """`Module.to` for fake tensors, which torch cannot move in their place."""
    for each in module.modules():
        for group in (each._parameters, each._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    group[name] = torch.empty(tensor.shape, device=device).requires_grad_(tensor.requires_grad)
    return module


def opened(device: torch.device) -> OpenProbe:
    layers = nn.Conv2d(1, CHANNELS, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 3)
    model = nn.Sequential(*layers).eval().requires_grad_(False)
    return open_probe(
        model, kind="grid", local="1", representation="3", shape=(1, 8, 8), classes=tuple("abc"), device=device
    )


def looked(probe: OpenProbe) -> Calibration:
    """What `look` gives, without its questions whether numbers are finite, which fake tensors cannot answer."""
    x = torch.randn(COUNT, 1, 8, 8, device=probe.device)
    features = probe.features(x)

    def spread(*shape: int) -> Moments:
        return Moments(torch.zeros(shape, device=probe.device), torch.ones(shape, device=probe.device))

    prediction = features.logits.argmax(1)
    scales = spread(CELLS, CHANNELS), spread(1, CHANNELS), spread(1, CHANNELS)
    return Calibration(probe, x, features.local, features.representation, prediction, prediction, *scales)


def is_on(device: torch.device, tensors: Iterator[Tensor]) -> bool:
    return all(tensor.device == device for tensor in tensors)


@pytest.mark.parametrize(
    ("cls", "parameters"),
    [(Mire, {}), (Mire, {"critic": "mine"}), (Mire, {"precision": "bf16", "joint": 3}), (MireNoise, {})],
    ids=["mire", "mine", "bf16", "noise"],
)
def test_mire_keeps_to_one_device(cls: type[Any], parameters: dict[str, Any], cuda: torch.device) -> None:
    p = cls.Parameters(batch=8, **parameters)
    probe = opened(cuda)
    data = looked(probe)
    order, noise = torch.Generator(), torch.Generator(cuda)
    model = mire.Decomposition(p, data.locals(torch.arange(1)).shape, probe.grid, mire.statistics(data), order)
    model.to(cuda)
    assert is_on(cuda, iter(mire.objective(model, data, torch.arange(8), data.prediction, noise)))
    model.remember(data, order, noise)
    explainer = Mire(p)
    explainer.decomposition = model
    leaves(explainer.explain(probe, data.x, data.prediction, range(COUNT)))


def test_milr_keeps_to_one_device(cuda: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milr.Modules, "z", lambda _, z: z)  # which units vary is a question about numbers …
    with unset_fake_temporarily():
        ones = {f"{name}_deviation": torch.ones(1, CHANNELS) for name in ("channel", "z", "layers")}
        buffers = {**ones, **{name.replace("deviation", "mean"): each for name, each in ones.items()}}
        model = milr.Modules(MiLr.Parameters(), False, buffers, torch.Generator())  # … asked here too
    model.to(cuda)
    probe = opened(cuda)
    data = looked(probe)
    collector = milr.Collector.of(probe)
    layers = collector(data.x[:8])
    objectives = milr.objectives(model, MiLr.Parameters(), data, layers, torch.arange(8), data.prediction)
    assert is_on(cuda, iter(objectives))
    for name in ("total_negatives", "masked_negatives"):
        model.register_buffer(name, torch.randn(9, CHANNELS + 1, device=cuda))
    explainer = MiLr()
    explainer.collector, explainer.modules = collector, model
    leaves(explainer.explain(probe, data.x, data.prediction, range(COUNT)))


def test_the_streamed_gradient_keeps_to_one_device(cuda: torch.device) -> None:
    query, keys = torch.randn(3, 4, device=cuda), torch.randn(20, 4, device=cuda)
    passed = SimpleNamespace(saved_tensors=(query, keys, torch.randn(3, device=cuda)), chunk=8)
    *gradients, _ = infonce._StreamedLogSumExp.backward(passed, torch.randn(3, device=cuda))
    assert is_on(cuda, iter(gradients))


def test_a_tensor_that_was_left_behind_is_seen(cuda: torch.device) -> None:
    probe = opened(cuda)
    data = looked(probe)
    model = mire.Decomposition(
        Mire.Parameters(), data.local.shape, probe.grid, mire.statistics(data), torch.Generator()
    )
    with pytest.raises(RuntimeError, match="on the same device"):  # critic and mask are still on the CPU
        mire.objective(model, data, torch.arange(8), data.prediction, torch.Generator())


def leaves(explanation: Explanation) -> None:
    """Maps and facts come back on the CPU."""
    assert is_on(torch.device("cpu"), iter([*explanation.maps.values(), *explanation.facts.values()]))
