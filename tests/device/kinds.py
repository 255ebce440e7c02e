"""The tiny networks of the check, one of each kind, and a few-shot network beside them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import nn

from mibench.conformance.bench import CLASSES, COUNT, FITTED, Bench, benches
from mibench.models.prototype import Prototypes
from mibench.network.probe import open_probe
from mibench.plugins.contract import Samples
from mibench.run.explaining import sample_seeds

SIDE = 16
KINDS = ("grid", "tokens", "columns", "few-shot")
QUICK = {  # what learns for long, for the ordinary run; --slow takes the defaults
    "iba-readout": "iba-readout[epochs=2]",
    "milr": "milr[epochs=2]",
    "mire": "mire[epochs=2]",
    "mire-noise": "mire-noise[epochs=2,draws=2]",
    "nif": "nif[reference=64]",
    "nif-min": "nif-min[reference=64]",
}


def bench(kind: str) -> Bench:
    """The network of one kind, on the CPU."""
    return few_shot() if kind == "few-shot" else next(each for each in benches() if each.name == kind)


def few_shot() -> Bench:
    """Two blocks of convolutions and the distances to the prototypes of three ways."""

    def block(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        blocks = OrderedDict(block1=block(1), block2=block(8), avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        embedding = nn.Sequential(blocks).eval()
        x = torch.randn(FITTED + COUNT, 1, SIDE, SIDE)
        with torch.no_grad():
            means = embedding(torch.randn(len(CLASSES), 1, SIDE, SIDE))
    network = nn.Sequential(OrderedDict([*embedding.named_children(), ("prototypes", Prototypes(means))]))
    probe = open_probe(
        network.eval().requires_grad_(False), kind="grid", local="block1", representation="avgpool",
        shape=(1, SIDE, SIDE), classes=CLASSES, depths=("block1", "block2"),
    )  # fmt: skip
    with torch.no_grad():
        target = probe.logits(x).argmax(1)
    mask = torch.zeros(len(x), SIDE, SIDE, dtype=torch.bool)
    mask[:, : SIDE // 2, : SIDE // 2] = True
    everything = Samples(x, target, tuple(f"sample-{number}" for number in range(len(x))), mask)
    samples, calibration = everything[slice(COUNT)], everything[slice(COUNT, None)]
    return Bench("few-shot", probe, samples, calibration, target[:COUNT], sample_seeds(samples.ids, 0))


def enlarged(bench: Bench, count: int) -> Bench:
    """The same network with so many samples to explain."""
    x = torch.randn((count, *bench.probe.shape), generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        target = bench.probe.logits(x).argmax(1).cpu()
    ids = tuple(f"more-{number}" for number in range(count))
    return replace(bench, samples=Samples(x, target, ids), target=target, seeds=sample_seeds(ids, 0))
