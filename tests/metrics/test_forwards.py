"""The network is asked once for each distinct input, and never for one baseline in place of another."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from mibench.metrics import sharing
from mibench.metrics.faithfulness_agreement import (
    FaithfulnessCorrelation,
    FaithfulnessEstimate,
    Infidelity,
    MonotonicityCorrelation,
    random_sets,
)
from mibench.metrics.faithfulness_curves import IROF, ROAD, PixelFlipping, RegionPerturbation, segments
from mibench.metrics.localisation import expected_hits
from mibench.metrics.perturbation import descending, forwards, in_steps, parts, tiles
from mibench.network.seeds import drawing
from mibench.plugins.contract import Unsupported
from tests.metric_worlds import evidence, image_world, signed_maps

DEFAULT = [PixelFlipping, RegionPerturbation, IROF, ROAD, FaithfulnessEstimate, FaithfulnessCorrelation]


@pytest.fixture
def rows() -> tuple[Any, dict[str, Any]]:
    world = image_world()
    maps = signed_maps(world)
    return world, {"signed": evidence(maps), "positive": evidence(maps.abs()), "again": evidence(2 * maps)}


def test_no_input_is_run_twice(rows: tuple[Any, dict[str, Any]]) -> None:
    world, all_rows = rows
    for metric in DEFAULT:
        metric().score(world.scene, all_rows)
    count = forwards(world.scene)
    assert count.run == len(world.shown) <= 1.05 * len(set(world.shown))
    assert count.run < 0.75 * count.asked


def test_the_random_sets_of_all_rows_are_run_once(rows: tuple[Any, dict[str, Any]]) -> None:
    world, all_rows = rows
    metric = FaithfulnessCorrelation(FaithfulnessCorrelation.Parameters(runs=30))
    metric.score(world.scene, all_rows)
    assert len(world.shown) <= 5 * 31


def test_random_sets_are_a_samples_own() -> None:
    first, second, third = (random_sets(seeds, 50, 8, 0.2) for seeds in ((1, 2), (2,), (3,)))
    assert torch.equal(first[1], second[0])
    assert not torch.equal(second, third)
    assert (first.sum(2) == 10).all()


def test_slices_perturbed_for_one_metric_serve_another(rows: tuple[Any, dict[str, Any]]) -> None:
    world, all_rows = rows
    FaithfulnessEstimate().score(world.scene, {"positive": all_rows["positive"]})
    before = len(world.shown)
    MonotonicityCorrelation().score(world.scene, {"positive": all_rows["positive"]})
    assert len(world.shown) == before


def test_infidelity_runs_the_same_inputs_for_every_row(rows: tuple[Any, dict[str, Any]]) -> None:
    world, all_rows = rows
    Infidelity().score(world.scene, all_rows)
    assert len(world.shown) <= 5 * (64 + 1)


def test_two_baselines_never_share_an_answer(rows: tuple[Any, dict[str, Any]]) -> None:
    world, all_rows = rows
    for metric in (PixelFlipping, RegionPerturbation, IROF, FaithfulnessEstimate, FaithfulnessCorrelation, Infidelity):
        scores = {}
        for baseline in ("mean", "black"):
            together = metric(metric.Parameters(baseline=baseline)).score(world.scene, all_rows)["signed"]
            fresh = dataclasses.replace(world.scene)
            alone = metric(metric.Parameters(baseline=baseline)).score(fresh, all_rows)["signed"]
            torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)  # batches differ in their last bits
            scores[baseline] = alone
        assert not torch.allclose(scores["mean"], scores["black"])


def test_a_baseline_that_is_not_there_is_refused_by_name(rows: tuple[Any, dict[str, Any]]) -> None:
    world, all_rows = rows
    with pytest.raises(Unsupported, match="no baseline 'uniform'"):
        PixelFlipping(PixelFlipping.Parameters(baseline="uniform")).score(world.scene, all_rows)


def test_replacing_like_by_like_is_the_unperturbed_input() -> None:
    world = image_world(count=2)
    half = torch.arange(576) < 288
    world.scene.baselines["mean"].flatten(2)[..., half] = world.scene.x.flatten(2)[..., half]
    ask = forwards(world.scene)
    answer = ask.replaced(slice(0, 2), half.expand(2, 1, -1), "mean")
    assert torch.equal(answer.logit, ask.unperturbed().logit)
    assert len(world.shown) == 2


def test_a_pixel_goes_in_all_its_channels() -> None:
    world = image_world(count=2, channels=3)
    world.scene.baselines["mean"][:, 0] = world.scene.x[:, 0]  # like by like in one channel alone
    ask = forwards(world.scene)
    answer = ask.replaced(slice(0, 2), torch.ones(2, 1, 576, dtype=torch.bool), "mean")
    expected = world.model(world.scene.baselines["mean"]).gather(1, world.scene.target[:, None])
    torch.testing.assert_close(answer.logit, expected)


def test_answers_are_what_the_network_says() -> None:
    world = image_world(count=3, channels=3)
    scene = world.scene
    masks = torch.rand(3, 4, 576, generator=torch.Generator().manual_seed(0)) < 0.5
    answers = forwards(scene).replaced(slice(0, 3), masks, "mean")
    for sample in range(3):
        for step in range(4):
            x = scene.x[sample].clone()
            x[:, masks[sample, step].view(24, 24)] = scene.baselines["mean"][sample][
                :, masks[sample, step].view(24, 24)
            ]
            logits = world.model(x[None])[0]
            assert answers.logit[sample, step] == pytest.approx(float(logits[scene.target[sample]]))
            assert answers.probability[sample, step] == pytest.approx(float(logits.softmax(0)[scene.target[sample]]))
            assert answers.kept[sample, step] == (logits.argmax() == scene.target[sample])


def test_a_failing_forward_leaves_no_half_known_answers() -> None:
    world = image_world(count=2)
    rows = {"row": evidence(signed_maps(world))}
    right = PixelFlipping().score(world.scene, rows)["row"]

    def fails_once(x: torch.Tensor) -> torch.Tensor:
        if not attempts:
            attempts.append(1)
            raise MemoryError
        return world.scene.predict(x)

    attempts: list[int] = []
    scene = dataclasses.replace(world.scene, predict=fails_once)
    with pytest.raises(MemoryError):
        PixelFlipping().score(scene, rows)
    assert torch.equal(PixelFlipping().score(scene, rows)["row"], right)


def test_what_is_shared_goes_when_its_scene_goes(rows: tuple[Any, dict[str, Any]]) -> None:
    made = []

    @sharing.once
    def thing(scene: Any, number: int) -> set[int]:
        made.append(number)
        return {number}

    scene = dataclasses.replace(rows[0].scene)
    first = weakref.ref(thing(scene, 1))
    assert thing(scene, 1) is first()
    assert thing(scene, 2) is not first()
    assert made == [1, 2]
    del scene
    gc.collect()
    assert first() is None


def test_equal_values_are_ranked_in_an_order_that_favours_no_corner() -> None:
    scene = image_world(count=5).scene
    places = descending(scene, torch.zeros(5, 576)).double()
    assert torch.equal(places.sort(1).values, torch.arange(576.0).double().expand(5, -1))
    first_half = places[:, :288].mean(1)
    assert ((first_half - 287.5).abs() < 30).all(), "in the order of the pixels the mean would be 143.5"
    assert not torch.equal(places[0], places[1])


def test_a_higher_value_goes_first_whatever_the_ties() -> None:
    scene = image_world(count=5).scene
    values = torch.randint(0, 4, (5, 576), generator=torch.Generator().manual_seed(0)).float()
    ordered = values.gather(1, descending(scene, values).argsort(1))
    assert (ordered.diff(dim=1) <= 0).all()


@pytest.mark.parametrize(("features", "steps"), [(784, 24), (1024, 24), (4, 24), (50176, 24), (7, 3)])
def test_steps_hold_equally_many_but_for_the_last(features: int, steps: int) -> None:
    when, number = in_steps(torch.arange(features)[None], steps)
    sizes = when[0].bincount()
    assert number == len(sizes) <= steps
    assert len(set(sizes[:-1].tolist())) <= 1
    assert 0 < sizes[-1] <= sizes[0]


def test_tiles_are_squares_that_lie_centrally() -> None:
    scene = image_world(side=10).scene
    tile = tiles(scene, 3).view(10, 10)  # squares of 4: 12 = 1 + 10 + 1
    assert tile[0].tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert tile[:, 0].tolist() == [0, 0, 0, 3, 3, 3, 3, 6, 6, 6]


def test_noise_does_not_dissolve_the_segments() -> None:
    scene = image_world(channels=3, side=32).scene
    noisy = dataclasses.replace(scene, x=torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert (segments(noisy, 36, 1.0).amax(1) + 1 >= 25).all()
    assert (segments(noisy, 36, 0.0).amax(1) + 1 <= 5).all(), "Quantus' way may be taken now"


def test_parts_cover_all_samples_and_bound_what_is_built() -> None:
    x = torch.zeros(10, 3, 224, 224)
    runs = list(parts(x, 24))
    assert [sample for run in runs for sample in range(run.start, run.stop)] == list(range(10))
    assert all((run.stop - run.start) * 24 * x[0].numel() <= 2**24 for run in runs)


def test_ranks_of_equals_are_their_average() -> None:
    assert sharing.ranks(torch.tensor([[3.0, 1.0, 3.0, 2.0]])).tolist() == [[2.5, 0.0, 2.5, 1.0]]


def test_draws_depend_on_the_seed_and_the_purpose_alone() -> None:
    draws = {
        (seed, purpose): torch.rand(4, generator=drawing(seed, purpose))
        for seed in (1, 2)
        for purpose in ("ties", "noise")
    }
    assert torch.equal(draws[1, "ties"], torch.rand(4, generator=drawing(1, "ties")))
    assert len({tuple(np.asarray(draw)) for draw in draws.values()}) == 4


@pytest.mark.parametrize("change", ["in place", "another"])
def test_a_changed_baseline_gives_the_scores_of_a_new_scene(rows: tuple[Any, dict[str, Any]], change: str) -> None:
    world, all_rows = rows
    scene = dataclasses.replace(world.scene, baselines={"mean": world.scene.baselines["mean"].clone()})
    before = PixelFlipping().score(scene, all_rows)["signed"]
    if change == "in place":
        scene.baselines["mean"].add_(1)
    else:
        scene.baselines["mean"] = scene.baselines["mean"] + 1
    after = PixelFlipping().score(scene, all_rows)["signed"]
    assert torch.equal(after, PixelFlipping().score(dataclasses.replace(scene), all_rows)["signed"])
    assert not torch.equal(after, before)


def test_a_map_that_is_changed_in_place_is_judged_again() -> None:
    world = image_world(count=4)
    row = evidence(signed_maps(world))
    before = expected_hits(world.scene, row)
    assert expected_hits(world.scene, row) is before
    row.map.neg_()
    assert not torch.equal(expected_hits(world.scene, row), before)
