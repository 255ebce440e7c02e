"""`mibench run`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import (
    LEADERBOARDS,
    MAX_JOBS,
    MAX_SAMPLES,
    AddressOption,
    DeviceOption,
    EngineOption,
    TimeoutOption,
    importing,
    listed,
    out,
    resumable,
)
from mibench.errors import UsageError


class Rerun(StrEnum):
    """What is computed although it was computed before."""

    missing = "missing"
    failed = "failed"
    all = "all"


def _named(text: str) -> Path:
    """The folder of --out, which an unset variable of the shell would leave empty."""
    if not text:
        raise UsageError("--out is empty: name a folder, or leave --out away")
    return Path(text)


@resumable
def run(
    suite: Annotated[str, typer.Argument(help="A suite's name, or the path of a TOML file.")] = "default",
    methods: Annotated[str | None, typer.Option(help="Methods with commas between: iba,gradcam,nif[k=5].")] = None,
    models: Annotated[str | None, typer.Option(help="Only these models, or others than the suite's.")] = None,
    data: Annotated[str | None, typer.Option(help="Only these data, or others: folder:PATH, csv:PATH.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Only these metrics.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Samples of each task.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few samples of everything.")] = False,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16 or fp16.")] = "fp32",
    engine: EngineOption = "local",
    address: AddressOption = "",
    jobs: Annotated[int, typer.Option(min=0, max=MAX_JOBS, help="Workers; 0: one for each core.")] = 0,
    timeout: TimeoutOption = 600.0,
    batch: Annotated[int, typer.Option(min=0, max=MAX_SAMPLES, help="Samples explained at once; 0: as fits.")] = 0,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train networks here, although trained weights come with the package.")
    ] = False,
    rerun: Annotated[Rerun, typer.Option(help="Which cells to compute.")] = Rerun.missing,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be computed.")] = False,
    open_tasks: Annotated[
        bool, typer.Option("--open", help="With --dry-run: open (or train) the networks, check them, time a forward.")
    ] = False,
    title: Annotated[str, typer.Option(help="Title of the board's page; default: the suite's name.")] = "",
    folder: Annotated[
        Path | None,
        typer.Option("--out", parser=_named, metavar="PATH", help="The run's folder; default: runs/SUITE."),
    ] = None,
    publish: Annotated[
        bool | None,
        typer.Option("--publish/--no-publish", help="Refresh leaderboards/; default: if nothing is narrowed."),
    ] = None,
) -> None:
    """Run a suite: explain, score, time, write a leaderboard. What was computed before is used again."""
    if open_tasks and not dry_run:
        raise UsageError("--open is for --dry-run: add --dry-run, or omit --open")
    with importing():
        from mibench.cli import console, display
        from mibench.run import dry_run as outlook
        from mibench.run.run import Options
        from mibench.run.run import run as run_suite
        from mibench.suites import suite as suites

        declared = suites.load(suite)
        chosen = suites.narrow(
            declared,
            methods=listed("--methods", methods),
            models=listed("--models", models),
            data=listed("--data", data),
            metrics=listed("--metrics", metrics),
            samples=samples,
            seeds=seeds,
            quick=quick,
        )
        options = Options(folder, device, precision, engine, address, jobs, timeout, batch, rerun.value, retrain, title)
        if dry_run and not open_tasks:
            console.outlook(out, outlook.outlook(chosen, options))
            return
        console.warn_of_broken(out)
    if open_tasks:
        console.outlook(out, outlook.outlook(chosen, options, display.Lines(out), open_tasks=True))
        return
    with display.watching(out) as watch:
        summary = run_suite(chosen, options, watch)
    console.summary(out, summary)
    if publish or (publish is None and chosen == declared and LEADERBOARDS.is_dir()):
        from mibench.leaderboard import publish as boards

        more = "" if publish else boards.outdone(summary.folder, LEADERBOARDS)
        if more:
            kept = f"{LEADERBOARDS} is left as it is, for its board has {more}; --publish replaces it"
            out.print(kept, soft_wrap=True)
        for file in [] if more else boards.shelve(summary.folder, LEADERBOARDS):
            out.print(f"wrote {file}", soft_wrap=True)
    raise typer.Exit(summary.code)
