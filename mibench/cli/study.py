"""`mibench study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import LEADERBOARDS, out


def study(
    name: Annotated[str, typer.Argument(help="mire-beta, mipin, …; a wrong name lists them.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where NAME.md and NAME.csv go.")] = LEADERBOARDS
    / "studies",
    quick: Annotated[bool, typer.Option("--quick", help="Enough of it to see that it works.")] = False,
) -> None:
    """Do an experiment whose table is committed, again."""
    from mibench import studies

    for file in studies.write(name, folder, quick=quick, say=out.print):
        out.print(f"wrote {file}", soft_wrap=True)
