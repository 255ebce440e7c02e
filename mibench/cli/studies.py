"""Studies are found where they are kept: in leaderboards/studies of the current folder, or of the checkout.

They are not installed with the package. A folder NAME there holds what makes a page and its figures:

    study.py      write(folder, quick, say) writes README.md and table.csv
    figures.py    draw(folder, model, data, count, say) draws a paper's figures as PNG and SVG
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

from mibench.errors import UsageError
from mibench.plugins.registry import unknown

Say = Callable[[str], None]
Part = Literal["study", "figures"]
KINDS: dict[Part, str] = {"study": "study", "figures": "set of figures"}
HOME = Path("leaderboards") / "studies"
CHECKOUT = Path(__file__).parents[2]


def names(part: Part) -> dict[str, Path]:
    """Each study that has this part, as the command line writes it, with the root that holds it: here comes first."""
    roots = (CHECKOUT, Path.cwd())
    files = ((root, file) for root in roots for file in sorted((root / HOME).glob(f"*/{part}.py")))
    return {file.parent.name.replace("_", "-"): root for root, file in files}


def write(name: str, folder: Path | None = None, *, quick: bool = False, say: Say = print) -> list[Path]:
    """Do a study, into its own folder or another; `quick` does enough of it to see that it works."""
    module, home = _found("study", name)
    folder = folder or home
    folder.mkdir(parents=True, exist_ok=True)
    return cast(list[Path], module.write(folder, quick=quick, say=say))


def draw(name: str, folder: Path, *, model: str = "", data: str = "", count: int = 4, say: Say = print) -> list[Path]:
    """Draw a paper's figures, of their own tasks or of a given network and data."""
    if data and not model:
        raise UsageError(f"the figures of {name} are drawn of their own networks and data: give --model with --data")
    module, _ = _found("figures", name)
    folder.mkdir(parents=True, exist_ok=True)
    return cast(list[Path], module.draw(folder, model=model, data=data, count=count, say=say))


def _found(part: Part, name: str) -> tuple[ModuleType, Path]:
    """A part of a study, and the study's folder."""
    known = names(part)
    if not known:
        raise UsageError(f"there is no {HOME}/*/{part}.py here; run this in a checkout of mibench")
    if name not in known:
        raise unknown(KINDS[part], name, known)
    root, folder = known[name], name.replace("-", "_")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"leaderboards.studies.{folder}.{part}"), root / HOME / folder
