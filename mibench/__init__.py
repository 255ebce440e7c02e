"""mibench: which mutual-information explainer is right about a network, how sure are we, what does it cost?

    import mibench as mb

    net = mb.open(model, classes=names)                            # any nn.Module: used frozen, left as it was found
    iba = mb.methods.Iba(beta=5).fit(net, x_cal, y_cal, seed=0)    # returns itself, ready
    maps = iba(x, target=y)                                        # maps["map"], units, facts, maps.plot()
    scores = mb.metrics.pixel_flipping(net, x, y, maps["map"])     # (B,)
    mb.compare(net, x, y, [iba, "gradcam"], ["irof", "road"])      # paired intervals
    mb.gate(mb.run("planted", methods=["mire", iba], samples=64))  # the command's run, and its gate

Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mibench.version import __version__

if TYPE_CHECKING:
    from mibench import methods, metrics
    from mibench.api.boards import gate, run
    from mibench.api.comparing import compare
    from mibench.api.opening import open
    from mibench.api.single import explain, score

__all__ = ["__version__", "compare", "explain", "gate", "methods", "metrics", "open", "run", "score"]

PLACES = {
    "compare": "mibench.api.comparing",
    "explain": "mibench.api.single",
    "gate": "mibench.api.boards",
    "open": "mibench.api.opening",
    "run": "mibench.api.boards",
    "score": "mibench.api.single",
}


class _Callable(ModuleType):
    """A room that is called as the function of its name: `mibench.run(…)`, and `from mibench.run import planning`."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return _function(self.__name__.rpartition(".")[2])(*given, **named)


class _Face(ModuleType):
    """The package itself, on which Python sets each of its rooms when it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in PLACES:
            value.__class__ = _Callable
        super().__setattr__(name, value)


def _function(name: str) -> Any:
    return getattr(importlib.import_module(PLACES[name]), name)


def __getattr__(name: str) -> Any:
    if name in ("methods", "metrics", "run", "gate"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in PLACES:
        return _function(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Face
