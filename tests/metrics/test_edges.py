"""The error of edges is zero for the truth, counted in nats, and nothing where no edges are known or stated."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mibench.data.wired import PlantedTable
from mibench.metrics.edges import EdgeError, OfEdges, PointwiseEdgeError
from mibench.plugins import registry
from mibench.plugins.contract import Evidence, MapSpec, Unsupported
from tests.metric_worlds import make_world

METRICS = (EdgeError(), PointwiseEdgeError())


@pytest.fixture
def world() -> tuple:
    samples = PlantedTable().load("scoring", 6, (6,))
    scene = make_world(registry.model("planted-table").load(), samples.x, {}).scene
    return dataclasses.replace(scene, truth=samples.truth), samples.truth.information


def row(**signals: torch.Tensor) -> Evidence:
    stated = {name.replace("_", "-"): signal for name, signal in signals.items()}
    return Evidence(torch.ones(6, 1, 6), torch.ones(6, 1, 6), MapSpec("map"), signals=stated)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_truth_has_no_error_and_a_shift_its_size(metric: OfEdges, world: tuple) -> None:
    scene, truth = world
    sign = torch.tensor([1.0, -1.0]).repeat(truth["edges"].shape[1] // 2)
    shift = 0.1 * torch.arange(6)[:, None] * sign  # (B, E)
    right = row(edges=truth["edges"], pointwise_edges=truth["pointwise-edges"])
    wrong = row(edges=truth["edges"] + shift, pointwise_edges=truth["pointwise-edges"] + shift)
    scores = metric.score(scene, {"right": right, "wrong": wrong})
    assert torch.equal(scores["right"], torch.zeros(6).double())
    assert torch.allclose(scores["wrong"], 0.1 * torch.arange(6).double(), atol=1e-6)


def test_the_two_errors_look_at_their_own_edges(world: tuple) -> None:
    scene, truth = world
    mixed = {"row": row(edges=truth["edges"], pointwise_edges=truth["edges"])}
    assert EdgeError().score(scene, mixed)["row"].max() == 0
    assert PointwiseEdgeError().score(scene, mixed)["row"].min() > 0


def test_other_edges_get_no_score_and_unknown_ones_are_refused(world: tuple) -> None:
    scene, truth = world
    fewer = row(edges=truth["edges"][:, :5])
    assert EdgeError().score(scene, {"row": fewer})["row"].isnan().all()
    with pytest.raises(Unsupported, match="linear-gaussian"):
        EdgeError().score(dataclasses.replace(scene, truth=None), {"row": fewer})
    with pytest.raises(Unsupported, match="states no edges"):
        PointwiseEdgeError().score(scene, {"row": fewer})
