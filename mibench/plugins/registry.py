"""Plug-ins as live objects: what a worker, a test or a notebook makes of a spec, by importing that plug-in alone.

The catalogue knows which plug-ins exist, and where; a run that only plans, lists or reports takes cards from it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from mibench.errors import UsageError
from mibench.plugins import catalogue, classes
from mibench.plugins.cards import Place, Room
from mibench.plugins.catalogue import broken, names, places, refresh, use
from mibench.plugins.classes import ROOMS, label, refuse_argument, refuse_unknown_needs
from mibench.plugins.contract import Data, Explainer, Metric, Model, Wrapper
from mibench.plugins.spec import Spec, parse, shown, split, unknown, written

__all__ = [  # every look-up of plug-ins, in one place
    "ROOMS",
    "Method",
    "Place",
    "Room",
    "Spec",
    "broken",
    "data",
    "explainer",
    "is_ours",
    "is_registered",
    "label",
    "method",
    "metric",
    "model",
    "names",
    "parse",
    "places",
    "plugins",
    "refresh",
    "refuse_unknown_needs",
    "shown",
    "split",
    "unknown",
    "use",
    "wrapper",
    "written",
]


class Method(classes.Method[Explainer, Wrapper]):
    """What gives rows to a board, as plug-ins."""


def method(text: str) -> Method:
    """The explainer of a spec, with the wrapper that `wrapper:inner` names."""
    asked = parse(text)
    cls = _loaded("methods", asked.name)
    if not issubclass(cls, Wrapper):
        return Method(explainer(text))
    if not asked.argument:
        raise UsageError(f"{asked.name} changes another method's maps: write {asked.name}:METHOD")
    return Method(explainer(asked.argument), cls())


def explainer(text: str) -> Explainer:
    """The explainer of a spec such as `iba[beta=10]`."""
    asked = parse(text)
    cls: type[Explainer] = _loaded("methods", asked.name)
    if not issubclass(cls, Explainer):
        raise UsageError(f"{text!r}: {asked.name} changes another method's maps and is not an explainer itself")
    refuse_argument(asked)
    found: Explainer = classes.made(cls, asked)
    return found


def metric(text: str) -> Metric:
    """The metric of a spec."""
    asked = parse(text)
    cls = _loaded("metrics", asked.name)
    refuse_argument(asked, cls.takes if asked.argument else "")
    found: Metric = classes.made(cls, asked)
    return found


def wrapper(name: str) -> Wrapper:
    """The wrapper of a name."""
    cls: type[Wrapper] = _loaded("methods", name)
    return cls()


def model(text: str) -> Model:
    """The zoo's network of a spec."""
    asked = parse(text)
    found: Model = classes.made(_loaded("models", asked.name), asked)
    return found


def data(text: str) -> Data:
    """The source of samples of a spec such as `folder:PATH`."""
    asked = parse(text)
    cls = _loaded("data", asked.name)
    catalogue.refuse_depth(text)
    found: Data = classes.made(cls, asked)
    return found


def plugins(room: Room) -> Mapping[str, type[Any]]:
    """Every usable plug-in class of a room by its name: all of them are imported here."""
    return {name: _loaded(room, name) for name in names(room)}


def is_ours(plugin: Explainer | Metric | Wrapper) -> bool:
    """Whether a method or a metric comes with this package; what others wrote gets a worker of its own."""
    room: Room = "metrics" if isinstance(plugin, Metric) else "methods"
    if plugin.name not in names(room):
        return False
    place = catalogue.place(room, plugin.name)
    return place.ours and _at(place) is type(plugin)


def is_registered(room: Room, cls: type[Any]) -> bool:
    """Whether a class is the one that is found by its name."""
    name = getattr(cls, "name", "")
    return name in names(room) and _loaded(room, name) is cls


def _loaded(room: Room, name: str) -> type[Any]:
    """The class of a name."""
    return _at(catalogue.place(room, name))


def _at(place: Place) -> type[Any]:
    """The class at a place."""
    found: Any = functools.reduce(getattr, place.attribute.split("."), importlib.import_module(place.module))
    cls: type[Any] = found
    return cls
