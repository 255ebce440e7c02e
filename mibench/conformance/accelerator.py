"""Does every plug-in give on another device what it gives on the processor? Measured on the tiny networks of the check.

An explainer is fitted, saved, restored and explains; a metric scores rows. The difference is that of maps or scores, as
a share of the largest magnitude. What was found on a machine is kept in the cache folder, for `doctor`.
"""

from __future__ import annotations

import copy
import datetime
import functools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mibench.conformance.bench import COUNT, Bench, benches, rows_of, scene_of
from mibench.conformance.metric_rules import scored
from mibench.network import devices
from mibench.network.probe import open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, Explanation, FittedExplainer, Known, State, Unsupported
from mibench.plugins.reasons import why
from mibench.record import environment, maps, proofs
from mibench.run.explaining import copied, in_batches
from mibench.run.scoring import predictor

CLOSE = 1e-4  # of the largest value
Work = Callable[[Bench], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Comparison:
    """One plug-in on one network: how far two devices are apart, or why nothing can be compared."""

    network: str
    plugin: str
    difference: float
    reason: str = ""
    explained: bool = True  # False: refused on both

    @property
    def agrees(self) -> bool:
        """Whether the devices give the same, a refusal too."""
        return not self.reason and self.difference <= CLOSE


def explainers() -> list[str]:
    """Every explainer that is found and is fitted or explains; what only shows what is known has no device."""
    return sorted(
        name
        for name, cls in registry.plugins("methods").items()
        if issubclass(cls, Explainer) and not issubclass(cls, Known)
    )


def carried(bench: Bench, device: str, autocast: torch.dtype | None = None) -> Bench:
    """A copy of a network on another device, with the same samples, which stay where they are."""
    probe, network = bench.probe, bench.probe.network
    moved = open_probe(
        copy.deepcopy(network.model).to(device),
        kind=network.kind,
        local=probe.local,
        representation=network.representation,
        shape=network.shape,
        classes=network.classes,
        depths=probe.depths,
        device=device,
        autocast=autocast,
    )
    return replace(bench, probe=moved, fits={})


def learned(name: str, bench: Bench) -> State | None:
    """What an explainer learns on a network's device, on the CPU; None of one that learns nothing."""
    explainer = registry.explainer(name)
    if not isinstance(explainer, FittedExplainer):
        return None
    state = explainer.learn(bench.probe, copied(bench.calibration), 0)
    tensors = {key: tensor.detach().cpu() for key, tensor in state.tensors.items()}
    return State(tensors, json.loads(json.dumps(dict(state.facts))))


def ready(name: str, bench: Bench, state: State | None) -> Explainer:
    """An explainer that was restored from a file of what was learned."""
    explainer = registry.explainer(name)
    if isinstance(explainer, FittedExplainer):
        assert state is not None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "state.safetensors"
            digest = maps.write_state(file, state)
            explainer.restore(bench.probe, maps.read_state(maps.Source(file, digest)))
    return explainer


def explained(name: str, bench: Bench) -> Explanation:
    """Fitted, saved, restored and explained on the network's device."""
    explainer = ready(name, bench, learned(name, bench))
    return in_batches(explainer, bench.probe, bench.samples.x, bench.target, bench.seeds, COUNT)


def scores(name: str, bench: Bench) -> dict[str, Tensor]:
    """The scores of every row by one metric."""
    scene = replace(scene_of(bench), predict=predictor(bench.probe, 0))
    return scored(registry.metric(name), scene, rows_of(bench))


def difference(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """The largest difference between tensors of the same names, as a share of the largest magnitude of each."""
    worst = 0.0
    for name, each in first.items():
        a, b = each.double().cpu(), second[name].double().cpu()
        if not torch.equal(a.isfinite(), b.isfinite()):
            return float("inf")
        a, b = (torch.where(side.isfinite(), side, 0.0) for side in (a, b))
        scale = float(a.abs().max()) or 1.0
        worst = max(worst, float((a - b).abs().max()) / scale)
    return worst


def compare(bench: Bench, other: Bench, methods: Iterable[str], metrics: Iterable[str]) -> Iterator[Comparison]:
    """Hold every plug-in's maps and scores on one device against those on another."""
    for name in methods:
        yield compared(bench.name, name, functools.partial(_maps, name), bench, other)
    for name in metrics:
        yield compared(bench.name, name, functools.partial(scores, name), bench, other)


def _maps(name: str, bench: Bench) -> Mapping[str, Tensor]:
    return explained(name, bench).maps


def compared(network: str, name: str, work: Work, bench: Bench, other: Bench) -> Comparison:
    """One plug-in's work on two devices."""
    refused = ["", ""]
    found: list[Mapping[str, Tensor]] = []
    for number, each in enumerate((bench, other)):
        try:
            found.append(work(each))
        except Unsupported as refusal:
            refused[number] = str(refusal)
        except Exception as error:  # whatever a plug-in raises on a device is the result
            return Comparison(network, name, float("inf"), why(error))
    if any(refused):
        same = bool(refused[0]) == bool(refused[1])
        if not same:
            return Comparison(network, name, float("inf"), f"refused on one device alone: {max(refused)}", False)
        return Comparison(network, name, 0.0, explained=False)
    return Comparison(network, name, difference(*found))


def prove(device: str) -> list[Comparison]:
    """Compare everything that is found on every tiny network, and keep that it was done on this machine."""
    found: list[Comparison] = []
    with devices.numerics(device, "fp32"):
        for bench in benches():
            found += compare(bench, carried(bench, device), explainers(), registry.names("metrics"))
    keep(device, found)
    return found


def keep(device: str, found: Iterable[Comparison]) -> None:
    """Write what was found to the cache folder."""
    found = list(found)
    failed = [each for each in found if not each.agrees]
    worst = max((each.difference for each in found if each.agrees), default=0.0)
    told = {
        "device": environment.device_class(device),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "torch": torch.__version__,
        "code": proofs.code(),
        "compared": len(found),
        "failed": len(failed),
        "largest difference": worst,
        "first failure": f"{failed[0].network}: {failed[0].plugin}: {failed[0].reason or failed[0].difference}"
        if failed
        else "",
    }
    file = proofs.path(str(told["device"]))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(told, indent=1) + "\n")
