"""`mibench verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import MAX_SAMPLES, newest, out


def verify(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="The run's folder; default: the newest in runs/.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=MAX_SAMPLES, help="Of each task, the first so many.")] = 4,
) -> None:
    """Compute a sample of a run's scores again with Quantus; the board then carries the largest deviation."""
    from mibench.cli import console
    from mibench.run import verification

    found = verification.verify(folder or newest("pass the folder of one"), samples, lambda text: out.print(text))
    console.verified(out, found)
    raise typer.Exit(1 if found.wrong else 0)
