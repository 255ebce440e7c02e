"""The gate as a whole, ten times: red for an explainer that became slower or worse, green where nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mibench.gate import regression
from mibench.gate.comparison import Change
from mibench.gate.thresholds import read_thresholds
from mibench.methods.smoothgrad import SmoothGrad
from mibench.plugins.contract import Explanation
from mibench.run.run import Options, run
from mibench.suites.suite import Suite, Task

EXPLAIN = SmoothGrad.explain


def go(folder: Path, draw: int) -> Path:
    """A run on images of its own: the planted ones with another share of noise."""
    suite = Suite(
        name="guarded",
        tasks=(Task(model="planted", data=f"planted[noise={0.05 + 0.01 * draw:.2f}]"),),
        methods=("smoothgrad[copies=10]", "saliency"),
        controls=("random",),
        chance="random",
        metrics=("decision-auc", "auc", "relevance-rank-accuracy", "sparseness"),
        samples=32,
        calibration=64,
        gate_samples=0,
        timed_samples=1,
    )
    assert run(suite, Options(out=folder, device="cpu", engine="inline")) is not None
    return folder


def twice(explainer: SmoothGrad, probe: Any, x: Any, target: Any, seeds: Sequence[int]) -> Explanation:
    """The same map after twice the work."""
    EXPLAIN(explainer, probe, x, target, seeds)
    return EXPLAIN(explainer, probe, x, target, seeds)


def blurred(explainer: SmoothGrad, probe: Any, x: Any, target: Any, seeds: Sequence[int]) -> Explanation:
    """Half a cell around each pixel is averaged."""
    maps = EXPLAIN(explainer, probe, x, target, seeds).maps
    blur = nn.AvgPool2d(9, stride=1, padding=4, count_include_pad=False)
    return Explanation({name: blur(each[:, None])[:, 0] for name, each in maps.items()})


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(10))
def test_the_gate_is_red_for_what_became_slower_or_worse_and_else_green(
    draw: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = go(tmp_path / "before", draw)

    def regressions(name: str) -> tuple[Change, ...]:
        return regression.gate(go(tmp_path / name, draw), before, read_thresholds()).regressions

    assert not regressions("unchanged")
    monkeypatch.setattr(SmoothGrad, "explain", twice)
    slower = regressions("slower")
    assert {each.row.method for each in slower} == {"smoothgrad[copies=10]"}
    assert {"flops", "forward_passes", "backward_passes"} <= {each.row.metric for each in slower}
    monkeypatch.setattr(SmoothGrad, "explain", blurred)
    worse = regressions("worse")
    assert {each.row.method for each in worse} == {"smoothgrad[copies=10]"}
    assert {each.family for each in worse} - {"runtime"}
