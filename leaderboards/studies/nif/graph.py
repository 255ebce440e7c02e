"""The flow of a network as a graph: neurons are nodes, and an edge weighs the information that two of them share.

What network science asks of it (NIF, section 2.1): which neurons are central, which belong together, which paths
carry most. Shortest paths need a distance, which is 1 / information; communities maximise the modularity

    1/2m sum_ij ( A_ij - 1/gamma k_i k_j / 2m ) [g_i = g_j]                                                 (eq. 2)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path as FilePath
from typing import TypeAlias

import networkx as nx
import torch
from torch import Tensor

from mibench.errors import UsageError
from mibench.information.flow import Neurons

try:
    import networkit as nk
except ImportError:  # the extra `graph`: the same centralities, many times faster
    nk = None

Graph: TypeAlias = "nx.DiGraph[str]"


@dataclass(frozen=True)
class Path:
    """A directed path with the information of its links in nats."""

    nodes: tuple[str, ...]
    links: tuple[float, ...]

    @property
    def length(self) -> float:
        """The sum of 1 / information."""
        return sum(1 / link for link in self.links)


def build(layers: Sequence[Neurons], edges: Sequence[Tensor], least: float = 0.0) -> Graph:
    """A graph of every neuron and of the edges (A, B) of every link that carry more than `least` nats.

    Nodes are named LAYER:INDEX and know their `layer` (a number), its `name`, their `index` and their `label`.
    """
    shapes = [(len(a), len(b)) for a, b in pairwise(layers)]
    if [tuple(edge.shape) for edge in edges] != shapes:
        raise UsageError(f"layers of {[len(layer) for layer in layers]} neurons need edges of {shapes}")
    graph: Graph = nx.DiGraph()
    for number, layer in enumerate(layers):
        for index, label in enumerate(layer.labels):
            graph.add_node(f"{layer.name}:{index}", layer=number, name=layer.name, index=index, label=label)
    for first, second, edge in zip(layers, layers[1:], edges, strict=False):
        if not bool(torch.isfinite(edge).all()):
            raise UsageError(f"edges from {first.name!r} to {second.name!r} hold NaN; look at the activations")
        for a, b in (edge > least).nonzero().tolist():
            weight = float(edge[a, b])
            graph.add_edge(f"{first.name}:{a}", f"{second.name}:{b}", weight=weight, distance=1 / weight)
    return graph


def betweenness(graph: Graph) -> dict[str, float]:
    """How many of the shortest paths between others lead through each node (eq. 1), of (n - 1)(n - 2) at most.

    Exact: sampling pivots loses the hubs. networkit's numbers are networkx's.
    """
    if nk is None or len(graph) < 3:
        return dict(nx.betweenness_centrality(graph, weight="distance"))
    number = {node: index for index, node in enumerate(graph)}
    fast = nk.Graph(len(number), weighted=True, directed=True)
    for a, b in graph.edges:
        fast.addEdge(number[a], number[b], graph.edges[a, b]["distance"])
    scores = nk.centrality.Betweenness(fast, normalized=True).run().scores()
    return {node: float(scores[index]) for node, index in number.items()}


def communities(graph: Graph, gamma: float = 1.0, seed: int = 0) -> list[set[str]]:
    """Nodes that belong together (eq. 2, by Louvain's method), the largest group first; a lower gamma finds more."""
    groups = nx.community.louvain_communities(graph.to_undirected(), "weight", resolution=1 / gamma, seed=seed)
    return sorted(groups, key=lambda group: (-len(group), min(group)))


def strengths(graph: Graph) -> dict[str, tuple[float, float]]:
    """The information that comes into each node and that leaves it, summed over its edges."""
    into, out = dict(graph.in_degree(weight="weight")), dict(graph.out_degree(weight="weight"))
    return {node: (float(into[node]), float(out[node])) for node in graph}


def paths(graph: Graph, source: str, target: str, count: int = 5) -> list[Path]:
    """The most informative paths between two nodes: the shortest by the sum of 1 / information."""
    for node in (source, target):
        if node not in graph:
            raise UsageError(
                f"the graph has no node {node!r}; nodes are named LAYER:INDEX, such as {next(iter(graph))}"
            )
    if not nx.has_path(graph, source, target):
        return []
    found = islice(nx.shortest_simple_paths(graph, source, target, weight="distance"), count)
    return [Path(tuple(nodes), tuple(graph.edges[link]["weight"] for link in pairwise(nodes))) for nodes in found]


def analyse(graph: Graph, gamma: float = 1.0, seed: int = 0) -> Graph:
    """Write centrality, community and strengths to every node; the graph itself is returned."""
    central, strong = betweenness(graph), strengths(graph)
    group = {node: number for number, nodes in enumerate(communities(graph, gamma, seed)) for node in nodes}
    for node, about in graph.nodes(data=True):
        into, out = strong[node]
        about.update(centrality=central[node], community=group[node], strength_in=into, strength_out=out)
    return graph


def write_graphml(graph: Graph, path: FilePath) -> FilePath:
    """GraphML, for Gephi and its like."""
    nx.write_graphml(graph, path)
    return path


def write_json(graph: Graph, path: FilePath) -> FilePath:
    """networkx's node-link JSON, which `networkx.node_link_graph` reads back."""
    path.write_text(json.dumps(nx.node_link_data(graph, edges="edges")), "utf-8")
    return path
