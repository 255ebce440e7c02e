"""What a room of plug-ins shows as its attributes: `mibench.methods.Iba`, `mibench.metrics.pixel_flipping`.

Nothing is listed: a name is looked up among the plug-ins that were found, those of installed packages included.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from mibench.plugins import registry
from mibench.plugins.contract import Metric
from mibench.plugins.registry import Room


def attribute(room: Room, package: ModuleType, name: str) -> Any:
    """A plug-in's class by its own name; by a metric's name, with `_` for `-`, the metric with its defaults."""
    if name.startswith("_") or PathFinder.find_spec(f"{package.__name__}.{name}", package.__path__):
        raise AttributeError(
            f"{package.__name__} has no attribute {name!r}"
        )  # a module of the room is imported by name
    shown = _shown(room)
    if name not in shown:
        fault = registry.unknown(room.removesuffix("s"), name, shown)
        raise AttributeError(f"{package.__name__}: {fault}")
    return shown[name]


def attributes(room: Room) -> list[str]:
    """All names that `attribute` knows."""
    return sorted(_shown(room))


def _shown(room: Room) -> dict[str, Any]:
    """Every plug-in of a room by its attribute; what was found first keeps its name."""
    plugins = registry.plugins(room)
    classes = {cls.__name__: cls for cls in reversed([*plugins.values()])}
    ready = {name.replace("-", "_"): cls() for name, cls in plugins.items() if issubclass(cls, Metric)}
    return {**ready, **classes}
