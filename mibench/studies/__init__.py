"""Studies: experiments whose tables are committed, one a module, found by listing this folder.

Each module has `write(folder, quick, say)`: it writes NAME.md and NAME.csv into the folder and returns their paths.
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
    """The studies, as the command line writes them."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def write(name: str, folder: Path, *, quick: bool = False, say: Say = print) -> list[Path]:
    """Do a study; `quick` does enough of it to see that it works."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.3) or names()
        raise UsageError(f"there is no study {name!r}; the nearest are {', '.join(near)}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    folder.mkdir(parents=True, exist_ok=True)
    return cast(list[Path], module.write(folder, quick=quick, say=say))
