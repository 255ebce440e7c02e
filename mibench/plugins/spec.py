"""How a person names a plug-in: `name`, `name[key=value,key=value]`, `name:argument`.

Specs nest: `cnn-c[data=folder[classes=FILE]:PATH]`, `mosaic:folder[classes=FILE]:PATH`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mibench.errors import UsageError, is_unprintable, nearest

MAX_LETTERS = 4096  # of a spec: the longest path that Linux takes
MAX_SPECS = 2**16  # letters of several specs with commas between


@dataclass(frozen=True)
class Spec:
    """A plug-in as written by a person."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    argument: str = ""


def parse(text: str) -> Spec:
    """Read `name[key=value,…]`, `name:argument` or both, in this order; values and the argument may be specs again."""
    if len(text) > MAX_LETTERS:
        raise UsageError(
            f"{text[:40]!r} … has {len(text):,} letters: a name with its parameters has {MAX_LETTERS:,} at most"
        )
    if any(map(is_unprintable, text)):
        raise UsageError(
            f"{text!r} is not UTF-8 or has control characters: write it without, and rename a file of that name"
        )
    head, _, argument = text.partition(":")
    if "[" not in head:  # everything after the first colon is the argument's, brackets too
        return Spec(head.strip(), {}, argument)
    name, _, tail = text.partition("[")
    end = _closing(tail)
    inside, rest = tail[:end], tail[end + 1 :]
    if end < 0 or (rest and not rest.startswith(":")):
        fault = "a bracket is not closed" if end < 0 else f"{rest!r} follows the closing bracket"
        raise UsageError(f"{text!r} is not a spec, for {fault}: write name, name[key=value,key=value] or name:argument")
    parameters: dict[str, str] = {}
    for part in split(inside) if inside.strip() else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or key in parameters:
            raise UsageError(f"{text!r}: {part!r} is not one key=value")
        parameters[key] = value
    return Spec(name.strip(), parameters, rest[1:])


def _closing(text: str) -> int:
    """Where the bracket is closed that was opened before this text; -1 if nowhere."""
    depth = 1
    for index, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if not depth:
            return index
    return -1


def split(text: str) -> list[str]:
    """One spec or several with commas between them; the commas inside of brackets are the specs' own."""
    if len(text) > MAX_SPECS:
        raise UsageError(f"{text[:40]!r} … has {len(text):,} letters, more than {MAX_SPECS:,}: write a suite's file")
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth <= 0:
            parts.append(text[start:place])
            start = place + 1
    specs = [part.strip() for part in (*parts, text[start:])]
    if not all(specs):
        raise UsageError(f"{text!r} has an empty entry: write names with single commas between them")
    return specs


def spelt(name: str, parameters: Mapping[str, str], argument: str = "") -> str:
    """The text that `parse` understands."""
    inside = ",".join(f"{key}={value}" for key, value in parameters.items())
    return name + (f"[{inside}]" if inside else "") + (f":{argument}" if argument else "")


def shown(label: str) -> str:
    """What a plug-in is called in progress, headings and files: its parameter `name` if it has one, else its label."""
    return parse(label).parameters.get("name", label)


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest that do."""
    return UsageError(f"there is no {kind} {name!r}; {nearest(name, known)}")


def read(text: str, annotation: Any) -> Any:
    """The text of a parameter as pydantic can take it: `none` where nothing is allowed, `a+b` where several are."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if text.lower() == "none" and type(None) in options:
        return None
    if any(typing.get_origin(option) in (tuple, list) for option in options):
        return text.split("+")
    return text


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def written(value: Any) -> str:
    """A parameter's value as a spec writes it."""
    if isinstance(value, tuple | list):
        return "+".join(written(each) for each in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
