"""`mibench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import LEADERBOARDS, out


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, such as runs/default, or one of leaderboards: made again.")
    ],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where the leaderboards are written.")] = LEADERBOARDS,
    replace: Annotated[bool, typer.Option("--replace", help="Even boards of more values, samples or seeds.")] = False,
) -> None:
    """Write leaderboards from what runs recorded, or from committed data; nothing is explained or scored again."""
    from mibench.leaderboard import publish

    boards = [each for each in runs if each.is_dir() and not (each / "results.sqlite").exists()]
    made = [file for each in boards for file in publish.remake(each, folder)]
    others = [each for each in runs if each not in boards]
    for file in [*made, *(publish.publish(others, folder, replace=replace) if others else [])]:
        out.print(f"wrote {file}", soft_wrap=True)
