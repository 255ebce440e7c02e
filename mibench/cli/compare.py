"""`mibench compare`, and how it and `gate` report their findings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mibench.cli.app import out

if TYPE_CHECKING:
    from mibench.gate.comparison import Comparison

ThresholdsOption = Annotated[Path | None, typer.Option(help="A TOML of what counts as a change; default: ours.")]

TableOption = Annotated[
    Path | None, typer.Option(help="Write every score as CSV: what became of it, and what would show.")
]
PagesOption = Annotated[str, typer.Option(help="The address of the leaderboards' pages, to which the comment links.")]


def compare(
    before: Annotated[Path, typer.Argument(help="A run's folder, or a leaderboard's CSV.")],
    after: Annotated[Path, typer.Argument(help="The later one.")],
    thresholds: ThresholdsOption = None,
    table: TableOption = None,
    pages: PagesOption = "",
) -> None:
    """What became better or worse, as Markdown. Exit 1 if anything became worse, 4 if they cannot be compared."""
    from mibench.gate import regression
    from mibench.gate import thresholds as limits

    tell(regression.compared(before, after, limits.read_thresholds(thresholds)), before, after, table, pages)


def tell(compared: Comparison, before: Path, after: Path, table: Path | None, pages: str) -> None:
    """Print a comparison, and leave with 1 if anything became worse."""
    from mibench.gate.markdown import to_markdown
    from mibench.gate.table import to_csv
    from mibench.leaderboard.board_files import put

    if table:
        put(table, to_csv(compared))
    out.print(to_markdown(compared, str(before), str(after), pages), soft_wrap=True)
    raise typer.Exit(1 if compared.regressions else 0)
