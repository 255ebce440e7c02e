"""`mibench compare`, and how it and `gate` report their findings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mibench.cli.app import out

if TYPE_CHECKING:
    from mibench.gate.comparison import Comparison

ThresholdsOption = Annotated[Path | None, typer.Option(help="A TOML of what counts as a change; default: ours.")]


def compare(
    before: Annotated[Path, typer.Argument(help="A run's folder, or a leaderboard's CSV.")],
    after: Annotated[Path, typer.Argument(help="The later one.")],
    thresholds: ThresholdsOption = None,
) -> None:
    """What became better or worse, as Markdown. Exit 1 if anything became worse, 4 if they cannot be compared."""
    from mibench.gate import comparison, regression
    from mibench.gate import thresholds as limits

    sides = regression.side(before), regression.side(after)
    tell(comparison.compare(*sides, limits.read_thresholds(thresholds)), before, after)


def tell(compared: Comparison, before: Path, after: Path) -> None:
    """Print a comparison, and leave with 1 if anything became worse."""
    from mibench.gate.markdown import to_markdown

    out.print(to_markdown(compared, str(before), str(after)), soft_wrap=True)
    raise typer.Exit(1 if compared.regressions else 0)
