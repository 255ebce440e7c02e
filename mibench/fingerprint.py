"""Hashes of everything that can change an answer, so that what was computed is used again exactly as long as it holds.

A plug-in's hash covers its own source, the source of every module of the same package that it imports, and the
versions of the libraries that these import. Comments and layout do not count.
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
    wanted = tuple(modules)
    if wanted not in _walked or any(path.stat().st_mtime_ns != changed for path, changed in _walked[wanted][1].items()):
        _walked[wanted] = _walk(wanted)
    return _walked[wanted][0]


_walked: dict[tuple[str, ...], tuple[str, dict[Path, int]]] = {}


def _walk(modules: tuple[str, ...]) -> tuple[str, dict[Path, int]]:
    """The hash, and the files that it covers with when they were changed."""
    seen: dict[str, str] = {}
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
        seen[name], imported = _read(path, files[path], name)
        for each in imported:
            if each.partition(".")[0] in own:
                ahead.append(each)
            else:
                libraries.add(each.partition(".")[0])
    versions = {library: _version(library) for library in sorted(libraries - set(sys.stdlib_module_names))}
    return digest(seen, versions), files


@functools.cache
def _read(path: Path, _changed: int, module: str) -> tuple[str, tuple[str, ...]]:
    """A hash of a module's syntax, and the names of all that it imports, absolute."""
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
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(dict.fromkeys(names))


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
