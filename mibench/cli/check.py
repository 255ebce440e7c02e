"""`mibench check`."""

from __future__ import annotations

from typing import Annotated

import typer

from mibench.cli.app import out


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
