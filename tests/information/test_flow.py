"""The chain of products against the enumeration of paths, and what a flow says of layers whose information is known."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mibench.information.exact import gaussian_pair
from mibench.information.flow import Correction, Flow, Neurons, attribution, estimator
from mibench.information.pairwise import every_pair


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def neurons(*layers: Tensor) -> list[Neurons]:
    return [
        Neurons(f"layer{number}", tuple(map(str, range(layer.shape[1]))), layer) for number, layer in enumerate(layers)
    ]


def graph(edges: list[Tensor]) -> nx.DiGraph:
    drawn = nx.DiGraph()
    for link, edge in enumerate(edges):
        for a in range(edge.shape[0]):
            for b in range(edge.shape[1]):
                drawn.add_edge((link, a), (link + 1, b), weight=float(edge[a, b]))
    return drawn


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=5), seed=st.integers(0, 10_000))
def test_the_chain_is_the_sum_over_all_paths_or_the_widest_of_them(sizes: list[int], seed: int) -> None:
    edges = [normal(a, b, seed=seed + a) for a, b in itertools.pairwise(sizes)]
    drawn, last = graph(edges), len(sizes) - 1
    products, widest = attribution(edges, "product"), attribution(edges, "min")
    for i in range(sizes[0]):
        for c in range(sizes[-1]):
            paths = list(nx.all_simple_edge_paths(drawn, (0, i), (last, c)))
            weights = [[drawn.edges[link]["weight"] for link in path] for path in paths]
            assert float(products[i, c]) == pytest.approx(sum(math.prod(path) for path in weights), abs=1e-9)
            assert float(widest[i, c]) == max(min(path) for path in weights)


def test_chains_of_many_samples_are_chains_of_each() -> None:
    edges = [normal(5, 3, 4), normal(5, 4, 2, seed=1)]
    for how in ("product", "min"):
        together = attribution(edges, how)
        for sample in range(5):
            assert torch.allclose(together[sample], attribution([edge[sample] for edge in edges], how))


def test_a_linear_gaussian_network_has_the_edges_that_theory_says() -> None:
    first = normal(2000, 4)
    second = first @ normal(4, 3, seed=1) + normal(2000, 3, seed=2)
    [edges] = Flow(neurons(first, second), estimator("mixed", 3)).edges()
    correlation = torch.corrcoef(torch.cat([first, second], 1).T)[:4, 4:]
    truth = torch.tensor([[gaussian_pair(float(rho)) for rho in row] for row in correlation])
    assert float((edges - truth).abs().mean()) < 0.02
    assert float((edges - truth).abs().max()) < 0.06


@pytest.mark.parametrize("correction", ["jitter", "permutation"])
def test_corrected_flow_finds_nothing_in_shuffled_relus(correction: Correction) -> None:
    first, second = normal(500, 20).relu(), normal(500, 20, seed=1).relu()
    [edges] = Flow(neurons(first, second), estimator("mixed", 10), correction).edges()
    assert abs(float(edges.mean())) < 0.005
    [biased] = Flow(neurons(first, second), estimator("mixed", 10), "none").edges()
    assert float(biased.mean()) > 0.04


@pytest.mark.parametrize("correction", ["jitter", "permutation", "none"])
@pytest.mark.parametrize("name", ["mixed", "ksg", "edge", "binning"])
def test_the_mean_of_the_pointwise_edges_is_the_global_edge(name: str, correction: Correction) -> None:
    first = normal(120, 3).relu()
    flow = Flow(neurons(first, first @ normal(3, 4, seed=1)), estimator(name, 5), correction)  # type: ignore[arg-type]
    pointwise = flow.pointwise(0, every_pair(3, 4))
    assert torch.allclose(pointwise.mean(1).reshape(3, 4), flow.edges()[0], atol=1e-9)


def test_redundancy_sums_over_the_neurons_before() -> None:
    first = normal(300, 1)
    copies = torch.cat([first, first + 0.1 * normal(300, 1, seed=1), normal(300, 1, seed=2)], 1)
    flow = Flow(neurons(copies, first), estimator("mixed", 3))
    pairs = flow.information(0, 0, torch.tensor([[1, 0], [2, 0], [2, 1]]))
    expected = torch.tensor([0.0, float(pairs[0]), float(pairs[1] + pairs[2])], dtype=torch.float64)
    before = flow.redundancy(0, order="index")
    assert torch.allclose(before, expected)
    assert float(before[1]) > 1.5 > 0.1 > abs(float(before[2]))


def test_without_an_order_redundancy_is_the_mean_over_all_orders() -> None:
    layer = normal(200, 4) @ normal(4, 4, seed=1)
    every = []
    for order in itertools.permutations(range(4)):
        found = Flow(neurons(layer[:, order], layer), estimator("mixed", 3), "none").redundancy(0, order="index")
        every.append(found[[order.index(neuron) for neuron in range(4)]])
    known = Flow(neurons(layer, layer), estimator("mixed", 3), "none")
    assert torch.allclose(known.redundancy(0), torch.stack(every).mean(0))


class OnTheCpu:
    """An estimator that counts on the CPU, wherever the neurons are."""

    def information(self, first: Tensor, second: Tensor, pairs: Tensor) -> Tensor:
        return torch.ones(len(pairs), dtype=torch.float64)

    def pointwise(self, first: Tensor, second: Tensor, pairs: Tensor, new: object = None) -> Tensor:
        return torch.ones(len(pairs), len(first), dtype=torch.float64)


@pytest.mark.parametrize("correction", ["jitter", "permutation", "none"])
def test_edges_are_on_the_device_of_the_neurons_wherever_they_are_counted(correction: Correction) -> None:
    layers = [Neurons(name, (), torch.ones(5, 3, device="meta")) for name in ("a", "b")]
    flow = Flow(layers, OnTheCpu(), correction)
    assert {each.device.type for each in (*flow.edges(), flow.pointwise(0, every_pair(3, 3)))} == {"meta"}


def test_the_seed_is_all_that_moves_a_flow() -> None:
    first, second = normal(100, 3).relu(), normal(100, 2, seed=1).relu()
    same = [Flow(neurons(first, second), estimator("mixed", 5), seed=seed).edges()[0] for seed in (0, 0, 1)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])
