"""The command line: each command reads its words, calls what does the work, and shows what came of it.

Exit codes: 0 fine, 1 something that was checked is not right, 2 wrong usage or data, 3 some cells failed, 130
interrupted.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from mibench.cli.app import out
from mibench.cli.check import check
from mibench.cli.compare import compare
from mibench.cli.cost import cost
from mibench.cli.doctor import doctor
from mibench.cli.explain import explain
from mibench.cli.figures import figures
from mibench.cli.gate import gate
from mibench.cli.layers import layers
from mibench.cli.list import list_
from mibench.cli.report import report
from mibench.cli.run import run
from mibench.cli.score import score
from mibench.cli.show import show
from mibench.cli.study import study
from mibench.cli.verify import verify
from mibench.errors import MibenchError
from mibench.files import sources
from mibench.version import __version__

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
PLACES = (  # what can be wrong with a place that the user named
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
)


@app.callback(invoke_without_command=True)
def start(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Which mutual-information explainer is right about a network, how sure are we, and what does it cost?"""
    if version:
        out.print(f"mibench {__version__}")
        raise typer.Exit


for command in (run, score):
    app.command()(command)
app.command("list")(list_)
for command in (layers, explain, check, report, compare, gate, show, study, figures, cost, verify, doctor):
    app.command()(command)


def main() -> None:
    """The command line's entry: errors of ours and of places are one line, an interrupt is not an error."""
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
    finally:
        sources.keep()
