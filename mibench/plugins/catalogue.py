"""All plug-ins, found by listing the rooms and the entry points, as cards: nothing of theirs is imported here.

A plug-in is a concrete subclass of one of the contract's classes, defined in a module of its room or named by an
installed package's entry point. A child process imports it and writes its cards, which are kept in the user's cache
for as long as its source, the sources that this imports, and the libraries' versions are the same. One that cannot be
imported is set aside with its reason and does not take the others down.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mibench.errors import UsageError
from mibench.files import cache, sources
from mibench.plugins import describe, reasons, trial
from mibench.plugins.cards import (
    SINGULAR,
    AnyCard,
    Card,
    DataCard,
    ExplainerCard,
    MetricCard,
    ModelCard,
    Place,
    Room,
    WrapperCard,
)
from mibench.plugins.classes import ROOMS, Method, refuse_argument
from mibench.plugins.describe import Found, Origin
from mibench.plugins.spec import Spec, parse, unknown

MAX_DEPTH = 4  # data made of data made of data …
MAX_SPECS = 500  # whose cards are kept for a module
PACKAGE = Path(__file__).parent.parent
ZOO: tuple[Room, ...] = ("models", "data")
WRITERS = ("mibench.plugins.describe",)  # what decides what a card holds
Kind = TypeVar("Kind", bound=Card)
Places = Mapping[tuple[Room, str], Place]
MethodCards = Method[ExplainerCard, WrapperCard]


class Kept(BaseModel):
    """What the cache holds of a module."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    state: str  # of all that the cards follow from
    cards: tuple[AnyCard, ...]
    faults: tuple[str, ...]
    specs: dict[str, AnyCard]


class Answers(BaseModel):
    """What a child process found, in the order of the requests."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    found: tuple[Found, ...] = ()


@dataclass(frozen=True)
class Broken:
    """A plug-in that was found but cannot be used."""

    origin: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """Everything that there is."""

    cards: Mapping[tuple[Room, str], Card]
    origins: Mapping[tuple[Room, str], Origin]
    broken: tuple[Broken, ...]
    kept: Mapping[Origin, Kept]


def method(text: str) -> MethodCards:
    """The explainer of a spec, with the wrapper that `wrapper:inner` names."""
    return methods([text])[0]


def methods(texts: Sequence[str]) -> list[MethodCards]:
    """The explainers of specs."""
    wrappers: list[WrapperCard | None] = []
    inner: list[str] = []
    for text in texts:
        spec, wrapper = parse(text), _wrapper(text)
        if wrapper and not spec.argument:
            raise UsageError(f"{spec.name} changes another method's maps: write {spec.name}:METHOD")
        wrappers.append(wrapper)
        inner.append(spec.argument if wrapper else text)
    for text in inner:
        if wrapper := _wrapper(text):
            raise UsageError(f"{text!r}: {wrapper.name} changes another method's maps and is not an explainer itself")
        refuse_argument(parse(text))
    explainers = _all("methods", inner, ExplainerCard)
    return [Method(explainer, wrapper) for explainer, wrapper in zip(explainers, wrappers, strict=True)]


def _wrapper(text: str) -> WrapperCard | None:
    """The wrapper that a spec names, if it names one."""
    found = card("methods", parse(text).name)
    return found if isinstance(found, WrapperCard) else None


def metric(text: str) -> MetricCard:
    """The metric of a spec."""
    return metrics([text])[0]


def metrics(texts: Sequence[str]) -> list[MetricCard]:
    """The metrics of specs."""
    for text in texts:
        found = card("metrics", parse(text).name)
        refuse_argument(parse(text), found.takes if isinstance(found, MetricCard) else "")
    return _all("metrics", texts, MetricCard)


def model(text: str) -> ModelCard:
    """The zoo's network of a spec."""
    return models([text])[0]


def models(texts: Sequence[str]) -> list[ModelCard]:
    """The networks of specs."""
    return _all("models", texts, ModelCard)


def data(text: str) -> DataCard:
    """The source of samples of a spec such as `folder:PATH`."""
    return datas([text])[0]


def datas(texts: Sequence[str]) -> list[DataCard]:
    """The sources of samples of specs."""
    for text in texts:
        refuse_depth(text)
    return _all("data", texts, DataCard)


def refuse_depth(text: str) -> None:
    """Refuse data that are made of data too often."""
    inner, depth = parse(text).argument, 1
    while inner.partition(":")[0].partition("[")[0] in names("data"):
        inner, depth = inner.partition(":")[2], depth + 1
        if depth > MAX_DEPTH:
            raise UsageError(f"{text!r} makes data of data more than {MAX_DEPTH - 1} times: name the innermost ones")


def names(room: Room) -> tuple[str, ...]:
    """The names of everything usable in a room."""
    known: Iterable[tuple[Room, str]] = _survey().cards if _known is None else _known
    return tuple(sorted(name for place, name in known if place == room))


def cards(room: Room) -> list[Card]:
    """The cards of everything usable in a room, by name."""
    return [card(room, name) for name in names(room)]


def card(room: Room, name: str) -> Card:
    """The card of a name, or the error that names the nearest one, or why the plug-in of that name is set aside."""
    found = _survey().cards.get((room, name))
    if found is None:
        _refuse(room, name)
    assert found is not None
    return found


def broken() -> tuple[Broken, ...]:
    """Every plug-in that was found but cannot be used."""
    return _survey().broken


def places() -> Places:
    """Where every usable plug-in is: what a worker must know to import only those that it needs."""
    return {key: each.place for key, each in _survey().cards.items()}


def use(known: Places | None) -> None:
    """Look plug-ins up at these places alone from now on; None: survey."""
    global _known
    _known = known


def place(room: Room, name: str) -> Place:
    """Where the plug-in of a name is, or the error for a name that nothing has."""
    found = places() if _known is None else _known
    if (room, name) not in found:
        _refuse(room, name)
    return found[room, name]


def refresh() -> None:
    """Forget what was found; the next question looks again."""
    sources.refresh()
    _survey.cache_clear()


_known: Places | None = None  # where plug-ins are, in a process that imports them


def _refuse(room: Room, name: str) -> None:
    """Raise the error for a name that nothing usable has."""
    for each in () if _known is not None else broken():
        if name.replace("-", "_") in each.origin.replace("-", "_"):
            raise UsageError(f"{SINGULAR[room]} {name!r} cannot be used: {each.reason} (in {each.origin})")
    raise unknown(SINGULAR[room], name, names(room))


def _all(room: Room, texts: Sequence[str], kind: type[Kind]) -> list[Kind]:
    """The cards of specs; those that were not requested before are made by the plug-ins' own classes, together."""
    survey = _survey()
    found: dict[str, Card] = {}
    ahead: dict[Origin, list[str]] = {}
    for text in texts:
        spec = parse(text)
        base = card(room, spec.name)
        for key in spec.parameters:
            if key not in (known := [option.name for option in base.options]):
                raise unknown(f"parameter of {spec.name}", key, known)
        origin = survey.origins[room, spec.name]
        kept = survey.kept[origin]
        if spec == Spec(spec.name):
            found[text] = base
        elif text in kept.specs:
            found[text] = kept.specs[text]
        elif text not in ahead.setdefault(origin, []):
            ahead[origin].append(text)
    for origin, answer in _described(ahead).items():
        if answer.fault:
            raise UsageError(f"{ahead[origin][0]!r} cannot be used: {answer.fault}")
        for text in ahead[origin]:
            if text in answer.refused:
                raise UsageError(answer.refused[text])
            found[text] = answer.specs[text]
        kept = survey.kept[origin]
        kept.specs = dict([*kept.specs.items(), *answer.specs.items()][-MAX_SPECS:])
        _keep(origin, kept)
    return [_one(found[text], kind) for text in texts]


def _one(found: Card, kind: type[Kind]) -> Kind:
    assert isinstance(found, kind)
    return found


@functools.cache
def _survey() -> Survey:
    """Read the cards of every module and entry point; ours keep their names against later ones."""
    origins = list(_origins())
    kept = {origin: read for origin in origins if (read := _read(origin))}
    answers = _described({origin: () for origin in origins if origin not in kept})
    faults: list[Broken] = []
    for origin, answer in answers.items():
        if answer.fault:
            faults.append(Broken(origin.text, answer.fault))
            continue
        kept[origin] = Kept(state=_state(origin), cards=answer.cards, faults=answer.faults, specs={})
        _keep(origin, kept[origin])
    sources.keep()
    found: dict[tuple[Room, str], Card] = {}
    of: dict[tuple[Room, str], Origin] = {}
    for origin in origins:
        if origin not in kept:
            continue
        faults += [Broken(origin.text, fault) for fault in kept[origin].faults]
        for each in kept[origin].cards:
            key = origin.room, each.name
            if key in found and found[key].place != each.place:
                owner, name = found[key].place.module, each.place.attribute.rpartition(".")[2]
                faults.append(Broken(origin.text, f"{name} wants the name {each.name!r}, which {owner} has"))
            else:
                found[key], of[key] = each, origin
    return Survey(found, of, tuple(faults), kept)


def _origins() -> Iterator[Origin]:
    """Every module of every room, then every installed package's plug-ins."""
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            if path.name != "__init__.py":
                module = ".".join(("mibench", *path.relative_to(PACKAGE).with_suffix("").parts))
                yield Origin(room, module, module, "", ours=True)
    for room in ROOMS:
        points = importlib.metadata.entry_points(group=f"mibench.{room}")
        for point in sorted(points, key=lambda point: (point.name, point.value)):
            package = point.dist.name if point.dist else "an installed package"
            yield Origin(room, f"{package} ({point.value})", point.module, point.attr, False, package)


def _state(origin: Origin) -> str:
    """A hash of all that a module's cards follow from: sources with their docstrings, and versions."""
    walks = [sources.walk([origin.module]), sources.walk(WRITERS)]
    versions = {library: sources.version(library) for walk in walks for library in walk.libraries}
    parts = (sys.version, origin.attribute, [walk.texts for walk in walks], sorted(versions.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _name(origin: Origin) -> str:
    """The file of a module's cards: two checkouts have one each."""
    where = sources.file(origin.module)
    text = f"{origin.room} {origin.module} {origin.attribute} {where}"
    return f"cards/{origin.module[-60:]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _read(origin: Origin) -> Kept | None:
    """What the cache holds of a module; None where that is nothing, is damaged, or is of other sources."""
    if sources.file(origin.module) is None:
        return None
    try:
        kept = Kept.model_validate_json(cache.read(_name(origin)))
    except (ValidationError, ValueError):
        return None
    return kept if kept.state == _state(origin) else None


def _keep(origin: Origin, kept: Kept) -> None:
    cache.write(_name(origin), kept.model_dump_json().encode())


def _described(wanted: Mapping[Origin, Sequence[str]]) -> dict[Origin, Found]:
    """What a child process finds at each origin, and the cards of the specs that are wanted of it."""
    if not wanted:
        return {}
    known = places() if _survey.cache_info().currsize else {}  # nothing is known while the survey goes on
    limit = trial.LIMIT * (2 + len(wanted))
    content, fault = trial.ask(lambda: _apart(wanted, known), limit)
    try:
        answers = Answers.model_validate_json(content or "{}").found
    except ValidationError as error:
        answers, fault = (), f"its cards cannot be read: {error.errors()[0]['msg']}"
    return dict(zip(wanted, answers or [Found(fault=fault)] * len(wanted), strict=True))


def _apart(wanted: Mapping[Origin, Sequence[str]], known: Places) -> bytes:
    """The child's part: with every module of ours as it is on the disk now, however old this process is."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mibench"]:
        del sys.modules[name]
    fresh: Any = importlib.import_module(__name__)
    answer: bytes = fresh.described(wanted, known)
    return answer


def described(wanted: Mapping[Any, Sequence[str]], known: Mapping[Any, Any]) -> bytes:
    """Import each module: ours here, for they share most of what they import; a stranger's in a child of its own."""
    origins = [Origin(**vars(each)) for each in wanted]
    use({key: Place(**each.model_dump()) for key, each in known.items()})
    ours = {origin: _found_here(origin, ()) for origin in origins if origin.ours}
    if not known:  # plug-ins may look for others while they are made
        use({(origin.room, each.name): each.place for origin, found in ours.items() for each in found.cards})
    answers = []
    for origin, specs in zip(origins, wanted.values(), strict=True):
        if origin.ours:
            answers.append(_found_here(origin, specs) if specs else ours[origin])
            continue
        content, fault = trial.ask(functools.partial(_of_stranger, origin, specs))
        answers.append(_stranger(content) if not fault else Found(fault=fault))
    return Answers(found=tuple(answers)).model_dump_json().encode()


def _found_here(origin: Origin, specs: Sequence[str]) -> Found:
    try:
        return describe.found(origin, specs)
    except Exception as error:  # an extra that is not installed, or a file that is being written
        return Found(fault=reasons.kind(error))


def _of_stranger(origin: Origin, specs: Sequence[str]) -> bytes:
    """Import a stranger's module as it is on the disk now."""
    top = origin.module.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[name]
    return describe.found(origin, specs).model_dump_json().encode()


def _stranger(content: bytes) -> Found:
    try:
        return Found.model_validate_json(content)
    except ValidationError as error:
        return Found(fault=f"its card cannot be read: {error.errors()[0]['msg']}")
