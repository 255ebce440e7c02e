"""Tiny networks with samples, on which plug-ins are tried: one for each kind of local features, with random weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import (
    CLAIMS,
    PERTURBED,
    VARIANTS,
    Evidence,
    Explainer,
    FittedExplainer,
    MapSpec,
    Samples,
    Scene,
    State,
    Truth,
)
from mibench.run.explaining import copied, sample_seeds

COUNT = 5  # samples explained
FITTED = 64  # samples fitted on
CLASSES = ("one", "two", "three")


@dataclass(frozen=True)
class Bench:
    """A tiny network with samples to explain and to fit on."""

    name: str
    probe: OpenProbe
    samples: Samples
    calibration: Samples
    target: Tensor
    seeds: tuple[int, ...]
    fits: dict[str, State] = field(default_factory=dict)  # what was learned here, so that each rule need not fit again


class Tokens(nn.Module):
    """A transformer of one block over 4 x 4 patches and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.first = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)  # (B, 16, 8)
        tokens = torch.cat([self.first.expand(x.shape[0], -1, -1), patches], 1)  # (B, 17, 8)
        logits: Tensor = self.head(self.norm(self.block(tokens))[:, 0])
        return logits


def benches() -> Iterator[Bench]:
    """A convolutional network on images, a transformer on images, a network on tables."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        grid = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, len(CLASSES)),
        )  # fmt: skip
        tokens = Tokens()
        columns = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, len(CLASSES)))
    yield _bench("grid", grid, (1, 16, 16), kind="grid", local="4", representation="6")
    yield _bench("tokens", tokens, (1, 16, 16), kind="tokens", local="block", representation="norm")
    yield _bench("columns", columns, (6,), kind="columns", local="input", representation="3")


def _bench(name: str, network: nn.Module, shape: tuple[int, ...], **cuts: Any) -> Bench:
    probe = open_probe(network.eval().requires_grad_(False), shape=shape, classes=CLASSES, **cuts)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((COUNT + FITTED, *shape), generator=generator)
    with torch.no_grad():
        target = probe.logits(x).argmax(1)
    ids = tuple(f"sample-{number}" for number in range(len(x)))
    everything = Samples(x, target, ids, _mask(x) if len(shape) == 3 else None)
    samples, calibration = everything[slice(COUNT)], everything[slice(COUNT, None)]
    return Bench(name, probe, samples, calibration, target[:COUNT], sample_seeds(samples.ids, 0))


def _mask(x: Tensor) -> Tensor:
    mask = torch.zeros(x.shape[0], *x.shape[2:], dtype=torch.bool)
    mask[:, :8, :8] = True
    return mask


def ready(explainer: Explainer, bench: Bench) -> Explainer:
    """A new explainer of the same parameters, fitted if it is one that is."""
    fresh = type(explainer)(explainer.parameters)
    if isinstance(fresh, FittedExplainer):
        label = registry.label(fresh)
        if label not in bench.fits:
            bench.fits[label] = fresh.learn(bench.probe, copied(bench.calibration), 0)
        fresh.restore(bench.probe, bench.fits[label])
    return fresh


def scene_of(bench: Bench) -> Scene:
    """The samples as a metric sees them."""
    samples = bench.samples
    x = samples.x
    baselines = {
        "mean": x.mean(0, keepdim=True).expand_as(x).clone(),
        "blur": x.roll(1, -1),
        "black": torch.zeros_like(x),
    }
    baselines["uniform"] = torch.rand(x.shape, generator=torch.Generator().manual_seed(3))
    truth = truth_of(bench) if samples.mask is not None else None

    def predict(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return bench.probe.logits(inputs)

    return Scene(x, samples.label, bench.target, predict, bench.probe, baselines, bench.seeds, samples.mask, truth)


def truth_of(bench: Bench) -> Truth:
    """A signal and a redundant cell, each with the information that the three quantities have there."""
    height, width = bench.probe.grid
    signal = torch.zeros(COUNT, height, width, dtype=torch.bool)
    redundant = signal.clone()
    signal[:, 0, 0], redundant[:, -1, -1] = True, True
    nats = torch.tensor(3.0).log()
    roles = {"total": (signal | redundant) * nats, "decision": signal * nats, "redundant": redundant * nats}
    roles |= dict.fromkeys(CLAIMS, roles["decision"])  # of one source the three are the same
    information = _Any(0.5 * bench.samples.x, roles)  # of whatever else an explainer may state
    known = nn.functional.one_hot(bench.target, len(CLASSES)).double()  # (N, C)
    beliefs = torch.stack([torch.full_like(known, 1 / len(CLASSES)), known], 1)  # (N, 2, C)
    source = torch.zeros(COUNT, 1, dtype=torch.int64)
    return Truth((height, width), {"signal": signal, "redundant": redundant}, information, source, beliefs)


def rows_of(bench: Bench) -> dict[str, Evidence]:
    """Random maps that claim each of the roles, a signed one, and whatever else a metric may need."""
    generator = torch.Generator().manual_seed(5)

    def draw(*more: int) -> Tensor:
        return torch.rand((COUNT, *(more or bench.probe.pixels)), generator=generator)

    claims = (
        MapSpec("decision", "decision", "nats"),
        MapSpec("total", "total", "nats"),
        MapSpec("redundant", "redundant", "nats"),
        MapSpec("bits", "decision", "bits"),
        MapSpec("signed", "decision", signed=True),
        MapSpec("plain"),
    )
    raw = {spec.name: draw() - 0.5 * spec.signed for spec in claims}
    few = {name: draw()[:2] for name in (*VARIANTS, f"{PERTURBED}:1", f"{PERTURBED}:2")}
    signals = _Any(bench.samples.x)
    return {
        f"row {spec.name}": Evidence(
            raw[spec.name] / raw[spec.name].abs().amax((1, 2), keepdim=True),
            raw[spec.name],
            spec,
            raw,
            _Any(draw(1)[:, 0]),
            signals,
            few,
        )
        for spec in claims
    }


class _Any(dict[str, Tensor]):
    """Answers to every name: with the same tensor, but for those that it is given."""

    def __init__(self, tensor: Tensor, known: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(known or {})
        self.tensor = tensor

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Tensor:
        return self.tensor
