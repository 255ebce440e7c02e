"""`mibench study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import out


def study(
    name: Annotated[str, typer.Argument(help="mire-beta, mipin, …; a wrong name lists them.")],
    folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="For README.md and table.csv; default: the study's own."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Enough of it to see that it works.")] = False,
) -> None:
    """Do an experiment of leaderboards/studies, whose table is committed, again."""
    from mibench.cli import studies

    for file in studies.write(name, folder, quick=quick, say=out.print):
        out.print(f"wrote {file}", soft_wrap=True)
