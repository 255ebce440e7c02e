"""Small random networks of every kind, opened, and what every explainer must leave as it was."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins.contract import Explainer, Explanation, FittedExplainer, Samples

CLASSES = ("a", "b", "c")


def frozen(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch-norm statistics, ready to be opened."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.3)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return model.eval().requires_grad_(False)


class Residual(nn.Module):
    """Convolutions, batch norms, a residual sum, in-place and reused rectifiers, max and average pools."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.block = nn.Identity()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm1(self.conv1(x))))
        x = self.block(self.relu(x + self.norm2(self.conv2(x))))
        return self.head(self.average(x).flatten(1))  # type: ignore[no-any-return]


class Functional(Residual):
    """The same network written with functions and a capped rectifier."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = self.block(F.relu6(torch.add(x, self.norm2(self.conv2(x)))))
        return self.head(self.average(x).flatten(1))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """A transformer block on four patches and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.block1 = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.block2 = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        return self.head(self.norm(self.block2(self.block1(x)))[:, 0])  # type: ignore[no-any-return]


def convolutional(network: type[nn.Module] = Residual, side: int = 8) -> OpenProbe:
    return open_probe(
        frozen(network()),
        kind="grid",
        local="block",
        representation="average",
        shape=(3, side, side),
        classes=CLASSES,
        depths=("pool", "block"),
    )


def fully_connected() -> OpenProbe:
    """A network on images that is cut at a vector, whose numbers have no place in the image."""
    layers = nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    model = frozen(nn.Sequential(*layers))
    return open_probe(model, kind="grid", local="2", representation="4", shape=(3, 8, 8), classes=CLASSES)


def transformer() -> OpenProbe:
    model = frozen(Tokens())
    return open_probe(model, kind="tokens", local="block1", representation="norm", shape=(3, 8, 8), classes=CLASSES)


def table(*layers: nn.Module, features: int = 5) -> OpenProbe:
    """An MLP on a table's columns; its next to last layer is the representation."""
    hidden = layers or (nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    return open_probe(
        frozen(nn.Sequential(*hidden)),
        kind="columns",
        local="input",
        representation=str(max(0, len(hidden) - 2)),
        shape=(features,),
        classes=CLASSES,
    )


def some(probe: OpenProbe, count: int = 4, seed: int = 1) -> tuple[Tensor, Tensor, list[int]]:
    """Inputs, targets and seeds."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((count, *probe.network.shape), generator=generator)
    return x, torch.arange(count) % len(CLASSES), [11 * index + 5 for index in range(count)]


def calibration(probe: OpenProbe, count: int = 64, seed: int = 2) -> Samples:
    x, target, _ = some(probe, count, seed)
    return Samples(x, target, tuple(f"{index}" for index in range(count)))


def ready(explainer: Explainer, probe: OpenProbe) -> Explainer:
    """The explainer, fitted on some samples if it must be."""
    if isinstance(explainer, FittedExplainer):
        explainer.restore(probe, explainer.learn(probe, calibration(probe), seed=0))
    return explainer


def explained(explainer: Explainer, probe: OpenProbe, count: int = 4) -> Explanation:
    return ready(explainer, probe).explain(probe, *some(probe, count))


def joined(parts: Sequence[Explanation], name: str) -> Tensor:
    return torch.cat([part.maps[name] for part in parts])
