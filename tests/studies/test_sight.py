"""The study of sight: a false judge has none, a good one has it, and what fails in validation loses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from leaderboards.studies.lines import PAGE, TABLE, Line, read_table
from leaderboards.studies.sight import judging, page, scatter, study
from mibench.leaderboard.results import CELLS, Results, TaskCard
from mibench.leaderboard.tables import Board, board
from mibench.methods.dose import Dose
from mibench.methods.truth import Truth
from mibench.metrics.information import on_cells
from mibench.plugins import registry
from mibench.record.cards import MethodCard, MetricCard
from mibench.record.cells import TaskSpec
from mibench.record.panel import Panel
from mibench.run.explaining import task_of
from mibench.run.scoring import scene_of
from mibench.statistics.arrays import Array
from mibench.statistics.sight import Ladder, Verdict, sight
from mibench.suites import suite as suites

HOME = Path(study.__file__).parent
GOOD = {
    "truth": 0.9, "truth.additive": 0.9, "dose[noise=0.25]": 0.8, "dose": 0.7, "dose[noise=0.75]": 0.5, "random": 0.3,
    "dose[kind=swapped]": 0.6, "occlusion": 0.75, "ig": 0.6, "saliency": 0.82, "gradcam": 0.7,
}  # fmt: skip
EDGES = GOOD | {"saliency": 0.98, "ig": 0.95}
CONTROLS = [row for row in GOOD if row.startswith(("truth", "dose", "random"))]
FRAIL_ON = "planted-vit[variant=graded]"
NETWORK, FIT = 0.02, 0.005  # standard deviations


@cache
def made(samples: int = 32) -> Board:
    """Three scores of a made-up run of the panel: `good` sees, `edges` prefers what is fine, `frail` fails on a vit."""
    rng = np.random.default_rng(0)
    tables, tasks = [], []
    kinds = {model: model.partition("[")[0].removeprefix("planted-") for model in study.sides(HOME)}
    for model in study.sides(HOME):
        tasks.append(
            TaskCard(model, model, truth="planted", network=kinds[model].replace("planted", "cnn"), networks=3)
        )
        for metric in ("good", "edges", "frail"):
            quality = EDGES if metric == "edges" or (metric == "frail" and model == FRAIL_ON) else GOOD
            tables += [_row(rng, model, metric, row, mean, samples) for row, mean in quality.items()]
    return board(
        Results(
            suite="panel",
            scores=pd.concat(tables, ignore_index=True),
            cells=pd.DataFrame([], columns=list(CELLS)),
            metrics=tuple(
                MetricCard(name, name, "information", "higher", (0.0, 1.0)) for name in ("good", "edges", "frail")
            ),
            methods=tuple(MethodCard(row, row, row in CONTROLS, seeded=row == "gradcam") for row in GOOD),
            tasks=tuple(tasks),
            chance="random",
            known_good=("truth",),
        ),
        Panel(),
    )


def _row(rng: np.random.Generator, model: str, metric: str, row: str, mean: float, samples: int) -> pd.DataFrame:
    shared = np.random.default_rng(1).normal(0, 0.05, samples)
    network, parts = rng.normal(0, NETWORK, 3), []
    for seed in range(6 if row in ("gradcam", "random") else 3):
        moved = (network[seed % 3] + rng.normal(0, FIT)) * (row not in CONTROLS)
        value = np.clip(mean + shared + moved + rng.normal(0, 0.03, samples), 0, 1)
        parts.append(pd.DataFrame({
            "data": model, "model": model, "method": row, "metric": metric, "seed": seed,
            "sample": [f"{k:02d}" for k in range(samples)], "value": value, "reason": "",
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def panel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Panel:
    """What the study writes of it, read again."""
    monkeypatch.setattr(study, "FILE", tmp_path / "panel.json")
    study.write_panel([made()], HOME, {f"{model}/{model}": [] for model in study.sides(HOME)})
    return Panel.read_file(tmp_path / "panel.json", "")


def found(metric: str) -> list[judging.Judged]:
    return [each for each in study.every(made()) if each.metric == metric]


def test_the_good_judge_sees_everywhere_and_the_false_one_nowhere() -> None:
    assert len(found("good")) == len(study.sides(HOME))
    assert all(each.sees for each in found("good"))
    assert not any(each.sees for each in found("edges"))
    assert all("saliency" in each.above for each in found("edges"))
    assert all("above the truth: " in each.why for each in found("edges"))


def test_what_fails_in_validation_loses_its_sight_there_and_is_named() -> None:
    verdicts = study.verdicts(made(), HOME)
    assert verdicts["frail", "cnn"][0] is True
    lost, why = verdicts["frail", "vit"]
    assert lost is False
    assert why.startswith(f"lost in validation on {FRAIL_ON}")
    assert all(verdicts["good", kind][0] for kind in ("cnn", "residual", "vit"))
    assert not any(seen for (metric, _), (seen, _) in verdicts.items() if metric == "edges")


def test_the_panel_that_is_written_has_the_constants_and_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(study, "FILE", tmp_path / "panel.json")
    study.write_panel([made()], HOME, {f"{model}/{model}": [] for model in study.sides(HOME)})
    panel = Panel.read_file(tmp_path / "panel.json", "")
    entry = panel.entry("good", 1, "planted", "vit")
    assert entry is not None
    assert entry.sight
    assert (entry.random, entry.top) == (pytest.approx(0.3, abs=0.03), pytest.approx(0.9, abs=0.03))
    assert entry.prior_networks is not None


def test_the_page_is_made_from_the_table_and_the_verdicts_alone(tmp_path: Path) -> None:
    (tmp_path / "sides.toml").write_text((HOME / "sides.toml").read_text("utf-8"))
    study.measured(made(), tmp_path, lambda text: None)
    assert judging.read_verdicts(tmp_path / judging.VERDICTS)[0].above == found("good")[0].above
    text = (tmp_path / PAGE).read_text("utf-8")
    assert text == page.describe(read_table(tmp_path / TABLE), tmp_path)
    assert f"- frail on {FRAIL_ON}: " in text
    assert "On all of A 2 of 3 scores see: good, frail. On all of B too, 1: good." in text


def test_what_is_gained_by_resolution_and_by_sign_is_told_apart(tmp_path: Path) -> None:
    names = {"irof": 0.2, "irof@cells[signed=true]": 0.5, "irof@cells": 0.6}
    lines = [Line("order: task", name, "tau", tau, float("nan"), 9) for name, tau in names.items()]
    assert "So resolution is worth +0.30 and sign +0.10." in "\n".join(page.order(lines))


def test_without_sight_the_truth_is_not_first_and_with_it_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(study, "FILE", tmp_path / "panel.json")
    study.write_panel([made()], HOME, {f"{model}/{model}": [] for model in study.sides(HOME)})
    panel = Panel.read_file(tmp_path / "panel.json", "")
    blindfold = panel.model_copy(
        update={"entries": tuple(each.model_copy(update={"sight": True}) for each in panel.entries)}
    )
    for known, first in ((panel, True), (blindfold, False)):
        order = board(made().results, known).order((FRAIL_ON, FRAIL_ON))
        truth = next(each.value for each in order.controls if each.method == "truth")
        assert order.places
        assert all(truth > each.value for each in order.places) is first


def test_networks_scatter_more_than_fits_and_both_are_found_again() -> None:
    rows = [*scatter.scattered(made(256))]
    fits, networks = ([each for each in rows if each.which == which] for which in ("fits", "networks"))
    assert {each.method for each in fits} == {"gradcam"}, "others have one fit a network"
    assert np.mean([each.level for each in fits]) == pytest.approx(FIT**2, rel=0.5)
    assert np.mean([each.level for each in networks]) == pytest.approx(NETWORK**2 + FIT**2, rel=0.4)


def test_sides_are_tasks_of_the_suite_and_b_holds_whole_networks() -> None:
    models = {task.model for task in suites.load("panel").tasks}
    side = study.sides(HOME)
    assert {*side} <= models
    kind = {model: registry.model(model).architecture for model in side}
    of_a = {model for model, each in side.items() if each == "A"}
    variants = {registry.parse(model).parameters["variant"] for model in of_a}
    for model in side.keys() - of_a:
        fresh = kind[model] not in {kind[each] for each in of_a}
        assert fresh or registry.parse(model).parameters["variant"] not in variants


def test_on_real_maps_a_judge_of_edges_has_no_sight_and_one_of_cells_has() -> None:
    spec = TaskSpec("planted[variant=graded]", "planted[variant=graded]", samples=32, calibration=64)
    task, scene = task_of(spec, "cpu", "fp32"), scene_of(spec, "cpu", "fp32", 0, 0)
    samples = replace(task.scoring, truth=task.truth)
    maps = {"truth": Truth().show(task.probe, samples, task.target).maps["additive"]}
    for noise in (0.25, 0.5, 0.75, 1.0):
        maps[f"{noise:g}"] = Dose(noise=noise).show(task.probe, samples, task.target).maps["decision"]
    maps["half"] = Dose(kind="swapped").show(task.probe, samples, task.target).maps["decision"]
    explainer = registry.explainer("input-x-gradient")
    maps["input-x-gradient"] = explainer.explain(task.probe, scene.x, scene.target, scene.seeds).maps["map"]
    edges = _edges(scene.x)

    def by_cells(shown: Tensor) -> Array:
        return _correlations(on_cells(scene, shown.double()), on_cells(scene, maps["truth"].double()))

    def by_edges(shown: Tensor) -> Array:
        return _correlations(shown.abs().flatten(1).double(), edges.flatten(1).double())

    assert _judged(by_cells, maps).sight
    false = _judged(by_edges, maps)
    assert false.judged
    assert not false.sight
    assert false.above == ("input-x-gradient",)


def _judged(score: Callable[[Tensor], Array], maps: Mapping[str, Tensor]) -> Verdict:
    values = {name: score(each) for name, each in maps.items()}
    doses = tuple((name, values[name]) for name in ("truth", "0.25", "0.5", "0.75", "1"))
    rivals = {"input-x-gradient": values["input-x-gradient"]}
    return sight(Ladder(values["truth"], doses, values["half"], rivals), 1, 2.0)


def _edges(x: Tensor) -> Tensor:
    grey = x.mean(1)
    down, right = torch.zeros_like(grey), torch.zeros_like(grey)
    down[:, 1:], right[:, :, 1:] = grey.diff(dim=1), grey.diff(dim=2)
    return (down.square() + right.square()).sqrt()


def _correlations(first: Tensor, second: Tensor) -> Array:
    a, b = (each - each.mean(1, keepdim=True) for each in (first, second))
    return np.asarray(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).numpy())
