"""Whatever a plug-in raises or changes is its own row, and every other cell is as it would be without it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest
import torch

from mibench.conformance.check import check
from mibench.errors import Interrupted, UsageError, interrupts_later, interrupts_told_apart
from mibench.network.untouched import Changed, SamplesChanged, Seen, left_as_found, settings
from mibench.plugins import catalogue, registry
from mibench.plugins.contract import Explainer, Explanation, Metric, Probe
from mibench.record.store import Store
from mibench.run import worker
from mibench.run.explaining import ExplainerFault, in_batches
from tests.run.test_run import go, scores
from tests.toy_suite import toy


@pytest.fixture
def toy_plugins(toy: None) -> None:
    """The toys, under a name that leaves `toy` to the suite of them."""


RAISED = ("exit-call", "interrupt", "base", "generator-exit", "mute", "full", "record", "surrogate", "long")
SPOILT = ("spoil-x", "spoil-target", "spoil-task", "dtype", "gradients-off", "weights")


def faulty(how: str) -> str:
    return f"faulty[how={how}]"


def statuses(folder: Path, stage: str) -> dict[str, tuple[str, str]]:
    with Store(folder) as store:
        return {each.method: (each.status, each.reason) for each in store.cells(stage)}


def test_whatever_is_raised_is_a_row_and_no_other_cell_changes(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path / "without", toy(methods=("bright", "learned"), gate_samples=0, metrics=("inside",)))
    methods = (*map(faulty, RAISED), *map(faulty, SPOILT), "bright", "learned")
    go(tmp_path / "with", toy(methods=methods, gate_samples=0, metrics=("inside",)))
    found = statuses(tmp_path / "with", "explain")
    assert {found[faulty(how)][0] for how in RAISED} == {"failed"}
    assert found[faulty("spoil-task")] == ("failed", "changed the samples: scoring x (its values changed)")
    assert found[faulty("weights")][1].startswith("left the network changed")
    assert all(len(reason) < 600 and reason.isprintable() for _, reason in found.values())
    table = scores(tmp_path / "with")
    others = table[~table["method"].str.startswith("faulty")].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, scores(tmp_path / "without"), check_exact=True)


def test_each_metric_of_another_package_gets_copies_and_its_own_worker(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path / "without", toy(metrics=("inside",)))
    go(tmp_path / "with", toy(metrics=("spoiler", "inside", "quitter")), engine="local", jobs=2)
    table = scores(tmp_path / "with")
    inside = table[table["metric"] == "inside"].reset_index(drop=True)
    pd.testing.assert_frame_equal(inside, scores(tmp_path / "without"), check_exact=True)
    with Store(tmp_path / "with") as store:
        found = {(each.metric, each.status) for each in store.cells("score")}
    assert found == {("inside", "ok"), ("spoiler", "failed"), ("quitter", "failed")}


def test_samples_that_were_changed_are_named() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(SamplesChanged, match="changed the samples: x"), left_as_found(torch.nn.Linear(3, 2), {"x": x}):
        x[0, 0] = 1
    before = settings()
    with left_as_found(torch.nn.Linear(3, 2), {"x": x}):
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        os.chdir("/")
    assert settings() == before
    assert issubclass(SamplesChanged, Changed)


@pytest.mark.parametrize("what", ["network", "samples"])
def test_changes_by_a_plug_ins_late_thread_are_seen_by_the_next_job(what: str) -> None:
    model, x, seen = torch.nn.Linear(3, 2), torch.ones(4, 3), Seen()
    for _ in range(2):
        with left_as_found(model, {"x": x}, seen):
            pass
    (x if what == "samples" else model.weight.data).add_(1)
    with pytest.raises(Changed, match="after it had returned"), left_as_found(model, {"x": x}, seen):
        pass


def test_a_lookup_at_known_places_imports_what_it_needs_alone(toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    places = registry.places()
    assert places["methods", "bright"] == registry.Place(module="toy.methods", attribute="Bright", ours=False)
    assert places["methods", "gradcam"].ours
    for name in [name for name in sys.modules if name.startswith(("toy", "mibench.metrics."))]:
        monkeypatch.delitem(sys.modules, name)
    registry.use(places)
    try:
        assert registry.explainer("bright[power=2]").parameters.power == 2
        assert not registry.is_ours(registry.explainer("bright"))
        assert registry.is_ours(registry.explainer("gradcam"))
        with pytest.raises(UsageError, match="did you mean bright"):
            registry.explainer("brigth")
    finally:
        registry.use(None)
    assert "toy.methods" in sys.modules
    assert not [name for name in sys.modules if name.startswith(("toy.metrics", "mibench.metrics."))]


def test_a_need_that_nothing_gives_is_refused(toy_plugins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: type[Metric] = type(registry.metric("inside"))
    monkeypatch.setattr(inside, "needs", frozenset({"masks"}))
    wrong = catalogue.metric("inside").model_copy(update={"needs": inside.needs})
    monkeypatch.setattr(catalogue, "metrics", lambda specs: [wrong for _ in specs])
    with pytest.raises(UsageError, match=r"metric 'inside' needs 'masks': .*did you mean mask"):
        go(Path("nowhere"), toy(metrics=("inside",)))
    broken = {finding.rule for finding in check(inside()) if finding.verdict == "broken"}
    assert "declares direction and range" in broken


def test_check_makes_a_broken_rule_of_whatever_is_raised(toy_plugins: None) -> None:
    for how in ("exit-call", "interrupt", "generator-exit", "mute"):
        findings = check(registry.method(faulty(how)))
        assert "broken" in {finding.verdict for finding in findings}


def test_an_interrupt_in_the_middle_of_an_import_comes_after_it() -> None:
    imported: list[str] = []

    def importing() -> None:
        with interrupts_later():
            signal.raise_signal(signal.SIGINT)
            imported.append("torch")

    with pytest.raises(KeyboardInterrupt):
        importing()
    assert imported
    with pytest.raises(KeyboardInterrupt):  # and as ever from then on
        signal.raise_signal(signal.SIGINT)


def test_the_user_s_own_interrupt_is_told_from_a_plug_in_s() -> None:
    with pytest.raises(Interrupted), interrupts_told_apart():
        signal.raise_signal(signal.SIGINT)
    assert worker.lost(KeyboardInterrupt()).reason.startswith("KeyboardInterrupt")


def test_an_explainer_that_returns_nothing_is_refused_and_not_asked_again() -> None:
    class Silent(Explainer):
        calls = 0

        def explain(self, probe: Probe, x: torch.Tensor, target: torch.Tensor, seeds: Sequence[int]) -> Explanation:
            self.calls += 1
            return None  # type: ignore[return-value]

    explainer, probe = Silent(), cast(Probe, SimpleNamespace(device=torch.device("cpu")))
    with pytest.raises(ExplainerFault, match="returned NoneType, not an Explanation"):
        in_batches(explainer, probe, torch.zeros(4, 3, 8, 8), torch.zeros(4).long(), (0, 1, 2, 3), 2)
    assert explainer.calls == 1
