"""What NIF costs where its cost is the point: every edge of MLP-M, and the map of a new image after fitting.

Seconds are processor seconds; `wall` is what the clock says, which says nothing of us where others compute.
"""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
import torch.nn.functional as functional
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from mibench.information.flow import Flow, estimator
from mibench.methods.nif.neurons import choose, read
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import FittedExplainer, Samples
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task
from tests.benchmarks.clock import seconds

pytestmark = pytest.mark.slow


def every_edge(threads: int) -> dict[str, float]:
    """Pairs that vary, processor seconds, seconds, and the peak GiB of this process."""
    torch.set_num_threads(threads)
    task = make_task(TaskSpec("mlp-m", "mnist", samples=8, calibration=1000))
    layers = read(task.probe, task.calibration.x, 28, choose(task.probe, task.calibration.x[:2]))
    flow = Flow(layers, estimator("mixed", 3), "none")
    varying = [int((layer.activations != layer.activations[:1]).any(0).sum()) for layer in layers]
    started = time.perf_counter()
    taken = seconds(flow.edges)
    return {
        "seconds": taken,
        "wall": time.perf_counter() - started,
        "pairs": sum(a * b for a, b in itertools.pairwise(varying)),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


@pytest.mark.timeout(1800)
def test_every_edge_of_mlp_m_on_one_thread_and_on_two(benchmark: BenchmarkFixture) -> None:
    """Two threads share the work and add none to it."""
    benchmark.group, benchmark.name = "NIF", "every pair of MLP-M at 1000 samples"

    def fresh(threads: int) -> dict[str, float]:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(every_edge, threads).result()

    one, two = benchmark.pedantic(fresh, (1,)), fresh(2)
    benchmark.extra_info.update(one | {f"{what}_2_threads": two[what] for what in ("seconds", "wall", "peak_gib")})
    assert one["pairs"] == two["pairs"] > 500_000
    assert two["seconds"] < 1.1 * one["seconds"]
    assert max(one["peak_gib"], two["peak_gib"]) < 2


def one_map(benchmark: BenchmarkFixture, method: str, probe: OpenProbe, x: Tensor) -> None:
    """Time the map of one new sample, fitted on all samples but two, one to warm up."""
    explainer = registry.explainer(method)
    assert isinstance(explainer, FittedExplainer)
    with torch.no_grad():
        target = torch.cat([probe.logits(part).argmax(1) for part in x.split(64)])
    ids = tuple(map(str, range(len(x))))
    explainer.restore(probe, explainer.learn(probe, Samples(x, target, ids)[slice(2, None)], 0))
    explainer.explain(probe, x[:1], target[:1], [0])
    benchmark.pedantic(explainer.explain, (probe, x[1:2], target[1:2], [1]))
    with torch.no_grad():
        forward = seconds(lambda: probe.logits(x[1:2]), 30)
    benchmark.extra_info.update(forwards=benchmark.stats.stats.min / forward)


@pytest.mark.parametrize("method", ["nif", "nif[grid=28]", "nif-min"])
def test_the_map_of_a_new_digit(benchmark: BenchmarkFixture, method: str) -> None:
    benchmark.group, benchmark.name = "NIF", f"{method}: a new digit's map on CNN-M"
    task = make_task(TaskSpec("cnn-m", "mnist", samples=2, calibration=514))
    one_map(benchmark, method, task.probe, task.calibration.x)


@pytest.mark.timeout(1800)
def test_the_map_of_a_photograph(benchmark: BenchmarkFixture) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    method = "nif[grid=28,redundancy=16]"
    benchmark.group, benchmark.name = "NIF", f"{method}: a map of 224 x 224 on EfficientNet-Lite0"
    model = registry.model("efficientnet-lite0")
    probe = open_probe(
        model.load(), kind=model.kind, local=model.local, representation=model.representation, depths=model.depths,
        shape=model.shape, classes=tuple(map(str, range(1000))),
    )  # fmt: skip
    blots = torch.rand(514, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one_map(benchmark, method, probe, functional.interpolate(2 * blots - 1, (224, 224), mode="bilinear"))
