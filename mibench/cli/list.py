"""`mibench list`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mibench.cli.app import out


class Shelf(StrEnum):
    """What can be listed."""

    methods = "methods"
    metrics = "metrics"
    models = "models"
    data = "data"
    suites = "suites"


def list_(shelf: Annotated[Shelf | None, typer.Argument(help="What to list; default: everything.")] = None) -> None:
    """What there is: methods, models, data, metrics, suites."""
    from mibench.cli import console

    for each in [shelf] if shelf else Shelf:
        console.shelf(out, each.value)
    console.warn_of_broken(out)
