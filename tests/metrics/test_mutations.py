"""Scoring is broken on purpose, in the ways that nobody would notice: each time a guard must fail."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mibench.metrics import claims, perturbation
from mibench.metrics.completeness import Apc, PositiveApc
from mibench.metrics.edges import EdgeError, PointwiseEdgeError
from mibench.metrics.faithfulness_agreement import Infidelity
from mibench.metrics.information import (
    DecisionAUC,
    DecisionHard,
    EstimatorError,
    InformationError,
    RedundancyTest,
    RedundantAUC,
    RedundantHard,
    TotalAUC,
)
from mibench.plugins.contract import CLAIMS, Evidence, Explanation, MapSpec, Metric, Scene
from mibench.record.cells import Cell
from mibench.record.maps import Saved
from mibench.run import explaining, scoring
from tests.metric_worlds import evidence, image_world, signed_maps
from tests.metrics import test_forwards as forwards_tests
from tests.metrics import test_information as information_tests
from tests.metrics import test_room as room_tests

SPEC = MapSpec("map", signed=True)
CLAIMED = (
    *(claims.RankMarginal, claims.RankConditional, claims.RankAdditive, claims.ClaimedError),
    *(claims.ProfileMarginal, claims.ProfileConditional, claims.ProfileAdditive),
)
OTHERS = [  # what the room's three maps in order do not reach: these need truth, other maps or signals
    *(DecisionAUC, DecisionHard, TotalAUC, RedundantAUC, RedundantHard, InformationError, EstimatorError),
    *(RedundancyTest, Apc, PositiveApc, EdgeError, PointwiseEdgeError),
    *CLAIMED,
]
IN_ORDER = [
    metric
    for metric in room_tests.ROOM
    if room_tests.scorable(metric) and metric.name not in room_tests.BLIND_TO_INVERSION | room_tests.GATES
]


def right_and_wrong(metric: type[Metric]) -> tuple[Scene, Evidence, Evidence]:
    """A scene, and two rows of which the first is right about it and the second wrong."""
    if metric in (Apc, PositiveApc):
        scene = image_world().scene
        kept, lost = ({"source": source} for source in (scene.x, torch.zeros_like(scene.x)))
        blank = torch.rand(len(scene.x), 24, 24)
        worse = evidence(blank, signals=lost)
        fallen = Apc().score(scene, {"row": worse})["row"]
        assert float(fallen.min()) > 0
        return scene, evidence(blank, signals=kept), worse
    scene = information_tests.planted().scene
    truth = scene.truth
    assert truth is not None
    if metric in (EdgeError, PointwiseEdgeError):
        edges = torch.rand(len(scene.x), 4, generator=torch.Generator().manual_seed(0))
        known = dataclasses.replace(truth, information={metric.signal: edges})  # type: ignore[attr-defined]
        stated = (
            evidence(torch.rand(len(scene.x), 24, 24), signals={metric.signal: each}) for each in (edges, 1 - edges)
        )  # type: ignore[attr-defined]
        return dataclasses.replace(scene, truth=known), *stated
    if metric in CLAIMED:
        nats = truth.information["decision"]
        here = dataclasses.replace(scene, truth=dataclasses.replace(truth, information=dict.fromkeys(CLAIMS, nats)))
        spec = MapSpec("map", unit="nats", signed=True, claim="additive")
        maps = (scene.probe.upsample(each.float()) for each in (nats, nats.max() - nats))
        return here, *(dataclasses.replace(evidence(each), spec=spec) for each in maps)
    role = getattr(metric, "role", "total" if metric is EstimatorError else "decision")
    other = {"decision": "redundant", "redundant": "decision", "total": "total"}
    right = information_tests.rows(scene, dict(truth.information))
    swapped = {name: truth.information[other[name]] for name in truth.information}
    swapped["total"] = truth.information["total"].max() - truth.information["total"]
    return scene, right[role], information_tests.rows(scene, swapped)[role]


def holds_the_direction(metric: type[Metric]) -> None:
    """The right row is better than the wrong one, as the metric understands better."""
    scene, right, wrong = right_and_wrong(metric)
    found = metric().score(scene, {"right": right, "wrong": wrong})
    good, bad = float(found["right"].nanmean()), float(found["wrong"].nanmean())
    assert good > bad if metric.direction == "higher" else good < bad


def read(maps: Tensor) -> tuple[Evidence, list[str]]:
    """What a metric sees of saved maps, as the harness judges and reads them."""
    reasons = [explaining.fault(one) for one in maps]
    return scoring.evidence_of(Saved(Explanation({"map": maps}), {"map": reasons}), SPEC, {}), reasons


def judged(scene: Scene, maps: Tensor, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The scores that the harness records, and its reasons."""
    metric = next(found for found in room_tests.ROOM if found.name == name)()
    (outcome,) = scoring.judge(metric, scene, {"row": read(maps)}, [Cell("key", "score", "task", "row", name)])
    return np.array(outcome.scores), outcome.reasons


def holds_images_apart() -> None:
    """One image's map may be a thousand times as large: no other image's score moves."""
    world = image_world()
    maps = signed_maps(world).float()
    larger = maps.clone()
    larger[3] *= 1000
    assert read(larger)[0].map.flatten(1).abs().amax(1).tolist() == [1.0] * len(maps)
    for name in ("infidelity", "sparseness", "faithfulness-correlation"):
        before, after = (judged(dataclasses.replace(world.scene), each, name)[0] for each in (maps, larger))
        np.testing.assert_allclose(np.delete(after, 3), np.delete(before, 3), rtol=1e-6)


def holds_nan_back() -> None:
    """A single NaN pixel costs its own sample its score, says why, and no other sample anything."""
    world = image_world()
    maps = signed_maps(world).float()
    broken = maps.clone()
    broken[2, 5, 7] = torch.nan
    for name in ("pixel-flipping", "auc", "sparseness", "faithfulness-correlation"):
        clean, _ = judged(dataclasses.replace(world.scene), maps, name)
        found, reasons = judged(dataclasses.replace(world.scene), broken, name)
        assert math.isnan(found[2])
        assert reasons[2] == "the map holds NaN"
        np.testing.assert_array_equal(np.delete(found, 2), np.delete(clean, 2))


@pytest.mark.parametrize("metric", OTHERS, ids=lambda metric: metric.name)
def test_the_right_row_is_the_better_one(metric: type[Metric]) -> None:
    holds_the_direction(metric)


def test_no_image_moves_another() -> None:
    holds_images_apart()


def test_a_nan_pixel_costs_its_own_sample_alone() -> None:
    holds_nan_back()


def test_every_direction_is_guarded() -> None:
    guarded = {metric.name for metric in (*IN_ORDER, *OTHERS)} | room_tests.GATES | {"sufficiency"}
    assert {metric.name for metric in room_tests.ROOM} - guarded == {"ks-p"}, "its p vanishes for every map but one"


@pytest.mark.parametrize("metric", [*IN_ORDER, *OTHERS], ids=lambda metric: metric.name)
def test_a_flipped_direction_is_caught(metric: type[Metric], monkeypatch: pytest.MonkeyPatch) -> None:
    flipped = "lower" if metric.direction == "higher" else "higher"
    monkeypatch.setattr(metric, "direction", flipped)
    guard = (
        holds_the_direction if metric in OTHERS else room_tests.test_good_is_better_than_random_and_random_than_inverted
    )
    with pytest.raises(AssertionError):
        guard(metric)


@pytest.mark.parametrize("name", sorted(room_tests.GATES))
def test_a_flipped_direction_of_a_gate_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = next(metric for metric in room_tests.ROOM if metric.name == name)
    monkeypatch.setattr(gate, "direction", "lower" if gate.direction == "higher" else "higher")
    with pytest.raises(AssertionError):
        room_tests.test_a_map_that_reacts_as_it_must_passes_the_gates_better(name)


def test_a_normalisation_over_the_batch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = scoring.evidence_of

    def over_the_batch(*arguments: Any) -> Evidence:
        found = plain(*arguments)
        return dataclasses.replace(found, map=found.raw / found.raw.abs().max())

    monkeypatch.setattr(scoring, "evidence_of", over_the_batch)
    with pytest.raises(AssertionError):
        holds_images_apart()


def test_a_missing_normalisation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = scoring.evidence_of

    def as_explained(*arguments: Any) -> Evidence:
        found = plain(*arguments)
        return dataclasses.replace(found, map=found.raw)

    monkeypatch.setattr(scoring, "evidence_of", as_explained)
    with pytest.raises(AssertionError):
        holds_images_apart()


def test_a_nan_pixel_that_is_let_in_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = explaining.fault
    monkeypatch.setattr(explaining, "fault", lambda image: plain(image.nan_to_num()))
    with pytest.raises(AssertionError):
        holds_nan_back()


def test_a_forward_shared_between_two_baselines_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = perturbation._key
    monkeypatch.setattr(perturbation, "_key", lambda sample, _, content: plain(sample, "replaced", content))
    world = image_world()
    maps = signed_maps(world)
    with pytest.raises(AssertionError):
        forwards_tests.test_two_baselines_never_share_an_answer((world, {"signed": evidence(maps)}))


def test_a_forward_shared_between_two_samples_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = perturbation._key
    monkeypatch.setattr(perturbation, "_key", lambda _, kind, content: plain(0, kind, content))
    with pytest.raises(AssertionError):
        room_tests.test_a_sample_is_scored_alike_with_and_without_the_others(Infidelity)
