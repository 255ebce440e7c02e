"""The flow graph drawn by layer (NIF, figure 2): a node's size is its centrality, its colour its community.

An edge is as wide as its share of the strongest edge of its link. Only the strongest edges are drawn: a picture of
half a million lines shows none. The interactive page holds all that it needs and opens without a network.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from leaderboards.studies.drawing import save
from leaderboards.studies.nif.graph import Graph

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#004488", "#997700", "#44aa99", "#882255")
OTHER = "#999999"  # communities beyond these colours
ROWS = 64  # nodes below each other; a larger layer takes several columns
NAMED = 16  # a layer of so many nodes has their labels next to them
Place = tuple[float, float]
Edge = tuple[str, str, float]


def places(graph: Graph) -> dict[str, Place]:
    """Positions of nodes: layers from left to right, each in as few columns as its rows allow, heights from 0 to 1."""
    found: dict[str, Place] = {}
    start = 0.0
    for nodes in _layers(graph):
        columns = -(-len(nodes) // ROWS)
        rows = -(-len(nodes) // columns)
        for index, node in enumerate(nodes):
            found[node] = start + index // rows, 1 - (index % rows + 0.5) / rows
        start += columns + max(3.0, columns / 2)
    return found


def strongest(graph: Graph, count: int) -> list[Edge]:
    """About `count` edges, as many of each link, with their shares of the link's strongest, the weakest first."""
    links: dict[int, list[Edge]] = defaultdict(list)
    for a, b in graph.edges:
        links[graph.nodes[a]["layer"]].append((a, b, graph.edges[a, b]["weight"]))
    kept: list[Edge] = []
    for edges in links.values():
        edges.sort(key=lambda edge: -edge[2])
        kept += [(a, b, weight / edges[0][2]) for a, b, weight in edges[: -(-count // len(links))]]
    return sorted(kept, key=lambda edge: edge[2])


def draw(graph: Graph, path: Path, title: str, edges: int = 1000) -> list[Path]:
    """Draw an analysed graph as PNG and SVG."""
    place, shown = places(graph), strongest(graph, edges)
    figure = Figure(figsize=(min(16.0, 2 + 0.5 * max(x for x, _ in place.values())), 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    lines = LineCollection(
        [(place[a], place[b]) for a, b, _ in shown],
        linewidths=[0.2 + 2.5 * share for *_, share in shown],
        alpha=[0.1 + 0.6 * share for *_, share in shown],
        colors="#555555",
        zorder=1,
    )
    axes.add_collection(lines)
    radius, colour = radii(graph), {node: tint(graph.nodes[node]["community"]) for node in graph}
    xs, ys = zip(*place.values(), strict=True)
    areas = [(2 * radius[node]) ** 2 for node in place]
    axes.scatter(xs, ys, areas, [colour[node] for node in place], edgecolors="white", zorder=2)
    for nodes in _layers(graph):
        middle = sum(place[node][0] for node in nodes) / len(nodes)
        axes.text(middle, -0.03, graph.nodes[nodes[0]]["name"], ha="center", va="top", fontsize=8)
        for node in nodes if len(nodes) <= NAMED else ():
            axes.annotate(
                graph.nodes[node]["label"],
                place[node],
                (radius[node] + 3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    return save(figure, path, text="none")


def page(graph: Graph, path: Path, title: str, edges: int = 5000) -> Path:
    """Write an analysed graph as a page to look around in: pick a node, search one, choose how many edges are shown."""
    place, radius = places(graph), radii(graph)
    number = {node: index for index, node in enumerate(graph)}
    shown = strongest(graph, edges)[::-1]  # the strongest first
    named = {node for part in _layers(graph) if len(part) <= NAMED for node in part}
    nodes = [
        {
            "name": f"{about['name']} {about['label']}",
            "x": place[node][0],
            "y": 1 - place[node][1],
            "r": radius[node],
            "colour": tint(about["community"]),
            "label": about["label"] if node in named else "",
            "facts": _facts(about),
        }
        for node, about in graph.nodes(data=True)
    ]
    links = [[number[a], number[b], round(share, 4), round(graph.edges[a, b]["weight"], 4)] for a, b, share in shown]
    layers = [[graph.nodes[part[0]]["name"], sum(place[n][0] for n in part) / len(part)] for part in _layers(graph)]
    template = Environment(autoescape=True).from_string(Path(__file__).with_name("graph.html").read_text("utf-8"))
    total = graph.number_of_edges()
    path.write_text(template.render(title=title, total=total, nodes=nodes, links=links, layers=layers), "utf-8")
    return path


def radii(graph: Graph) -> dict[str, float]:
    """Radii in points: areas grow with centrality."""
    central = {node: graph.nodes[node]["centrality"] for node in graph}
    most = max(central.values()) or 1.0
    return {node: 2 + 8 * (value / most) ** 0.5 for node, value in central.items()}


def tint(community: int) -> str:
    """The colour of a community; small ones share one."""
    return COLOURS[community] if community < len(COLOURS) else OTHER


def _layers(graph: Graph) -> list[list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for node in graph:
        found[graph.nodes[node]["layer"]].append(node)
    return [nodes for _, nodes in sorted(found.items())]


def _facts(about: dict[str, Any]) -> str:
    return (
        f"centrality {about['centrality']:.4f}, community {about['community'] + 1}, "
        f"{about['strength_in']:.2f} nats in, {about['strength_out']:.2f} nats out"
    )
