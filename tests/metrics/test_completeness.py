"""Completeness of source signals and sensitivity to the class, on networks where both are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mibench.metrics.completeness import Apc, PositiveApc
from mibench.metrics.sensitivity import ClassSensitivity, RawClassSensitivity
from tests.metric_worlds import evidence, image_world

WORLD = image_world(count=5)
SCENE = WORLD.scene


def logit(x: Tensor) -> Tensor:
    return SCENE.predict(x).gather(1, SCENE.target[:, None])[:, 0]


def scored(source: Tensor) -> tuple[Tensor, Tensor]:
    row = {"row": evidence(torch.rand(5, 24, 24), signals={"source": source})}
    return Apc().score(SCENE, row)["row"], PositiveApc().score(SCENE, row)["row"]


def test_the_input_itself_is_a_complete_source_signal() -> None:
    change, fall = scored(SCENE.x.clone())
    assert torch.equal(change, torch.zeros(5).double())
    assert torch.equal(fall, torch.zeros(5).double())


def test_a_change_is_counted_in_per_cent_of_the_logit_and_a_rise_only_once() -> None:
    source = torch.randn(SCENE.x.shape, generator=torch.Generator().manual_seed(4))
    change, fall = scored(source)
    before, after = logit(SCENE.x), logit(source)
    for n in range(5):
        lost = float((before[n] - after[n]) / before[n].abs()) * 100
        assert float(change[n]) == pytest.approx(abs(lost), rel=1e-5)
        assert float(fall[n]) == pytest.approx(max(0.0, lost), rel=1e-5, abs=1e-9)
    assert not torch.equal(change, fall)


def test_a_source_that_is_not_finite_has_no_score_and_spoils_no_other() -> None:
    source = SCENE.x.clone()
    source[2, 0, 3, 3] = torch.nan
    change, _ = scored(source)
    assert change.isnan().tolist() == [False, False, True, False, False]


def test_without_a_source_signal_the_metric_says_what_it_needs() -> None:
    assert Apc.needs == PositiveApc.needs == {"signals:source"}


def test_the_inputs_logits_are_computed_once_for_all_rows_and_scores() -> None:
    world = image_world(count=3)
    maps = torch.rand(3, 24, 24)
    rows = {name: evidence(maps, signals={"source": world.scene.x * 0.5}) for name in "abc"}
    Apc().score(world.scene, rows)
    PositiveApc().score(world.scene, rows)
    assert len(world.shown) == 3 * (1 + len(rows))


def test_maps_that_do_not_look_at_the_class_have_no_sensitivity() -> None:
    maps = torch.rand(5, 24, 24)
    same = {"row": evidence(maps, variants={"other-class": maps[:3].clone()})}
    for metric in (ClassSensitivity(), RawClassSensitivity()):
        assert metric.score(SCENE, same)["row"][:3].tolist() == [0, 0, 0]
        assert metric.score(SCENE, same)["row"][3:].isnan().all()


def test_a_map_that_only_grows_with_the_class_is_found_by_raw_distance() -> None:
    maps = torch.rand(5, 24, 24) + 0.1
    grown = {"row": evidence(maps, variants={"other-class": 3 * maps})}
    assert torch.allclose(ClassSensitivity().score(SCENE, grown)["row"], torch.zeros(5).double(), atol=1e-5)
    raw = RawClassSensitivity().score(SCENE, grown)["row"]
    assert torch.allclose(raw, 2 * maps.double().flatten(1).norm(dim=1))


def test_a_map_of_another_class_that_is_not_finite_has_no_sensitivity() -> None:
    maps = torch.rand(5, 24, 24)
    other = maps.flip(1).clone()
    other[1, 0, 0] = torch.inf
    scores = ClassSensitivity().score(SCENE, {"row": evidence(maps, variants={"other-class": other})})["row"]
    assert scores.isnan().tolist() == [False, True, False, False, False]
