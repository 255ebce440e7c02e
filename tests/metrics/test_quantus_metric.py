"""`quantus:NAME[setting=value]`: Quantus' own code on saved maps, named, directed and guarded by us."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mibench.errors import UsageError
from mibench.metrics import quantus_calls
from mibench.metrics.quantus_metric import KNOWN
from mibench.plugins import catalogue, registry
from mibench.plugins.contract import Evidence, MapSpec, Unsupported
from mibench.suites.suite import Suite, Task
from tests import needs
from tests.metric_worlds import World, evidence, image_world, quantus_score, signed_maps

quantus = needs.quantus()


def score(spec: str, world: World, row: Evidence) -> np.ndarray:
    return registry.metric(spec).score(world.scene, {"row": row})["row"].double().numpy()


@pytest.mark.parametrize(
    ("spec", "name", "settings"),
    [
        ("quantus:Complexity", "Complexity", {"abs": True}),
        ("quantus:PointingGame", "PointingGame", {"abs": True}),
        ("quantus:Sparseness", "Sparseness", {"abs": True}),
    ],
)
def test_a_score_is_what_quantus_gives_with_all_of_it_explicit(spec: str, name: str, settings: dict[str, Any]) -> None:
    world = image_world(count=4)
    row = evidence(signed_maps(world).abs() if name == "PointingGame" else signed_maps(world))
    ours = score(spec, world, row)
    assert ours.shape == (4,)
    theirs = quantus_score(name, world, row, **settings)
    np.testing.assert_allclose(ours, np.array(theirs, dtype=float))


def test_a_damaged_map_has_no_number_and_does_not_touch_the_others() -> None:
    world = image_world(count=4)
    maps = evidence(signed_maps(world)).map
    whole = score("quantus:Complexity", world, Evidence(maps, maps, MapSpec("map")))
    damaged = maps.clone()
    damaged[1, 0, 0] = torch.nan
    found = score("quantus:Complexity", world, Evidence(damaged, damaged, MapSpec("map")))
    assert np.isnan(found).tolist() == [False, True, False, False]
    np.testing.assert_array_equal(found[[0, 2, 3]], whole[[0, 2, 3]])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("quantus", "alone names nothing"),
        ("quantus:Complexty", "Complexity"),
        ("quantus:Complexity[side=3]", "side"),
        ("quantus:SmoothMPRT", "cannot be run on saved maps"),
        ("quantus:Complexity[normalise=true]", "normalise"),
    ],
)
def test_what_cannot_be_asked_of_quantus_is_refused_with_the_mend(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        catalogue.metrics([spec])


def test_a_metric_without_a_direction_is_shown_and_not_ranked() -> None:
    described, ranked = catalogue.metrics(["quantus:EffectiveComplexity", "quantus:Complexity"])
    assert described.gate
    assert "describes" in described.title
    assert not ranked.gate
    assert ranked.direction == "lower"


def test_two_directions_are_put_right_and_every_metric_has_an_entry() -> None:
    from quantus.metrics.base import Metric

    every = {cls.__name__ for cls in Metric.__subclasses__()}
    assert set(KNOWN) == every - {"BatchSufficiency"}  # a draft that Quantus' own list of metrics leaves out
    assert KNOWN["RegionPerturbation"].direction == KNOWN["Consistency"].direction == "higher"


def test_the_default_and_all_metrics_of_a_suite_name_none_of_quantus() -> None:
    found = Suite(name="toy", tasks=(Task(model="quadrants"),), methods=("saliency",), metrics="all")
    assert not [card.name for card in found.chosen_metrics() if card.name.startswith("quantus")]


def test_colour_images_are_refused_where_the_code_of_quantus_fails_on_them() -> None:
    world = image_world(count=2, channels=3)
    with pytest.raises(Unsupported, match="colour"):
        score("quantus:ROAD", world, evidence(signed_maps(world)))


def test_without_quantus_one_line_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(quantus_calls.importlib, "import_module", absent)
    with pytest.raises(UsageError, match="pip install 'quantus"):
        quantus_calls.library()
