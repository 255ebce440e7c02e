"""The command line: each command reads its words, calls what does the work, and shows what came of it.

Exit codes: 0 fine, 1 something that was checked is not right, 2 wrong usage or data, 3 some cells failed, 130
interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mibench.errors import MibenchError, UsageError
from mibench.version import __version__

if TYPE_CHECKING:
    from mibench.gate.comparison import Comparison

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
WIDE = 1000  # where the output is no terminal, nothing is wrapped
out = Console(highlight=False, markup=False, emoji=False)  # brackets and colons are parts of names
if not out.is_terminal:
    out.width = WIDE
LEADERBOARDS = Path("leaderboards")
INTERRUPTED = "interrupted; the same command goes on from here"
PLACES = (  # what can be wrong with a place that the user named
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
)


class Rerun(StrEnum):
    """What is computed although it was computed before."""

    missing = "missing"
    failed = "failed"
    all = "all"


class Shelf(StrEnum):
    """What can be listed."""

    methods = "methods"
    metrics = "metrics"
    models = "models"
    data = "data"
    suites = "suites"


def _resumable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which says what to do after an interrupt."""

    @functools.wraps(command)
    def told(*words: object, **options: object) -> None:
        try:
            command(*words, **options)
        except KeyboardInterrupt:
            out.print(INTERRUPTED)
            raise typer.Exit(130) from None

    return told


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """An interrupt ends the process there and then, for a library that is half imported may swallow it."""

    def leave(*_: object) -> None:
        out.print(INTERRUPTED)
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as in a shell's background
        signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _named(text: str) -> Path:
    """The folder of --out, which an unset variable of the shell would leave empty."""
    if not text:
        raise UsageError("--out is empty: name a folder, or leave --out away")
    return Path(text)


def _listed(option: str, text: str | None) -> list[str]:
    """The specs of an option; one that a shell's unset variable left empty is refused, for it would mean everything."""
    from mibench.plugins.registry import split

    if text is None:
        return []
    try:
        return split(text)
    except UsageError as error:
        raise UsageError(
            f"{option} is empty: name some, or omit it" if not text.strip() else f"{option}: {error}"
        ) from None


EngineOption = Annotated[str, typer.Option(help="local, ray, or inline: for a debugger; plug-ins share this process.")]
AddressOption = Annotated[str, typer.Option(help="Of a Ray cluster: auto or HOST:PORT; default: one for this run.")]
MAX_JOBS = 1024  # a process each
MAX_SAMPLES = 100_000  # suite.MAX_SAMPLES, which is slow to import
MAX_SECONDS = 31_536_000.0  # a year


def _seconds(value: float) -> float:
    """A number of seconds, which NaN is not although it is outside of no range."""
    if value != value:
        raise typer.BadParameter("nan is not a number of seconds")
    return value


TimeoutOption = Annotated[
    float,
    typer.Option(
        min=0.1, max=MAX_SECONDS, callback=_seconds, help="Seconds that one cell, or a network's training, may take."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, xpu or mps.")]


@app.callback(invoke_without_command=True)
def start(version: Annotated[bool, typer.Option("--version", help="Say the version and leave.")] = False) -> None:
    """Which mutual-information explainer tells the truth about a network, how sure are we, and what does it cost?"""
    if version:
        out.print(f"mibench {__version__}")
        raise typer.Exit


@app.command()
@_resumable
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
    with _importing():
        if engine == "local" and (open_tasks or not dry_run):
            from mibench.engines.forkserver import processes

            processes()  # it imports while this process does
        from mibench.cli import console, display
        from mibench.run import dry_run as outlook
        from mibench.run.run import Options
        from mibench.run.run import run as run_suite
        from mibench.suites import suite as suites

        declared = suites.load(suite)
        chosen = suites.narrow(
            declared,
            methods=_listed("--methods", methods),
            models=_listed("--models", models),
            data=_listed("--data", data),
            metrics=_listed("--metrics", metrics),
            samples=samples,
            seeds=seeds,
            quick=quick,
        )
        options = Options(folder, device, precision, engine, address, jobs, timeout, batch, rerun.value, title)
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
        from mibench.leaderboard import reporting

        more = "" if publish else reporting.outdone(summary.folder, LEADERBOARDS)
        if more:
            kept = f"{LEADERBOARDS} is left as it is, for its board has {more}; --publish replaces it"
            out.print(kept, soft_wrap=True)
        for file in [] if more else reporting.shelve(summary.folder, LEADERBOARDS):
            out.print(f"wrote {file}", soft_wrap=True)
    raise typer.Exit(summary.code)


@app.command()
@_resumable
def score(
    folder: Annotated[Path, typer.Argument(help="The run's folder, such as runs/default.")],
    metrics: Annotated[str, typer.Option(help="Metrics with commas between: irof,pixel-flipping[baseline=blur].")],
    engine: EngineOption = "local",
    address: AddressOption = "",
    jobs: Annotated[int, typer.Option(min=0, max=MAX_JOBS, help="Workers; 0: one for each core.")] = 0,
    timeout: TimeoutOption = 600.0,
) -> None:
    """Score a run's saved maps by more metrics, into its own record and board. Nothing is explained again."""
    with _importing():
        from mibench.cli import console, display
        from mibench.run.rescoring import rescore
        from mibench.run.run import Options

        console.warn_of_broken(out)
    options = Options(engine=engine, address=address, jobs=jobs, timeout=timeout)
    with display.watching(out) as watch:
        summary = rescore(folder, _listed("--metrics", metrics), options, watch)
    console.summary(out, summary)
    raise typer.Exit(summary.code)


@app.command("list")
def list_(shelf: Annotated[Shelf | None, typer.Argument(help="What to list; default: everything.")] = None) -> None:
    """What there is: methods, models, data, metrics, suites."""
    from mibench.cli import console

    for each in [shelf] if shelf else Shelf:
        console.shelf(out, each.value)
    console.warn_of_broken(out)


@app.command()
def layers(
    network: Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="What builds the network.")],
    shape: Annotated[str, typer.Option(help="Of one input, such as 3x32x32; default: a usual one that fits.")] = "",
) -> None:
    """Where a network of your own can be opened: its layers, and the spec for --models."""
    from mibench.cli import console
    from mibench.models import layers as cuts
    from mibench.models.user import shape_of

    console.layers(out, cuts.propose(network, shape_of(shape) if shape else ()))


@app.command()
def explain(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Annotated[str, typer.Option(help="The network that is explained.")],
    methods: Annotated[str, typer.Option(help="Methods with commas between: iba,gradcam,nif[k=5].")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where the maps are written, as PNG.")] = Path("maps"),
    data: Annotated[str, typer.Option(help="What explainers are fitted on; default: the model's own data.")] = "",
    calibration: Annotated[int, typer.Option(min=1, max=MAX_SAMPLES, help="How many samples to fit on.")] = 512,
    device: DeviceOption = "auto",
) -> None:
    """Explain images of your own: one PNG for each map, and a sheet of all of them. Exit 3 if some maps failed."""
    from mibench.cli import gallery
    from mibench.network.devices import device_of

    for line in gallery.explain(
        images, model, _listed("--methods", methods), folder, data, calibration, device_of(device)
    ):
        out.print(line, soft_wrap=True)


@app.command()
def check(
    names: Annotated[list[str], typer.Argument(help="Methods or metrics, such as iba or inverted:gradcam.")],
) -> None:
    """Ask of plug-ins, on tiny networks, what every plug-in must keep to."""
    from mibench.cli import console
    from mibench.conformance import check
    from mibench.plugins import registry

    broken = 0
    for name in names:
        is_metric = registry.parse(name).name in registry.names("metrics")
        findings = check.check(registry.metric(name) if is_metric else registry.method(name))
        console.findings(out, name, findings)
        broken += sum(finding.verdict == "broken" for finding in findings)
    raise typer.Exit(1 if broken else 0)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, such as runs/default.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where the leaderboards are written.")] = LEADERBOARDS,
    replace: Annotated[bool, typer.Option("--replace", help="Even boards of more values, samples or seeds.")] = False,
) -> None:
    """Write leaderboards from what runs recorded; nothing is explained or scored again."""
    from mibench.leaderboard import reporting

    for file in reporting.publish(runs, folder, replace=replace):
        out.print(f"wrote {file}", soft_wrap=True)


ThresholdsOption = Annotated[Path | None, typer.Option(help="A TOML of what counts as a change; default: ours.")]


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A run's folder, or a leaderboard's CSV.")],
    after: Annotated[Path, typer.Argument(help="The later one.")],
    thresholds: ThresholdsOption = None,
) -> None:
    """What became better or worse, as Markdown. Exit 1 if anything became worse, 4 if they cannot be compared."""
    from mibench.gate import comparison, regression
    from mibench.gate import thresholds as limits

    sides = regression.side(before), regression.side(after)
    _tell(comparison.compare(*sides, limits.read_thresholds(thresholds)), before, after)


@app.command()
def gate(
    folder: Annotated[Path | None, typer.Argument(help="The run's folder; default: the newest in runs/.")] = None,
    baseline: Annotated[Path, typer.Option(help="A folder of leaderboards, one of them, or a run.")] = LEADERBOARDS,
    thresholds: ThresholdsOption = None,
) -> None:
    """Compare a run with the committed leaderboard of its suite. Exit 1 if anything became worse."""
    from mibench.gate import regression
    from mibench.gate import thresholds as limits

    folder = folder or _newest("give its folder: gate FOLDER")
    regression.refuse_itself(folder, baseline)
    _tell(regression.gate(folder, baseline, limits.read_thresholds(thresholds)), baseline, folder)


def _tell(compared: Comparison, before: Path, after: Path) -> None:
    """Print a comparison, and leave with 1 if anything became worse."""
    from mibench.gate.markdown import to_markdown

    out.print(to_markdown(compared, str(before), str(after)), soft_wrap=True)
    raise typer.Exit(1 if compared.regressions else 0)


@app.command()
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

    console.show(out, what, folder or _newest("give --run FOLDER"))


@app.command()
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


@app.command()
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


@app.command()
def cost(
    methods: Annotated[str | None, typer.Option(help="Methods with commas between; default: all explainers.")] = None,
    models: Annotated[str | None, typer.Option(help="Networks; default: ResNet-50, VGG-19, ViT-B/16.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=MAX_SAMPLES, help="How many, in one batch.")] = 4,
    calibration: Annotated[int, typer.Option(min=2, max=MAX_SAMPLES, help="How many to fit on.")] = 64,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16 or fp16.")] = "fp32",
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where cost-DEVICE.csv goes.")] = LEADERBOARDS,
) -> None:
    """What explainers cost on networks of natural size with random weights: seconds, share of the peak, memory."""
    from mibench.network.devices import device_of
    from mibench.run import cost_table

    name, found = device_of(device), []
    networks = _listed("--models", models) or cost_table.NETWORKS
    for row in cost_table.costs(networks, _listed("--methods", methods), name, precision, samples, calibration):
        found.append(row)
        figures = f"{row.seconds:.3g} s a sample, {row.share_of_peak:.1%} of the peak, {row.peak_mebibytes:.0f} MiB"
        out.print(f"{row.network}  {row.explainer}  {row.reason or figures}", soft_wrap=True)
    out.print(f"wrote {cost_table.write(found, name, folder)}", soft_wrap=True)


@app.command()
def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run's folder: read all of its record.")
    ] = None,
    mend: Annotated[bool, typer.Option("--mend", help="Replace a damaged database by its sound rows.")] = False,
    device: Annotated[
        str, typer.Option(help="Compare every plug-in on this device (cuda, xpu, mps) with the processor.")
    ] = "",
) -> None:
    """Versions, devices, what is missing and how to mend it; with RUN, what is damaged in its record (exit 1)."""
    from mibench.cli import console

    if folder is None:
        from mibench.cli.doctor import examine, prove

        wrong = console.symptoms(out, prove(device) if device else examine())
    else:
        from mibench.record.verifying import verify

        wrong = console.symptoms(out, verify(folder, mend=mend))
    raise typer.Exit(1 if wrong else 0)


def _newest(mend: str) -> Path:
    """The folder of the run that was last at work; one that was refused has no run.json."""
    records = [file for file in Path("runs").glob("*/results.sqlite") if file.with_name("run.json").exists()]
    records.sort(key=lambda file: file.stat().st_mtime)
    if not records:
        raise UsageError(f"there is no run in runs/; {mend}")
    return records[-1].parent


def main() -> None:
    """The command line's entry: errors of ours and of places are one line, an interrupt is no error."""
    try:
        app()
    except MibenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
    except OSError as error:
        if error.errno not in PLACES:
            raise
        print(f"error: {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
