"""What explainers cost on networks of natural size, as one table of a machine: `mibench cost`.

Time does not depend on what a network has learned, so weights and inputs are random. Of every explainer: seconds to fit
and to explain a sample within a batch, the peak of memory, and the share of the machine's arithmetic that it uses,

    share = operations / (seconds * peak),      peak: operations a second of one large product of matrices      (1)

measured here, in the same precision. The operations are those of products, convolutions and attention, by torch's
counter.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from mibench.files import writing
from mibench.network import devices
from mibench.network.probe import OpenProbe
from mibench.network.untouched import left_as_found
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, FittedExplainer, Known, Samples, Unsupported
from mibench.plugins.reasons import message, why
from mibench.record import environment
from mibench.run.costs import counted, peak_memory
from mibench.run.explaining import in_batches, sample_seeds
from mibench.run.task import opened

NETWORKS = ("resnet50[weights=random]", "vgg19[weights=random]", "vit-b-16[weights=random]")
SIDES = {"cpu": 2048}  # of the matrices of (1) …
SIDE = 8192  # … and on an accelerator
REPEATS = 3  # the fastest counts


@dataclass(frozen=True)
class Cost:
    """A row of the table; what was not measured is NaN, with the reason."""

    network: str
    explainer: str
    device: str
    precision: str
    samples: int  # in the batch
    fit_seconds: float = float("nan")
    seconds: float = float("nan")  # a sample
    forwards: float = float("nan")  # the same as multiples of a sample's forward in the same batch
    flops: float = float("nan")  # a sample
    share_of_peak: float = float("nan")  # (1)
    peak_mebibytes: float = float("nan")  # of the batch
    reason: str = ""


def costs(
    networks: Sequence[str], methods: Sequence[str], device: str, precision: str, samples: int, calibration: int
) -> Iterator[Cost]:
    """A row for every explainer on every network; one that refuses or fails is a row with its reason."""
    methods = methods or _explainers()
    with devices.numerics(device, precision):
        peak = matrix_peak(torch.device(device), devices.precision_of(precision, device).autocast)
        for network in networks:
            model = registry.model(network)
            probe = opened(model, (), device, precision)
            count = probe.logits(probe.network.example()).shape[1]
            probe = OpenProbe(
                dataclasses.replace(probe.network, classes=tuple(map(str, range(count)))), probe.local, probe.depths
            )
            fitted_on, explained = (_drawn(probe, number, seed) for seed, number in enumerate((calibration, samples)))
            for name in methods:
                row = Cost(network, name, environment.device_class(device), precision, samples)
                try:
                    yield _measured(row, probe, fitted_on, explained, peak)
                except Unsupported as refusal:
                    yield dataclasses.replace(row, reason=message(refusal))
                except Exception as error:  # a plug-in's own code
                    yield dataclasses.replace(row, reason=why(error))


def _explainers() -> list[str]:
    """Every explainer that is found, but for controls that only show what is known."""
    plugins = registry.plugins("methods").items()
    return sorted(name for name, cls in plugins if issubclass(cls, Explainer) and not issubclass(cls, Known))


def _drawn(probe: OpenProbe, count: int, seed: int) -> Samples:
    """Random inputs with the network's own answers."""
    x = torch.randn((count, *probe.shape), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        label = torch.cat([probe.logits(part).argmax(1).cpu() for part in torch.split(x, 16)])
    return Samples(x, label, tuple(f"drawn-{seed}-{number}" for number in range(count)))


def _measured(row: Cost, probe: OpenProbe, calibration: Samples, samples: Samples, peak: float) -> Cost:
    explainer, fit_seconds = registry.explainer(row.explainer), 0.0
    x, target, seeds = samples.x, samples.label, sample_seeds(samples.ids, 0)

    def work() -> None:
        in_batches(explainer, probe, x, target, seeds, len(x))

    def forward() -> None:
        with torch.no_grad():
            probe.logits(x)

    with left_as_found(probe.model):
        if isinstance(explainer, FittedExplainer):
            learned: list[FittedExplainer] = []

            def fit() -> None:
                explainer.restore(probe, explainer.learn(probe, calibration, 0))
                learned.append(explainer)

            fit_seconds = devices.seconds(fit, probe.device)
        mebibytes = peak_memory(work, probe.device)  # this warms up, too
        seconds = devices.seconds(work, probe.device) / len(x)
        forwards = min(devices.seconds(forward, probe.device) for _ in range(REPEATS)) / len(x)
        inputs, classes = x.to(probe.device, copy=True), target.to(probe.device)
        flops = counted(probe, lambda counter: explainer.explain(counter, inputs, classes, seeds))["flops"] / len(x)
    return dataclasses.replace(
        row,
        fit_seconds=fit_seconds,
        seconds=seconds,
        forwards=seconds / forwards,
        flops=flops,
        share_of_peak=flops / seconds / peak,
        peak_mebibytes=mebibytes,
    )


def matrix_peak(device: torch.device, autocast: torch.dtype | None) -> float:
    """Operations a second of one large product of matrices, the fastest of some."""
    side = SIDES.get(device.type, SIDE)
    a, b = (torch.ones((side, side), dtype=autocast or torch.float32, device=device) for _ in range(2))
    torch.mm(a, b)  # warm
    return 2 * side**3 / min(devices.seconds(lambda: torch.mm(a, b), device) for _ in range(REPEATS))


def write(rows: Sequence[Cost], device: str, folder: Path) -> Path:
    """The table of a machine, as cost-DEVICE.csv."""
    kind = environment.processor() if device == "cpu" else environment.device_class(device)
    file = folder / f"cost-{re.sub('[^a-z0-9]+', '-', kind.lower()).strip('-')}.csv"
    text = pd.DataFrame([dataclasses.asdict(row) for row in rows]).to_csv(
        index=False, lineterminator="\n", float_format="%.4g"
    )
    writing.write(file, text.encode())
    return file
