"""The default scores of ten rows against Quantus' metrics called one by one: the same numbers, for less."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from mibench.metrics import faithfulness_agreement as agreement
from mibench.metrics import faithfulness_curves as curves
from mibench.metrics import localisation
from mibench.metrics.concentration import Complexity, Sparseness
from mibench.metrics.perturbation import forwards
from mibench.plugins.contract import Evidence, Metric
from tests import needs
from tests.metric_worlds import Lite, World, evidence, photograph_world, quantus_score, signed_maps, world_of

quantus = needs.quantus()

ROWS = 10
Seconds = Mapping[str, tuple[float, float]]  # ours and Quantus', by score
LOCALISATION = ("PointingGame", "TopKIntersection", "RelevanceRankAccuracy", "RelevanceMassAccuracy", "AUC")


class Small(nn.Module):
    """A network of the size that MNIST wants."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(1568, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)
        nn.init.normal_(self.head.weight, std=2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.trunk(x)))


def rows_of(world: World) -> dict[str, Evidence]:
    count, _, height, width = world.scene.x.shape
    generator = torch.Generator().manual_seed(5)
    return {f"row {n}": evidence(torch.rand(count, height, width, generator=generator)) for n in range(ROWS)}


def pairs(world: World, step: int, patch: int) -> dict[str, tuple[Metric, Callable[[Evidence], Any]]]:
    """Our metric and Quantus' call for each score of the default set, with the same settings."""
    side, channels = world.scene.x.shape[-1], world.scene.x.shape[1]
    steps, theirs = side * side // step, partial(quantus_score, world=world, perturb_baseline=0.0)
    flip = curves.PixelFlipping.Parameters(steps=steps)
    region = curves.RegionPerturbation.Parameters(side=side // patch)
    slices = agreement.FaithfulnessEstimate.Parameters(steps=steps, output="probability")
    sets = agreement.FaithfulnessCorrelation.Parameters(output="probability")
    size = round(0.2 * side * side) * channels
    found: dict[str, tuple[Metric, Callable[[Evidence], Any]]] = {
        "PixelFlipping": (curves.PixelFlipping(flip), partial(_sliced, world, "PixelFlipping", step)),
        "RegionPerturbation": (
            curves.RegionPerturbation(region),
            lambda row: theirs("RegionPerturbation", row=row, patch_size=patch, regions_evaluation=24),
        ),
        "IROF": (
            curves.IROF(curves.IROF.Parameters(segments=100, smoothing=0)),
            lambda row: theirs("IROF", row=row, perturb_func=_black, call={"batch_size": 1}),
        ),
        "FaithfulnessEstimate": (
            agreement.FaithfulnessEstimate(slices),
            partial(_sliced, world, "FaithfulnessEstimate", step),
        ),
        "FaithfulnessCorrelation": (
            agreement.FaithfulnessCorrelation(sets),
            lambda row: theirs("FaithfulnessCorrelation", row=row, nr_runs=100, subset_size=min(size, side * side - 1)),
        ),
        "Sparseness": (Sparseness(), lambda row: quantus_score("Sparseness", world, row, abs=True)),
        "Complexity": (Complexity(), lambda row: quantus_score("Complexity", world, row, abs=True)),
    }
    if channels == 1:
        found["ROAD"] = (
            curves.ROAD(),
            lambda row: quantus_score("ROAD", world, row, percentages=[10, 30, 50, 70, 90], noise=0.01),
        )
    for name in LOCALISATION:
        settings = {"k": int(0.01 * side * side)} if name == "TopKIntersection" else {}
        found[name] = (getattr(localisation, name)(), partial(_localised, world, name, settings))
    return found


def _sliced(world: World, name: str, step: int, row: Evidence) -> Any:
    """Quantus counts the channels of a pixel one by one and refuses steps that do not divide the pixels."""
    step *= world.scene.x.shape[1]
    with mock.patch.object(quantus.helpers.asserts, "assert_features_in_step"):
        return quantus_score(name, world, row, features_in_step=step, perturb_baseline=0.0)


def _localised(world: World, name: str, settings: dict[str, Any], row: Evidence) -> Any:
    return quantus_score(name, world, row, **settings)


def _black(arr: np.ndarray, mask: np.ndarray, **_: Any) -> np.ndarray:
    return np.where(mask, 0.0, arr).astype(arr.dtype)


class Watched:
    """The network as scenes ask it, with the time that it takes and the inputs that it is shown."""

    def __init__(self, world: World) -> None:
        self.model, self.seconds, self.watching = world.model, 0.0, 0.0
        self.batch = max(1, 2**17 // world.scene.x[0].numel())
        self.shown: list[int] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        before = time.process_time()
        self.shown += [hash(one.numpy().tobytes()) for one in inputs]
        start = time.process_time()
        self.watching += start - before
        with torch.no_grad():
            logits = torch.cat([self.model(part) for part in inputs.split(self.batch)])
        self.seconds += time.process_time() - start
        return logits


def race(world: World, step: int, patch: int) -> tuple[Seconds, float]:
    """Seconds for ten rows, ours and Quantus', score by score in one process; numbers and forwards are compared."""
    rows, seconds, network = rows_of(world), {}, Watched(world)
    scene = dataclasses.replace(world.scene, predict=network)
    for name, (metric, theirs) in pairs(world, step, patch).items():
        start, watching = time.process_time(), network.watching
        ours = metric.score(scene, rows)
        middle = time.process_time()
        answers = {row: theirs(evidence_) for row, evidence_ in rows.items()}
        seconds[name] = (middle - start - (network.watching - watching), time.process_time() - middle)
        told = f"{name:24s} {seconds[name][0]:8.3f} s, Quantus {seconds[name][1]:8.3f} s"
        if name not in ("FaithfulnessCorrelation", "ROAD"):  # these draw: compared on the same draws in another test
            worst = max(np.abs(ours[row].numpy() - scaled(name, metric, world, answers[row])).max() for row in rows)
            told += f", largest difference {worst:.1e}"
            assert worst < 1e-3, "single precision: the size of a batch shows in the last digits"
        print(told)
    asked, run, distinct = forwards(scene).asked, len(network.shown), len(set(network.shown))
    rest = 1 - network.seconds / sum(ours for ours, _ in seconds.values())
    print(f"forwards asked {asked}, run {run}, distinct inputs {distinct}; what is no forward takes {rest:.1%}")
    assert run <= 1.05 * distinct
    return seconds, rest


def kept(benchmark: BenchmarkFixture, images: str, races: list[tuple[Seconds, float]]) -> dict[str, float]:
    """How many times longer Quantus takes, for all scores and for two kinds of them, as a row of the table."""
    benchmark.group, benchmark.name = "peer", f"default scores of ten rows, {images}"
    names = list(races[0][0])

    def spent(who: int, chosen: Iterable[str]) -> float:
        return sum(seconds[name][who] for seconds, _ in races for name in chosen)

    parts = {"times": names, "times_correlation": ["FaithfulnessCorrelation"], "times_localisation": LOCALISATION}
    times = {part: spent(1, chosen) / spent(0, chosen) for part, chosen in parts.items()}
    rest = sum(rest for _, rest in races) / len(races)
    found = times | {"not_forwards": rest}
    benchmark.extra_info.update(seconds=spent(0, names) / len(races), peer="Quantus one by one", **found)
    return found


@pytest.mark.slow
def test_ten_rows_on_small_images_cost_a_third_of_quantus(benchmark: BenchmarkFixture) -> None:
    world = world_of(Small(), count=8, channels=1, side=28)
    races = benchmark.pedantic(lambda: [race(world, step=28, patch=4) for _ in range(3)])
    found = kept(benchmark, "28 x 28", races)
    assert found["not_forwards"] < 0.15
    assert found["times_correlation"] > 5
    assert found["times_localisation"] > 20, "milliseconds: measured between 25 and 30"
    assert found["times"] > 1 / 0.35


@pytest.mark.slow
def test_ten_rows_on_photographs_cost_less_than_quantus(benchmark: BenchmarkFixture) -> None:
    world = world_of(Lite(), count=1, channels=3, side=224)
    found = kept(benchmark, "224 x 224", [benchmark.pedantic(race, (world,), {"step": 1792, "patch": 28})])
    assert found["not_forwards"] < 0.15
    assert found["times_correlation"] > 5
    assert found["times_localisation"] > 25
    assert found["times"] > 1 / 0.6


@pytest.mark.slow
def test_scores_on_photographs_are_quantus_numbers() -> None:
    world = photograph_world()
    row = evidence(signed_maps(world).abs())
    for name, (metric, theirs) in pairs(world, step=1792, patch=28).items():
        if name != "FaithfulnessCorrelation":  # draws its own sets
            ours = metric.score(world.scene, {"row": row})["row"].numpy()
            worst = np.abs(ours - scaled(name, metric, world, theirs(row))).max()
            print(f"{name:24s} {worst:.1e}")
            assert worst < 1e-6


def scaled(name: str, metric: Metric, world: World, theirs: Any) -> np.ndarray:
    """Quantus' numbers divided as ours are."""
    values = np.array(theirs, dtype=float)
    if name == "PixelFlipping":
        return np.trapezoid(values, axis=1) / (values.shape[1] - 1)
    if name == "RegionPerturbation":
        return values.sum(1) / (values.shape[1] + 1)
    if name == "IROF":
        return values / (curves.segments(world.scene, 100, 0.0).amax(1).numpy() + 1)
    return values
