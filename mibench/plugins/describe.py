"""Cards from classes: what runs in the process that imports a plug-in, and in no other."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mibench.errors import MibenchError, one_line
from mibench.plugins import classes, reasons
from mibench.plugins.cards import (
    AnyCard,
    DataCard,
    ExplainerCard,
    MetricCard,
    ModelCard,
    Option,
    Place,
    Room,
    WrapperCard,
)
from mibench.plugins.contract import Explainer, FittedExplainer, Known, Metric, Model, Wrapper
from mibench.plugins.spec import Spec, parse, written

OURS = frozenset({"builtins", "abc", "typing", "mibench.plugins.contract"})  # modules of bases that describe nothing


@dataclass(frozen=True)
class Origin:
    """A module of a room, or what an installed package's entry point names."""

    room: Room
    text: str  # for messages
    module: str
    attribute: str
    ours: bool
    distribution: str = ""


class Found(BaseModel):
    """What was found at an origin."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    cards: tuple[AnyCard, ...] = ()
    faults: tuple[str, ...] = ()  # of classes that cannot be used
    specs: dict[str, AnyCard] = {}  # cards of the specs that were requested …
    refused: dict[str, str] = {}  # … or why there is none
    fault: str = ""  # why nothing could be imported


def found(origin: Origin, specs: Iterable[str]) -> Found:
    """Import a module, and make the cards of all its plug-ins and of these specs."""
    attributes = origin.attribute.split(".") if origin.attribute else []
    loaded = functools.reduce(getattr, attributes, importlib.import_module(origin.module))
    answer = Found()
    named: dict[str, tuple[type[Any], str]] = {}
    for attribute, cls in classes.defined(loaded, classes.ROOMS[origin.room], origin.attribute):
        why = classes.fault(cls)
        if not why:
            try:
                card = _card(cls, Spec(cls.name), origin, attribute)
                answer.cards += (card,)
                named[card.name] = cls, attribute
            except MibenchError as error:
                why = reasons.message(error)
            except ValidationError as error:
                first = error.errors()[0]
                why = f"declares a wrong {'.'.join(map(str, first['loc']))}: {first['msg']}"
        if why:
            answer.faults += (f"{cls.__name__} {one_line(why)}",)
    for text in specs:
        spec = parse(text)
        try:
            cls, attribute = named[spec.name]
            answer.specs[text] = _card(cls, spec, origin, attribute)
        except MibenchError as error:
            answer.refused[text] = reasons.message(error)
        except Exception as error:  # a constructor of a stranger's
            answer.refused[text] = f"{text!r} cannot be used: {reasons.kind(error)}"
    return answer


def _card(cls: type[Any], spec: Spec, origin: Origin, attribute: str) -> AnyCard:
    plugin = classes.made(cls, spec)
    facts: dict[str, Any] = {
        "name": cls.name,
        "title": one_line(str(plugin.title)),
        "paper": one_line(str(getattr(cls, "paper", ""))),
        "about": one_line((cls.__doc__ or "").strip().partition("\n")[0]),
        "place": Place(module=origin.module, attribute=attribute, ours=origin.ours),
        "distribution": origin.distribution,
        "modules": tuple(dict.fromkeys(each.__module__ for each in cls.__mro__ if each.__module__ not in OURS)),
        "label": plugin.name if isinstance(plugin, Wrapper) else classes.label(plugin),
        "argument": spec.argument,
        "parameters": {} if isinstance(plugin, Wrapper) else plugin.parameters.model_dump(mode="json"),
        "options": () if isinstance(plugin, Wrapper) else tuple(_options(cls)),
    }
    if isinstance(plugin, Explainer):
        return _explainer(plugin, facts)
    if isinstance(plugin, Wrapper):
        return WrapperCard(**facts, control=plugin.control)
    if isinstance(plugin, Metric):
        return _metric(plugin, facts)
    facts |= _paths(plugin)
    if isinstance(plugin, Model):
        return ModelCard(
            **facts,
            data=plugin.data,
            floor=plugin.floor,
            takes=plugin.takes,
            architecture=one_line(plugin.architecture),
        )
    return DataCard(**facts)


def _explainer(plugin: Explainer, facts: dict[str, Any]) -> ExplainerCard:
    return ExplainerCard(
        **facts,
        maps=plugin.maps,
        control=plugin.control,
        seeded=plugin.seeded,
        of_class=plugin.of_class,
        fitted=isinstance(plugin, FittedExplainer),
        known=isinstance(plugin, Known),
        learner=_learner(plugin, facts["label"]) if isinstance(plugin, FittedExplainer) else "",
    )


def _learner(explainer: FittedExplainer, own: str) -> str:
    """The label of the explainer that learns for another; its own where that is unknown: the fit reports why."""
    try:
        return classes.label(explainer.learner)
    except Exception:  # a plug-in's own code
        return own


def _metric(plugin: Metric, facts: dict[str, Any]) -> MetricCard:
    return MetricCard(
        **facts,
        family=plugin.family,
        direction=plugin.direction,
        range=plugin.range,
        unit=plugin.unit,
        version=plugin.version,
        default=plugin.default,
        needs=frozenset(map(str, plugin.needs)),
        no_score=one_line(str(plugin.no_score)),
        chance=plugin.chance,
        gate=plugin.gate,
        limit=plugin.limit,
        fails=plugin.fails,
        judged=plugin.judged,
        takes=plugin.takes,
    )


def _paths(plugin: Any) -> dict[str, Any]:
    """The files that a network or data read, or why these are unknown."""
    try:
        return {"paths": tuple(plugin.paths), "fault": ""}
    except MibenchError as error:
        return {"paths": (), "fault": reasons.message(error)}


def _options(cls: type[Any]) -> Iterable[Option]:
    for name, field in cls.Parameters.model_fields.items():
        default = field.get_default(call_default_factory=True)
        yield Option(name=name, type=_type(field.annotation), default=written(default))


def _type(annotation: Any) -> str:
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation).replace("typing.", "")
