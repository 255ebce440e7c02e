"""`mibench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import LEADERBOARDS, out


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, such as runs/default.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where the leaderboards are written.")] = LEADERBOARDS,
    replace: Annotated[bool, typer.Option("--replace", help="Even boards of more values, samples or seeds.")] = False,
) -> None:
    """Write leaderboards from what runs recorded; nothing is explained or scored again."""
    from mibench.leaderboard import publish

    for file in publish.publish(runs, folder, replace=replace):
        out.print(f"wrote {file}", soft_wrap=True)
