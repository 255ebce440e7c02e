"""What every explainer and metric that is found costs on the planted network, in forward passes of one sample.

An explainer's fit on 512 samples and one sample's explanation; a metric's scores of six maps of five samples each.
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mibench.conformance.bench import COUNT, Bench
from mibench.plugins.contract import Unsupported
from mibench.record.cells import TaskSpec
from mibench.run.costs import counted
from mibench.run.explaining import sample_seeds
from mibench.run.task import make_task
from tests.benchmarks import counts
from tests.benchmarks.clock import seconds

ROUNDS = {"fit": 1, "explain": 7, "score": 5}
FORWARDS = 100


@pytest.fixture(scope="module")
def planted() -> Bench:
    task = make_task(TaskSpec("planted", "planted", samples=COUNT, calibration=512))
    seeds = sample_seeds(task.scoring.ids, 0)
    return Bench("planted", task.probe, task.scoring, task.calibration, task.target, seeds)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "name"), counts.works())
def test_the_cost_in_forward_passes(benchmark: BenchmarkFixture, planted: Bench, stage: str, name: str) -> None:
    benchmark.group, benchmark.name = stage, name
    probe, x = planted.probe, planted.samples.x[:1]

    def forward() -> float:
        with torch.no_grad():
            return seconds(lambda: probe.logits(x), FORWARDS)

    before = forward()
    try:
        work = counts.work(stage, name, planted)
        exact = {} if stage == "fit" else counted(probe, work)  # a fit's are in counts.csv
        benchmark.pedantic(work, (probe,), rounds=ROUNDS[stage])
    except Unsupported as refusal:
        pytest.skip(str(refusal))
    benchmark.extra_info.update(forwards=benchmark.stats.stats.min / min(before, forward()), **exact)
