"""`mibench score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import (
    MAX_JOBS,
    AddressOption,
    EngineOption,
    TimeoutOption,
    importing,
    listed,
    out,
    resumable,
)


@resumable
def score(
    folder: Annotated[Path, typer.Argument(help="The run's folder, such as runs/default.")],
    metrics: Annotated[str, typer.Option(help="Metrics with commas between: irof,pixel-flipping[baseline=blur].")],
    engine: EngineOption = "local",
    address: AddressOption = "",
    jobs: Annotated[int, typer.Option(min=0, max=MAX_JOBS, help="Workers; 0: one for each core.")] = 0,
    timeout: TimeoutOption = 600.0,
) -> None:
    """Score a run's saved maps by more metrics, into its own record and board. Nothing is explained again."""
    with importing():
        from mibench.cli import console, display
        from mibench.run.rescoring import rescore
        from mibench.run.run import Options

        console.warn_of_broken(out)
    options = Options(engine=engine, address=address, jobs=jobs, timeout=timeout)
    with display.watching(out) as watch:
        summary = rescore(folder, listed("--metrics", metrics), options, watch)
    console.summary(out, summary)
    raise typer.Exit(summary.code)
