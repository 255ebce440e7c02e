"""What all commands share: where they print, options that several have, and what an interrupt means."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mibench.errors import Interrupted, UsageError

WIDE = 1000  # where the output is not a terminal, nothing is wrapped
out = Console(highlight=False, markup=False, emoji=False)  # brackets and colons are parts of names
if not out.is_terminal and "COLUMNS" not in os.environ:
    out.width = WIDE
LEADERBOARDS = Path("leaderboards")
INTERRUPTED = "interrupted; the same command goes on from here"


def resumable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which prints how to resume after an interrupt."""

    def terminate(*_: object) -> None:
        raise Interrupted

    @functools.wraps(command)
    def wrapped(*words: object, **options: object) -> None:
        signal.signal(signal.SIGTERM, terminate)
        try:
            command(*words, **options)
        except KeyboardInterrupt:
            out.print(INTERRUPTED)
            raise typer.Exit(130) from None

    return wrapped


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """An interrupt ends the process there and then, for a library that is half imported may swallow it."""

    def leave(*_: object) -> None:
        out.print(INTERRUPTED)
        os._exit(130)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as in a shell's background
            signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listed(option: str, text: str | None) -> list[str]:
    """The specs of an option; one that a shell's unset variable left empty is refused, for it would mean everything."""
    from mibench.plugins.spec import split

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


def newest(mend: str) -> Path:
    """The folder of the run that was last at work; one that was refused has no run.json."""
    records = [file for file in Path("runs").glob("*/results.sqlite") if file.with_name("run.json").exists()]
    records.sort(key=lambda file: file.stat().st_mtime)
    if not records:
        raise UsageError(f"runs/ contains no run; {mend}")
    return records[-1].parent
