"""Hashes of everything that can change an answer, so that what was computed is used again exactly as long as it holds.

A plug-in's hash covers its own source, the source of every module of the same package that it imports, and the
versions of the libraries that these import. What counts of a source is what it does: no comments, no layout, no
docstrings, no names of modules of its own package: neither a plainer sentence nor a move computes anything again.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from mibench.files.sources import does, file, version, walk

DIGITS = 24


def digest(*parts: Any) -> str:
    """A short hash of data that JSON can write."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def sources(modules: Iterable[str]) -> str:
    """A hash of modules, of all that they import from their own packages, and of the versions of other libraries."""
    found = walk(modules)
    return digest(found.does, {library: version(library) for library in found.libraries})


def modules(names: Iterable[str], own: Iterable[str] = ("mibench",)) -> str:
    """A hash of what modules do, without what they import and whatever they are called."""
    texts = [path.read_text("utf-8") for path in map(file, names) if path]
    return contents(texts, own)


def contents(texts: Iterable[str], own: Iterable[str] = ("mibench",)) -> str:
    """A hash of what pieces of source do, whatever their modules are called; `own` are the packages they belong to."""
    return digest(sorted(does(ast.parse(text), frozenset(own)) for text in texts))
