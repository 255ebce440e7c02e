"""What modules do and import, read from their files: nothing is imported, so nothing of a stranger's runs.

A file is read and parsed when its time or size has changed, else what was found in it comes from the user's cache.
What counts of a source is what it does: no comments, no layout, no docstrings, no names of modules of its own package.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mibench.files import cache

CACHED = "sources.json"
MAX_FILES = 20_000  # that the cache remembers


class Look(BaseModel):
    """A file as it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changed: int  # nanoseconds
    size: int
    does: str  # SHA-256 of what it does
    text: str  # SHA-256 of its bytes
    imports: tuple[str, ...]  # absolute


class Looks(BaseModel):
    """All that is kept between commands."""

    model_config = ConfigDict(extra="forbid")

    python: str
    files: dict[str, Look] = {}  # own packages and path -> what was found
    installed: str = ""  # what `distributions` was read from
    distributions: dict[str, tuple[str, ...]] = {}  # import name -> distributions


@dataclass(frozen=True)
class Walk:
    """Modules with all that they import from their own packages."""

    does: tuple[str, ...]  # hashes, sorted
    texts: tuple[str, ...]
    libraries: tuple[str, ...]  # other packages' import names, without Python's own
    files: dict[Path, tuple[int, int]] = field(repr=False)  # time and size


def walk(modules: Iterable[str]) -> Walk:
    """Read modules and what they import from their own packages and from this one."""
    wanted = tuple(sorted(modules))
    known = _walked.get(wanted)
    if known is None or any(_state(path) != state for path, state in known.files.items()):
        _walked[wanted] = known = _walk(wanted)
    return known


_walked: dict[tuple[str, ...], Walk] = {}


def _walk(modules: tuple[str, ...]) -> Walk:
    seen: dict[str, Look] = {}
    libraries: set[str] = set()
    files: dict[Path, tuple[int, int]] = {}
    ahead = list(modules)
    own = frozenset({"mibench", *(name.partition(".")[0] for name in ahead)})
    while ahead:
        name = ahead.pop()
        if name in seen or (path := file(name)) is None:
            continue
        seen[name] = look = _look(path, name, own)
        files[path] = look.changed, look.size
        for each in look.imports:
            top = each.partition(".")[0]
            if top in own:
                ahead.append(each)
            else:
                libraries.add(top)
    return Walk(
        tuple(sorted(look.does for look in seen.values())),
        tuple(sorted(look.text for look in seen.values())),
        tuple(sorted(libraries - set(sys.stdlib_module_names))),
        files,
    )


def _state(path: Path) -> tuple[int, int]:
    """When a file was changed, and its size."""
    try:
        found = path.stat()
    except OSError:
        return 0, -1
    return found.st_mtime_ns, found.st_size


def _look(path: Path, module: str, own: frozenset[str]) -> Look:
    """A source file, read again only if it has changed."""
    key = f"{' '.join(sorted(own))}:{path}"
    looks = _looks()
    known = looks.files.get(key)
    state = _state(path)
    if known and (known.changed, known.size) == state:
        return known
    now = time.time_ns()
    content = path.read_bytes()
    tree = ast.parse(content)
    imports = tuple(dict.fromkeys(_imported(tree, module, path)))
    found = Look(
        changed=state[0],
        size=state[1],
        does=does(tree, own),
        text=hashlib.sha256(content).hexdigest(),
        imports=imports,
    )
    if cache.settled(state[0], now):
        looks.files[key] = found
        _dirty.add(CACHED)
    return found


def _imported(tree: ast.Module, module: str, path: Path) -> list[str]:
    """The absolute names of all that a module imports."""
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
    return names


def does(tree: ast.Module, own: frozenset[str]) -> str:
    """A hash of a module's syntax without docstrings and without the names of its own packages' modules."""
    return hashlib.sha256(ast.dump(_Plain(own).visit(tree)).encode()).hexdigest()


class _Plain(ast.NodeTransformer):
    """Takes docstrings out, and of imports from its own packages all but the names that they bind."""

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


def file(name: str) -> Path | None:
    """The source file of a module, found without importing its package; None where there is none."""
    key = name, tuple(sys.path)
    if key not in _files:
        _files[key] = _found(name)
    return _files[key]


_files: dict[tuple[str, tuple[str, ...]], Path | None] = {}


def _found(name: str) -> Path | None:
    above, _, _ = name.rpartition(".")
    if not above:
        found = _spec(name, None)
    else:
        package = _package(above)
        found = _spec(name, package) if package else None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    return Path(found.origin)


def _package(name: str) -> list[str] | None:
    """The folders of a package."""
    above, _, _ = name.rpartition(".")
    path = _package(above) if above else None
    found = _spec(name, path) if path or not above else None
    if found is None or found.submodule_search_locations is None:
        return None
    try:
        return list(found.submodule_search_locations)
    except KeyError:  # a namespace inside of a package that is not imported
        return None


def _spec(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        try:
            if found := finder.find_spec(name, path):
                return found
        except (ImportError, ValueError, AttributeError):
            continue
    return None


def refresh() -> None:
    """Look for modules again: packages may have been installed meanwhile."""
    importlib.invalidate_caches()
    _files.clear()
    _walked.clear()
    version.cache_clear()


@functools.cache
def version(library: str) -> str:
    """The versions of the distributions that an import name comes from."""
    found = distributions().get(library, ())
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(found)))


def distributions() -> dict[str, tuple[str, ...]]:
    """Import name -> distributions: read again where something was installed or removed."""
    looks = _looks()
    installed = hashlib.sha256(json.dumps([_packages(path) for path in sys.path]).encode()).hexdigest()
    if looks.installed != installed:
        found = importlib.metadata.packages_distributions()
        looks.distributions = {name: tuple(each) for name, each in found.items()}
        looks.installed = installed
        _dirty.add(CACHED)
    return looks.distributions


def _packages(folder: str) -> list[str]:
    """The distributions of a folder, with their versions."""
    try:
        return sorted(name for name in os.listdir(folder or ".") if name.endswith((".dist-info", ".egg-info")))
    except OSError:
        return []


_dirty: set[str] = set()  # what is to be written to the cache


@functools.cache
def _looks() -> Looks:
    """What earlier commands have found; nothing where that was written by another version, or is damaged."""
    fresh = Looks(python=sys.version)
    try:
        kept = Looks.model_validate_json(cache.read(CACHED) or "{}")
    except (ValidationError, ValueError):
        return fresh
    return kept if kept.python == fresh.python and len(kept.files) < MAX_FILES else fresh


def keep() -> None:
    """Write what was found to the cache, if there is something new."""
    if _dirty:
        _dirty.clear()
        cache.write(CACHED, _looks().model_dump_json().encode())
