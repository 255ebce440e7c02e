"""`mibench gate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import LEADERBOARDS, newest
from mibench.cli.compare import PagesOption, TableOption, ThresholdsOption, tell


def gate(
    folder: Annotated[Path | None, typer.Argument(help="The run's folder; default: the newest in runs/.")] = None,
    baseline: Annotated[Path, typer.Option(help="A folder of leaderboards, one of them, or a run.")] = LEADERBOARDS,
    thresholds: ThresholdsOption = None,
    table: TableOption = None,
    pages: PagesOption = "",
) -> None:
    """Compare a run with the committed leaderboard of its suite. Exit 1 if anything became worse."""
    from mibench.gate import regression
    from mibench.gate import thresholds as limits

    folder = folder or newest("give its folder: gate FOLDER")
    regression.refuse_itself(folder, baseline)
    tell(regression.gate(folder, baseline, limits.read_thresholds(thresholds)), baseline, folder, table, pages)
