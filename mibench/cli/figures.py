"""`mibench figures`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import out


def figures(
    name: Annotated[str, typer.Argument(help="mire, mipin, nif, …; a wrong name lists them.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where the PNG and SVG go.")] = Path("figures"),
    model: Annotated[str, typer.Option(help="A network; default: the figures' own.")] = "",
    data: Annotated[str, typer.Option(help="Its data.")] = "",
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many samples.")] = 4,
) -> None:
    """Draw a paper's figures, which are in leaderboards/studies, again."""
    from mibench.cli import studies

    for file in studies.draw(name, folder, model=model, data=data, count=count, say=out.print):
        out.print(f"wrote {file}", soft_wrap=True)
