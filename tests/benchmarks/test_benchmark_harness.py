"""What the harness adds to the work that it orders: a share, measured in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mibench import explaining, registry, suite
from mibench.run import Options, run


class Clock:
    """The time spent inside of some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            before = time.perf_counter()
            try:
                return work(*arguments, **keywords)
            finally:
                self.seconds += time.perf_counter() - before

        return timed


@pytest.mark.slow
def test_the_harness_costs_under_a_twentieth_of_explaining_and_scoring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods = ["ig", "smoothgrad", "gradient-shap", "iba", "occlusion", "gradcam", "saliency", "lrp"]
    declared = suite.narrow(suite.load("default"), models=["cnn-m"], methods=methods)
    registry.model("cnn-m").load()  # training is not the harness's, and neither is loading
    clock = Clock()
    monkeypatch.setattr(explaining, "make_task", clock.around(explaining.make_task))
    for method in declared.chosen_methods():
        cls = type(method.explainer)
        for name in ("fit", "restore", "explain"):
            if hasattr(cls, name):
                monkeypatch.setattr(cls, name, clock.around(getattr(cls, name)))
    for metric in declared.chosen_metrics():
        monkeypatch.setattr(type(metric), "score", clock.around(type(metric).score))
    before = time.perf_counter()
    summary = run(declared, Options(out=tmp_path, device="cpu", engine="inline"))
    total = time.perf_counter() - before
    assert not summary.failures
    share = total / clock.seconds - 1
    print(f"\n{clock.seconds:.1f} s explaining and scoring, {total:.1f} s in all: the harness adds {share:.1%}")
    assert share < 0.05
