"""The house as its imports draw it: rooms, floors and arrows. `python -m tests.house` prints the picture.

A room is a folder of the package (or a module that lies beside the folders); an arrow leads from a room to one that it
imports, wherever in a file that happens; a room's floor is one above the highest floor that it stands on.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx

ROOT = Path(__file__).parent.parent
LINKED = ("methods", "metrics")  # rooms that lie at the top and are linked into the package


def files() -> list[Path]:
    """Every module of the package, where it really is."""
    found = [path for path in (ROOT / "mibench").rglob("*.py") if path.relative_to(ROOT).parts[1] not in LINKED]
    return sorted(found + [path for room in LINKED for path in (ROOT / room).rglob("*.py")])


def dotted(path: Path) -> str:
    """A module's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    whole = parts if parts[0] == "mibench" else ("mibench", *parts)
    return ".".join(part for part in whole if part != "__init__")


def room(module: str) -> str:
    """The room that a module is in; the package's own face is the room `mibench`."""
    return module.split(".")[1] if "." in module else module


def imported(path: Path, modules: frozenset[str]) -> Iterator[str]:
    """The modules of ours that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from {name if name in modules else node.module for name in names} & modules


def arrows() -> networkx.DiGraph[str]:
    """Which module imports which."""
    modules = frozenset(map(dotted, files()))
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(modules)
    graph.add_edges_from((dotted(path), other) for path in files() for other in imported(path, modules))
    return graph


def rooms() -> networkx.DiGraph[str]:
    """Which room imports which other."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(room(dotted(path)) for path in files())
    graph.add_edges_from((room(a), room(b)) for a, b in arrows().edges if room(a) != room(b))
    return graph


def floors(graph: networkx.DiGraph[str]) -> dict[str, int]:
    """The floor of every room, from 1."""
    floor: dict[str, int] = {}
    for each in reversed(list(networkx.topological_sort(graph))):
        floor[each] = 1 + max((floor[below] for below in graph.successors(each)), default=0)
    return floor


if __name__ == "__main__":
    picture = rooms()
    floor = floors(picture)
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in files())
    print(f"{len(picture)} rooms, {max(floor.values())} floors, {picture.number_of_edges()} arrows between rooms")
    print(f"{len(files())} files, {arrows().number_of_edges()} arrows between files, {lines} lines")
    for number in sorted(set(floor.values()), reverse=True):
        print(f"floor {number}: {', '.join(sorted(each for each in floor if floor[each] == number))}")
