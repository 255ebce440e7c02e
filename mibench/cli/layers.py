"""`mibench layers`."""

from __future__ import annotations

from typing import Annotated

import typer

from mibench.cli.app import out


def layers(
    network: Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="What builds the network.")],
    shape: Annotated[str, typer.Option(help="Of one input, such as 3x32x32; default: a usual one that fits.")] = "",
) -> None:
    """Where a network of your own can be opened: its layers, and the spec for --models."""
    from mibench.cli import console
    from mibench.models import layers as cuts
    from mibench.models.user import shape_of

    console.layers(out, cuts.propose(network, shape_of(shape) if shape else ()))
