"""Hashes of everything that can change an answer, so that what was computed is used again exactly as long as it holds.

A plug-in's hash covers its own source, the source of every module of the same package that it imports, and the
versions of the libraries that these import. What counts of a source is what it does: no comments, no layout, no
docstrings, no names of modules of its own package: neither a plainer sentence nor a move computes anything again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DIGITS = 24


def digest(*parts: Any) -> str:
    """A short hash of data that JSON can write."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def sources(modules: Iterable[str]) -> str:
    """A hash of modules, of all that they import from their own packages, and of the versions of other libraries.

    A plan asks for the same modules some hundred times: they are walked through again only if a file has changed.
    """
    wanted = tuple(sorted(modules))
    if wanted not in _walked or any(path.stat().st_mtime_ns != changed for path, changed in _walked[wanted][1].items()):
        _walked[wanted] = _walk(wanted)
    return _walked[wanted][0]


_walked: dict[tuple[str, ...], tuple[str, dict[Path, int]]] = {}


def _walk(modules: tuple[str, ...]) -> tuple[str, dict[Path, int]]:
    """The hash, and the files that it covers with when they were changed."""
    seen: dict[str, str] = {}  # module -> hash of what it does
    libraries: set[str] = set()
    files: dict[Path, int] = {}
    ahead = list(modules)
    own = {"mibench", *(name.partition(".")[0] for name in ahead)}
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        path = _file(name)
        if path is None:
            continue
        files[path] = path.stat().st_mtime_ns
        seen[name], imported = _read(path, files[path], name, frozenset(own))
        for each in imported:
            if each.partition(".")[0] in own:
                ahead.append(each)
            else:
                libraries.add(each.partition(".")[0])
    versions = {library: _version(library) for library in sorted(libraries - set(sys.stdlib_module_names))}
    return digest(sorted(seen.values()), versions), files


def contents(texts: Iterable[str], own: Iterable[str] = ("mibench",)) -> str:
    """A hash of what pieces of source do, whatever their modules are called; `own` are the packages they belong to."""
    return digest(sorted(_hash(ast.parse(text), frozenset(own)) for text in texts))


@functools.cache
def _read(path: Path, _changed: int, module: str, own: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """A hash of what a module does, and the names of all that it imports, absolute."""
    tree = ast.parse(path.read_text("utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return _hash(tree, own), tuple(dict.fromkeys(names))


def _hash(tree: ast.Module, own: frozenset[str]) -> str:
    """A hash of a module's syntax without docstrings and without the names of its own package's modules."""
    return hashlib.sha256(ast.dump(_Plain(own).visit(tree)).encode()).hexdigest()


class _Plain(ast.NodeTransformer):
    """Takes docstrings out, and of imports from its own package all but the names that they bind."""

    def __init__(self, own: frozenset[str]) -> None:
        self.own = own

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
        return super().generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.module == "__future__":
            return None
        if node.level or (node.module or "").partition(".")[0] in self.own:
            names = sorted(node.names, key=lambda alias: (alias.name, alias.asname or ""))
            return ast.ImportFrom(module="", names=names, level=0)
        return node


@functools.cache
def _file(name: str) -> Path | None:
    """The source file of a module; None where the name is no module or has no source."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


@functools.cache
def _version(library: str) -> str:
    """The versions of the distributions that an import name comes from."""
    found = _distributions().get(library, [])
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(found)))


@functools.cache
def _distributions() -> Any:
    return importlib.metadata.packages_distributions()
