"""Plug-ins, found by listing the rooms and the entry points; there is no second list anywhere.

A plug-in is a concrete subclass of one of the contract's classes, defined in a module of its room or named by an
installed package's entry point, and is asked for by a spec: `name`, `name[key=value,key=value]`, `name:argument`.
Specs nest: `cnn-c[data=folder[classes=FILE]:PATH]`, `mosaic:folder[classes=FILE]:PATH`.
A plug-in that cannot be imported is set aside with its reason and does not take the others down.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from mibench.errors import UsageError, is_unprintable, nearest
from mibench.plugins import reasons, trial
from mibench.plugins.contract import PERTURBED, VARIANTS, Data, Explainer, MapSpec, Metric, Model, Parameters, Wrapper

MAX_LETTERS = 4096  # of a spec: the longest path that Linux takes
MAX_SPECS = 2**16  # letters of several specs with commas between
MAX_DEPTH = 4  # data made of data made of data …
Room = Literal["methods", "metrics", "models", "data"]
ROOMS: Mapping[Room, tuple[type, ...]] = {
    "methods": (Explainer, Wrapper),
    "metrics": (Metric,),
    "models": (Model,),
    "data": (Data,),
}
SINGULAR: Mapping[Room, str] = {"methods": "method", "metrics": "metric", "models": "model", "data": "data set"}
Plugin = TypeVar("Plugin")
NEEDS = ("mask", "truth", "image", *VARIANTS, PERTURBED)  # what a metric may need …
NAMED_NEEDS = ("map", "signals")  # … and what of an explainer's, by its name


@dataclass(frozen=True)
class Spec:
    """A plug-in as written by a person."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    argument: str = ""


@dataclass(frozen=True)
class Place:
    """Where the class of a plug-in is, so that a worker can import it and nothing else."""

    module: str
    attribute: str
    ours: bool  # whether it is in a room of this package


Places = Mapping[tuple[Room, str], Place]


@dataclass(frozen=True)
class Broken:
    """A plug-in that was found but cannot be used."""

    origin: str
    reason: str


@dataclass(frozen=True)
class Method:
    """What gives rows to a board: an explainer, perhaps seen through a wrapper."""

    explainer: Explainer
    wrapper: Wrapper | None = None

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


def method(text: str) -> Method:
    """The explainer of a spec, with the wrapper that `wrapper:inner` names."""
    spec = parse(text)
    cls = _find("methods", spec.name)
    if not issubclass(cls, Wrapper):
        return Method(explainer(text))
    if not spec.argument:
        raise UsageError(f"{spec.name} changes another method's maps: write {spec.name}:METHOD")
    return Method(explainer(spec.argument), cls())


def explainer(text: str) -> Explainer:
    """The explainer of a spec such as `iba[beta=10]`."""
    spec = parse(text)
    cls: type[Explainer] = _find("methods", spec.name)
    if not issubclass(cls, Explainer):
        raise UsageError(f"{text!r}: {spec.name} changes another method's maps and cannot stand here alone")
    _no_argument(spec)
    return cls(_parameters(cls, spec))


def metric(text: str) -> Metric:
    """The metric of a spec."""
    spec = parse(text)
    cls: type[Metric] = _find("metrics", spec.name)
    _no_argument(spec)
    return cls(_parameters(cls, spec))


def wrapper(name: str) -> Wrapper:
    """The wrapper of a name."""
    cls: type[Wrapper] = _find("methods", name)
    return cls()


def model(text: str) -> Model:
    """The zoo's network of a spec."""
    spec = parse(text)
    cls: type[Model] = _find("models", spec.name)
    return cls(_parameters(cls, spec), spec.argument)


def data(text: str) -> Data:
    """The source of samples of a spec such as `folder:PATH`."""
    spec = parse(text)
    cls: type[Data] = _find("data", spec.name)
    inner, depth = spec.argument, 1
    while inner.partition(":")[0].partition("[")[0] in plugins("data"):
        inner, depth = inner.partition(":")[2], depth + 1
        if depth > MAX_DEPTH:
            raise UsageError(f"{text!r} makes data of data more than {MAX_DEPTH - 1} times: name the innermost ones")
    return cls(_parameters(cls, spec), spec.argument)


def names(room: Room) -> tuple[str, ...]:
    """The names of everything usable in a room."""
    return tuple(sorted(plugins(room)))


def plugins(room: Room) -> Mapping[str, type[Any]]:
    """Every usable plug-in class of a room by its name."""
    return _survey(room)[0]


def broken() -> tuple[Broken, ...]:
    """Every plug-in that was found but cannot be used."""
    return tuple(found for room in ROOMS for found in _survey(room)[1])


def places() -> Places:
    """Where every usable plug-in is: what a worker must know to import only those that it needs."""
    return {(room, name): place for room in ROOMS for name, place in _survey(room)[2].items()}


def use(known: Places | None) -> None:
    """Look plug-ins up at these places alone from now on, importing one when it is first asked for; None: survey."""
    global _known
    _known = known


def is_ours(plugin: Explainer | Metric | Wrapper) -> bool:
    """Whether a method or a metric comes with this package; what others wrote gets a worker of its own."""
    room: Room = "metrics" if isinstance(plugin, Metric) else "methods"
    place = _place(room, plugin.name)
    return place is not None and place.ours and _loaded(place) is type(plugin)


def refuse_unknown_needs(metric: Metric) -> None:
    """Refuse a metric that needs what nothing gives: it would be skipped on every task."""
    for need in sorted(metric.needs):
        group, _, name = str(need).partition(":")
        if need not in NEEDS and not (group in NAMED_NEEDS and name):
            fault = unknown("need", str(need), (*NEEDS, *(f"{each}:NAME" for each in NAMED_NEEDS)))
            raise UsageError(f"metric {label(metric)!r} needs {str(need)!r}: {fault}")


def refresh() -> None:
    """Forget what was found; the next question looks again."""
    importlib.invalidate_caches()
    _survey.cache_clear()


def label(plugin: Explainer | Metric | Model | Data) -> str:
    """The shortest spec that means this plug-in: parameters that differ from their defaults are shown."""
    default = type(plugin).Parameters()
    shown = [
        f"{key}={written(value)}"
        for key, value in sorted(plugin.parameters.model_dump().items())
        if value != getattr(default, key)
    ]
    argument = getattr(plugin, "argument", "")
    return plugin.name + (f"[{','.join(shown)}]" if shown else "") + (f":{argument}" if argument else "")


def shown(label: str) -> str:
    """What a plug-in is called in progress, headings and files: its parameter `name` if it has one, else its label."""
    return parse(label).parameters.get("name", label)


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest that do."""
    return UsageError(f"there is no {kind} {name!r}; {nearest(name, known)}")


def _find(room: Room, name: str) -> type[Any]:
    """The class of a name, or the error that says what is nearest, or why the plug-in of that name is set aside."""
    if _known is not None:
        if (room, name) not in _known:
            raise unknown(SINGULAR[room], name, (each for place, each in _known if place == room))
        return _loaded(_known[room, name])
    found, failed, _ = _survey(room)
    if name in found:
        return found[name]
    for each in failed:
        if name.replace("-", "_") in each.origin.replace("-", "_"):
            raise UsageError(f"{SINGULAR[room]} {name!r} cannot be used: {each.reason} (in {each.origin})")
    raise unknown(SINGULAR[room], name, found)


def _no_argument(spec: Spec) -> None:
    if spec.argument:
        raise UsageError(f"{spec.name!r} takes no argument after a colon, but was given {spec.argument!r}")


_known: Places | None = None  # where plug-ins are, in a worker


def _place(room: Room, name: str) -> Place | None:
    return _survey(room)[2].get(name) if _known is None else _known.get((room, name))


def _loaded(place: Place) -> type[Any]:
    """The class at a place."""
    found: Any = functools.reduce(getattr, place.attribute.split("."), importlib.import_module(place.module))
    cls: type[Any] = found
    return cls


@functools.cache
def _survey(room: Room) -> tuple[dict[str, type[Any]], list[Broken], dict[str, Place]]:
    """List a room's modules, then the entry points of its name; ours keep their names against later ones."""
    found: dict[str, type[Any]] = {}
    failed: list[Broken] = []
    known: dict[str, Place] = {}
    for ours, sources in ((True, _modules(room)), (False, _entry_points(room))):
        for origin, module, attribute, load in sources:
            if not ours and (fault := trial.fault(load)):
                failed.append(Broken(origin, fault))
                continue
            try:
                for name, cls in _classes(load(), ROOMS[room], attribute):
                    fault = _fault(cls, found)
                    if fault:
                        failed.append(Broken(origin, f"{cls.__name__} {fault}"))
                    elif cls.name not in found:
                        found[cls.name], known[cls.name] = cls, Place(module, name, ours)
            except KeyboardInterrupt:  # the user's
                raise
            except BaseException as error:  # somebody else's module may raise anything when it is imported
                failed.append(Broken(origin, reasons.kind(error)))
    return found, failed, known


def _modules(room: Room) -> Iterator[tuple[str, str, str, Any]]:
    """Every module of a room: its name twice, no attribute, and the function that imports it."""
    package = importlib.import_module(f"mibench.{room}")
    for module in sorted(pkgutil.walk_packages(package.__path__, f"{package.__name__}."), key=lambda each: each.name):
        if not module.ispkg:
            yield module.name, module.name, "", functools.partial(importlib.import_module, module.name)


def _entry_points(room: Room) -> Iterator[tuple[str, str, str, Any]]:
    """Every installed package's plug-in for a room: its origin, module, attribute, and the function that imports it."""
    points = importlib.metadata.entry_points(group=f"mibench.{room}")
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        package = point.dist.name if point.dist else "an installed package"
        yield f"{package} ({point.value})", point.module, point.attr, point.load


def _classes(loaded: Any, bases: tuple[type, ...], attribute: str) -> Iterator[tuple[str, type[Any]]]:
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


def _fault(cls: type[Any], taken: Mapping[str, type[Any]]) -> str:
    """Why a class cannot be a plug-in, or an empty string."""
    base = next(base for bases in ROOMS.values() for base in bases if issubclass(cls, base))
    wanted = [key for key, kind in inspect.get_annotations(base).items() if str(kind).startswith("ClassVar")]
    missing = [key for key in wanted if not hasattr(cls, key)]
    if missing:
        return f"does not say its {', '.join(missing)}"
    if not isinstance(cls.name, str) or not cls.name or set(cls.name) & set(":[],= ./"):
        return f"has the unusable name {cls.name!r}"
    if cls.name in taken and taken[cls.name] is not cls:
        return f"wants the name {cls.name!r}, which {taken[cls.name].__module__} has"
    if not issubclass(getattr(cls, "Parameters", Parameters), Parameters):
        return "has parameters that do not derive from the contract's"
    return ""


def _parameters(cls: type[Any], spec: Spec) -> Parameters:
    """Typed parameters from a spec's text."""
    fields = cls.Parameters.model_fields
    values: dict[str, Any] = {}
    for key, text in spec.parameters.items():
        if key not in fields:
            raise unknown(f"parameter of {spec.name}", key, fields)
        values[key] = _read(text, fields[key].annotation)
    try:
        return typing.cast(Parameters, cls.Parameters(**values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "parameters"
        given = f"={spec.parameters[key]}" if key in spec.parameters else ""
        raise UsageError(f"{spec.name}[{key}{given}] is not possible: {first['msg']}") from error


def _read(text: str, annotation: Any) -> Any:
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
