"""`mibench show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import newest, out


def show(
    what: Annotated[
        str, typer.Argument(help="A sample's name, or the first digits of a cell's key; empty: failures.")
    ] = "",
    folder: Annotated[
        Path | None, typer.Option("--run", help="The run's folder; default: the newest in runs/.")
    ] = None,
) -> None:
    """One sample: maps of all methods and all scores. One cell: what became of it, with its log."""
    from mibench.cli import console

    console.show(out, what, folder or newest("give --run FOLDER"))
