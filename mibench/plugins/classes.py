"""Plug-ins as classes: what a module defines, whether it can be used, and its parameters from a spec."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from mibench.errors import UsageError
from mibench.plugins.cards import Card, ExplainerCard, MetricCard, Room, WrapperCard
from mibench.plugins.contract import (
    PERTURBED,
    VARIANTS,
    Data,
    Explainer,
    MapSpec,
    Metric,
    Model,
    Parameters,
    Wrapper,
)
from mibench.plugins.spec import Spec, read, spelt, unknown, written

ROOMS: Mapping[Room, tuple[type, ...]] = {
    "methods": (Explainer, Wrapper),
    "metrics": (Metric,),
    "models": (Model,),
    "data": (Data,),
}
NEEDS = ("mask", "truth", "image", *VARIANTS, PERTURBED)  # what a metric may need …
NAMED_NEEDS = ("map", "signals")  # … and what of an explainer's, by its name
E = TypeVar("E", Explainer, ExplainerCard)
W = TypeVar("W", Wrapper, WrapperCard)


@dataclass(frozen=True)
class Method(Generic[E, W]):
    """What gives rows to a board: an explainer, perhaps seen through a wrapper; both as plug-ins or as their cards."""

    explainer: E
    wrapper: W | None = None

    @property
    def label(self) -> str:
        """The name on the board."""
        inner = label(self.explainer)
        return inner if self.wrapper is None else f"{self.wrapper.name}:{inner}"

    @property
    def control(self) -> bool:
        """Whether the rows are shown but never ranked."""
        return self.explainer.control if self.wrapper is None else self.wrapper.control

    @property
    def rows(self) -> dict[str, MapSpec]:
        """The board's rows and the map that each shows; a wrapper shows the first map only."""
        first, *others = self.explainer.maps
        rows = {self.label: first}
        return rows if self.wrapper else rows | {f"{self.label}.{spec.name}": spec for spec in others}


def label(plugin: Explainer | Metric | Model | Data | Card) -> str:
    """The shortest spec that means this plug-in: parameters that differ from their defaults are shown."""
    if isinstance(plugin, Card):
        return plugin.label
    default = type(plugin).Parameters()
    shown = {
        key: written(value)
        for key, value in sorted(plugin.parameters.model_dump().items())
        if value != getattr(default, key)
    }
    return spelt(plugin.name, shown, getattr(plugin, "argument", ""))


def parameters(cls: type[Any], spec: Spec) -> Parameters:
    """Typed parameters from a spec's text."""
    fields = cls.Parameters.model_fields
    values: dict[str, Any] = {}
    for key, text in spec.parameters.items():
        if key not in fields:
            raise unknown(f"parameter of {spec.name}", key, fields)
        values[key] = read(text, fields[key].annotation)
    try:
        return typing.cast(Parameters, cls.Parameters(**values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "parameters"
        given = f"={spec.parameters[key]}" if key in spec.parameters else ""
        raise UsageError(f"{spec.name}[{key}{given}] is not possible: {first['msg']}") from error


def made(cls: type[Any], spec: Spec) -> Any:
    """The plug-in that a spec means."""
    if issubclass(cls, Wrapper):
        return cls()
    typed = parameters(cls, spec)
    return cls(typed, spec.argument) if issubclass(cls, Model | Data) or _takes(cls) else cls(typed)


def _takes(cls: type[Any]) -> str:
    """What must follow the name of a metric and a colon."""
    return str(getattr(cls, "takes", ""))


def refuse_argument(spec: Spec, takes: str = "") -> None:
    """Refuse what follows a colon where nothing may, and nothing where something must."""
    if takes and not spec.argument:
        raise UsageError(f"{spec.name!r} alone names nothing: write {spec.name}:{takes}")
    if spec.argument and not takes:
        raise UsageError(f"{spec.name!r} takes no argument after a colon, but was given {spec.argument!r}")


def refuse_unknown_needs(metric: Metric | MetricCard) -> None:
    """Refuse a metric that needs what nothing gives: it would be skipped on every task."""
    for need in sorted(metric.needs):
        group, _, name = str(need).partition(":")
        if need not in NEEDS and not (group in NAMED_NEEDS and name):
            fault = unknown("need", str(need), (*NEEDS, *(f"{each}:NAME" for each in NAMED_NEEDS)))
            raise UsageError(f"metric {label(metric)!r} needs {str(need)!r}: {fault}")


def defined(loaded: Any, bases: tuple[type, ...], attribute: str) -> Iterator[tuple[str, type[Any]]]:
    """The concrete plug-ins that a module defines, or the class itself if an entry point names one, by attribute."""
    if inspect.isclass(loaded):
        if not issubclass(loaded, bases) or inspect.isabstract(loaded):
            raise TypeError(f"{loaded.__name__} is not a concrete {' or '.join(base.__name__ for base in bases)}")
        yield attribute, loaded
    elif inspect.ismodule(loaded):
        classes = [each for each in sorted(vars(loaded).items()) if inspect.isclass(each[1])]
        classes = [(name, cls) for name, cls in classes if issubclass(cls, bases) and not cls.__name__.startswith("_")]
        own = [(name, cls) for name, cls in classes if cls.__module__ == loaded.__name__]
        shared = {base for _, cls in own for base in cls.__mro__[1:]}  # plug-ins are final: what has heirs is none
        above = f"{attribute}." if attribute else ""
        yield from ((above + name, cls) for name, cls in own if cls not in shared and not inspect.isabstract(cls))
    else:
        raise TypeError(f"an entry point must name a class or a module, not {type(loaded).__name__}")


def fault(cls: type[Any]) -> str:
    """Why a class cannot be a plug-in, or an empty string."""
    base = next(base for bases in ROOMS.values() for base in bases if issubclass(cls, base))
    wanted = [key for key, kind in inspect.get_annotations(base).items() if str(kind).startswith("ClassVar")]
    missing = [key for key in wanted if not hasattr(cls, key)]
    if missing:
        return f"does not declare its {', '.join(missing)}"
    if not isinstance(cls.name, str) or not cls.name or set(cls.name) & set(":[],= ./"):
        return f"has the unusable name {cls.name!r}"
    if not issubclass(getattr(cls, "Parameters", Parameters), Parameters):
        return "has parameters that do not derive from the contract's"
    return ""
