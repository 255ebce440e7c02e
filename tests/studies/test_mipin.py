"""The study of MIP-IN: what its figures mean, and that its page says which goals are missed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from leaderboards.studies.mipin import study as mipin
from leaderboards.studies.mipin.study import Line, Plan, apc, describe, plans
from mibench.methods.mipin.mipin import MIPIN
from mibench.network.probe import open_probe
from mibench.plugins.contract import Samples
from mibench.suites import suite


def small_task() -> Any:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)
    model = nn.Sequential(*layers).eval().requires_grad_(False)
    probe = open_probe(model, kind="grid", local="input", representation="2", shape=(1, 4, 4), classes=("a", "b", "c"))
    return SimpleNamespace(probe=probe)


def some(count: int) -> Samples:
    x = torch.randn((count, 1, 4, 4), generator=torch.Generator().manual_seed(count))
    return Samples(x, torch.arange(count) % 3, tuple(map(str, range(count))))


def test_completeness_averages_classes_and_then_their_means(monkeypatch: pytest.MonkeyPatch) -> None:
    task, held_out = small_task(), some(7)
    monkeypatch.setattr(mipin, "sources", lambda task, explainer, x, classes: 0.5 * x)
    figures = apc(task, MIPIN(), held_out)
    own = held_out.label[:, None]
    there, left = (task.probe.logits(x).gather(1, own)[:, 0] for x in (held_out.x, 0.5 * held_out.x))
    fall = (there - left) / there.abs()
    means = [fall[held_out.label == c] for c in range(3)]
    assert figures["APC"] == pytest.approx(100 * sum(float(m.abs().mean()) for m in means) / 3, rel=1e-4)
    positive = 100 * sum(float(m.clamp(min=0).mean()) for m in means) / 3
    assert figures["positive APC"] == pytest.approx(positive, rel=1e-4)


def test_source_signals_come_from_the_method_on_the_given_samples() -> None:
    task, x = small_task(), some(5)
    explainer = mipin.fitted("mipin[penalty=0.1]", task.probe, some(60))
    assert mipin.sources(task, explainer, x.x, x.label).shape == x.x.shape


def line(network: str, penalty: str, figure: str, value: float) -> Line:
    return Line("completeness", network, str(Plan(4000, f"penalty={penalty}")), figure, value)


def test_the_page_says_which_goals_are_met_and_which_are_missed() -> None:
    page = describe([line("cnn-m", "auto", "APC", 8.5), line("cnn-m", "0.001", "positive APC", 4.3)])
    assert "cnn-m, APC at most 9 %, 4000, penalty=auto: 8.50, met" in page
    assert "cnn-m, positive APC at most 4 %, 4000, penalty=0.001: 4.30, **missed**" in page


def test_the_goals_are_among_what_is_tried() -> None:
    for network in mipin.GOALS:
        tried = {str(plan) for plan in plans(network, quick=False)}
        assert {"2000, penalty=auto", "4000, penalty=auto", "4000, penalty=0.001"} <= tried


def test_the_page_orders_the_methods_as_they_are_sensitive() -> None:
    figures = {"mipin": 5.0, "gradient": 7.0, "patternattribution": 9.0}
    names = "distance", "distance up to sign"
    lines = [Line("class sensitivity", "cnn-m", name, each, value) for name, value in figures.items() for each in names]
    page = describe(lines)
    assert "- the paper: gradient, mipin, patternattribution\n" in page
    assert "- distance: patternattribution, gradient, mipin (Kendall's tau with the paper -0.33)" in page


def test_the_page_compares_four_methods_order_with_the_papers() -> None:
    turned = {
        "gradient": (9.0, 5.0),
        "mipin": (7.0, 4.0),
        "guided-backprop": (3.0, 3.0),
        "patternattribution": (9.5, 1.0),
    }
    lines = []
    for name, (distance, up_to_sign) in turned.items():
        lines.append(Line("class sensitivity", "cnn-m", name, "distance", distance))
        lines.append(Line("class sensitivity", "cnn-m", name, "distance up to sign", up_to_sign))
    page = describe(lines)
    assert "- of four, by distance: patternattribution, gradient, mipin, guided-backprop: not the paper's order" in page
    assert "- of four, by distance up to sign: gradient, mipin, guided-backprop, patternattribution: the paper" in page
    assert "turned over: gradient 4.00, mipin 3.00, guided-backprop 0.00, patternattribution 8.50" in page


@pytest.mark.parametrize(("kept", "verdict"), [(1.0, "**is not minimal**"), (0.2, "**is minimal**")])
def test_the_page_says_whether_the_source_signal_is_minimal(kept: float, verdict: str) -> None:
    values = {"the decision kept": 1.0, "the redundant glyph kept": kept, "variance shown, redundant": 0.76}
    ways = "forward_relu=true", "forward_relu=false"
    page = describe([Line("minimality", "planted", way, name, value) for way in ways for name, value in values.items()])
    assert f"So S_0 {verdict}" in page
    assert "shows 76 % of the variance" in page


def test_the_committed_page_is_what_the_committed_table_says() -> None:
    folder = Path(mipin.__file__).parent
    assert (folder / "README.md").read_text("utf-8") == describe(mipin.read_table(folder / "table.csv"))


@pytest.mark.parametrize("name", ["mipin-table1", "mipin-table2", "class-sensitivity"])
def test_the_paper_s_suites_name_what_there_is(name: str) -> None:
    assert suite.check(suite.load(name)).name == name
