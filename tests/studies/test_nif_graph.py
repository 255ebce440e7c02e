"""The flow graph: its analysis is networkx's own, its files can be read back, its drawings hold what they should."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from leaderboards.studies.nif import graph as flow_graph
from leaderboards.studies.nif import graph_drawing
from mibench.errors import UsageError
from mibench.information.flow import Neurons


def layers(*sizes: int) -> list[Neurons]:
    return [
        Neurons(f"layer{number}", tuple(f"neuron {index}" for index in range(size)), torch.zeros(2, size))
        for number, size in enumerate(sizes)
    ]


def edges(*sizes: int, seed: int = 0) -> list[Tensor]:
    """Positive for about three in four pairs."""
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(a, b, generator=random) - 0.25 for a, b in itertools.pairwise(sizes)]


def some_graph(*sizes: int, seed: int = 0) -> flow_graph.Graph:
    return flow_graph.build(layers(*sizes), edges(*sizes, seed=seed))


def test_nodes_are_neurons_and_edges_what_they_share() -> None:
    weights = edges(3, 2, 2)
    graph = flow_graph.build(layers(3, 2, 2), weights)
    assert graph.nodes["layer1:1"] == {"layer": 1, "name": "layer1", "index": 1, "label": "neuron 1"}
    assert graph.number_of_edges() == sum(int((weight > 0).sum()) for weight in weights)
    for a, b in graph.edges:
        link, first, second = (graph.nodes[a]["layer"], graph.nodes[a]["index"], graph.nodes[b]["index"])
        assert graph.edges[a, b]["weight"] == pytest.approx(float(weights[link][first, second]))
        assert graph.edges[a, b]["distance"] == pytest.approx(1 / float(weights[link][first, second]))


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5), seed=st.integers(0, 1000))
def test_betweenness_is_networkxs(sizes: list[int], seed: int) -> None:
    pytest.importorskip("networkit")
    graph = some_graph(*sizes, seed=seed)
    ours, theirs = flow_graph.betweenness(graph), nx.betweenness_centrality(graph, weight="distance")
    assert ours.keys() == theirs.keys()
    assert all(ours[node] == pytest.approx(theirs[node], abs=1e-12) for node in theirs)


def test_without_networkit_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = some_graph(4, 5, 3)
    before = flow_graph.betweenness(graph)
    monkeypatch.setattr(flow_graph, "nk", None)
    assert flow_graph.betweenness(graph) == pytest.approx(before, abs=1e-12)


def test_the_only_neuron_of_a_layer_is_the_hub() -> None:
    graph = flow_graph.build(layers(3, 1, 3), [torch.ones(3, 1), torch.ones(1, 3)])
    central = flow_graph.betweenness(graph)
    assert max(central, key=lambda node: central[node]) == "layer1:0"
    assert central["layer1:0"] == pytest.approx(9 / 30)


def test_two_networks_in_one_are_two_communities_and_low_gamma_finds_more() -> None:
    block = torch.block_diag(torch.ones(4, 4), torch.ones(4, 4)) + 0.01
    graph = flow_graph.build(layers(8, 8, 8), [block, block])
    found = flow_graph.communities(graph)
    assert [len(group) for group in found] == [12, 12]
    assert {int(node.split(":")[1]) // 4 for node in found[0]} in ({0}, {1})
    assert len(flow_graph.communities(graph, gamma=0.2)) > 2
    modularity = nx.community.modularity(graph.to_undirected(), found, "weight")
    assert modularity == pytest.approx(0.5, abs=0.02)


def test_strengths_are_sums_of_edges() -> None:
    weights = edges(3, 4)
    strong = flow_graph.strengths(flow_graph.build(layers(3, 4), weights))
    assert strong["layer0:1"] == pytest.approx((0.0, float(weights[0][1].clamp(min=0).sum())), abs=1e-6)
    assert strong["layer1:2"] == pytest.approx((float(weights[0][:, 2].clamp(min=0).sum()), 0.0), abs=1e-6)


def test_the_most_informative_paths_are_the_best_of_all_paths() -> None:
    graph = some_graph(4, 5, 5, 3)
    found = flow_graph.paths(graph, "layer0:2", "layer3:1", 4)
    every = [
        sum(graph.edges[link]["distance"] for link in path)
        for path in nx.all_simple_edge_paths(graph, "layer0:2", "layer3:1")
    ]
    assert [path.length for path in found] == pytest.approx(sorted(every)[:4])
    assert found[0].links[0] == graph.edges[found[0].nodes[0], found[0].nodes[1]]["weight"]


def test_where_nothing_flows_there_is_no_path_and_no_error() -> None:
    graph = flow_graph.analyse(flow_graph.build(layers(2, 2), [torch.zeros(2, 2)]))
    assert flow_graph.paths(graph, "layer0:0", "layer1:0") == []
    assert graph.nodes["layer0:0"]["centrality"] == 0


def test_wrong_shapes_names_and_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="need edges of"):
        flow_graph.build(layers(2, 3), [torch.ones(3, 2)])
    with pytest.raises(UsageError, match="NaN"):
        flow_graph.build(layers(1, 1), [torch.tensor([[math.nan]])])
    with pytest.raises(UsageError, match="no node 'input:9'"):
        flow_graph.paths(some_graph(2, 2), "input:9", "layer1:0")


def test_graphml_and_json_hold_the_whole_graph(tmp_path: Path) -> None:
    graph = flow_graph.analyse(some_graph(3, 4, 2))
    xml = nx.read_graphml(flow_graph.write_graphml(graph, tmp_path / "flow.graphml"))
    text = json.loads(flow_graph.write_json(graph, tmp_path / "flow.json").read_text("utf-8"))
    for read in (xml, nx.node_link_graph(text, edges="edges")):
        assert dict(read.nodes(data=True)) == dict(graph.nodes(data=True))
        assert {edge: read.edges[edge]["weight"] for edge in read.edges} == nx.get_edge_attributes(graph, "weight")


def test_layers_stand_side_by_side_and_large_ones_take_several_columns() -> None:
    place = graph_drawing.places(some_graph(100, 3))
    assert {x for node, (x, _) in place.items() if node.startswith("layer0")} == {0.0, 1.0}
    assert min(x for node, (x, _) in place.items() if node.startswith("layer1")) > 1
    assert len(set(place.values())) == 103


def test_the_strongest_edges_are_kept_link_by_link() -> None:
    weights = [torch.tensor([[4.0, 1.0]]), torch.tensor([[0.4], [0.1]])]
    kept = graph_drawing.strongest(flow_graph.build(layers(1, 2, 1), weights), 2)
    assert {(a, b) for a, b, _ in kept} == {("layer0:0", "layer1:0"), ("layer1:0", "layer2:0")}
    assert [share for *_, share in kept] == pytest.approx([1, 1])


def test_the_drawing_is_a_picture_and_the_same_every_time(tmp_path: Path) -> None:
    graph = flow_graph.analyse(some_graph(5, 4, 3))
    png, svg = graph_drawing.draw(graph, tmp_path / "iris.csv-graph", "a flow")
    assert [png.name, svg.name] == ["iris.csv-graph.png", "iris.csv-graph.svg"]
    again = graph_drawing.draw(graph, tmp_path / "again", "a flow")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text("utf-8") == again[1].read_text("utf-8")
    assert "neuron 3" in svg.read_text("utf-8")


def test_the_page_needs_no_network_and_holds_about_as_many_edges_as_asked(tmp_path: Path) -> None:
    names = layers(5, 4, 3)
    names[0] = Neurons("</script><b>", names[0].labels, names[0].activations)
    graph = flow_graph.analyse(flow_graph.build(names, edges(5, 4, 3)))
    page = graph_drawing.page(graph, tmp_path / "flow.html", "a <flow>", edges=7).read_text("utf-8")
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert page.count("</script>") == 1
    links = json.loads(re.search(r"links = (\[\[.*?\]\])", page)[1])  # type: ignore[index]
    assert len(links) == 8  # as many of either link
