"""Figures of the papers, drawn anew, one paper a module, found by listing this folder.

Each module has `draw(folder, model, data, count, say)`: it writes PNG and SVG into the folder and returns their paths.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

from mibench.errors import UsageError

Say = Callable[[str], None]


def names() -> list[str]:
    """The sets of figures, as the command line writes them."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def draw(name: str, folder: Path, *, model: str = "", data: str = "", count: int = 4, say: Say = print) -> list[Path]:
    """Draw one set of figures, of its own tasks or of a given network and data."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.3) or names()
        raise UsageError(f"there are no figures {name!r}; the nearest are {', '.join(near)}")
    if data and not model:
        raise UsageError(f"the figures of {name} are drawn of their own networks and data: give --model with --data")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    folder.mkdir(parents=True, exist_ok=True)
    return cast(list[Path], module.draw(folder, model=model, data=data, count=count, say=say))
