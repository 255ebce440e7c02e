"""`mibench check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mibench.cli.app import out

if TYPE_CHECKING:
    from mibench.plugins.contract import Metric
    from mibench.plugins.registry import Method


def check(
    names: Annotated[list[str], typer.Argument(help="Methods or metrics, such as iba or inverted:gradcam.")],
) -> None:
    """Check plug-ins on tiny networks against the rules for every plug-in."""
    from mibench.cli import console
    from mibench.conformance import check

    broken = 0
    for name in names:
        findings = check.check(_method_or_metric(name))
        console.findings(out, name, findings)
        broken += sum(finding.verdict == "broken" for finding in findings)
    raise typer.Exit(1 if broken else 0)


def _method_or_metric(text: str) -> Method | Metric:
    """What is to be checked; a name that is neither is not taken for a misspelt method."""
    from mibench.plugins import catalogue, registry, spec

    name = spec.parse(text).name
    methods, metrics = catalogue.names("methods"), catalogue.names("metrics")
    set_aside = any(name.replace("-", "_") in each.origin.replace("-", "_") for each in catalogue.broken())
    if name not in (*methods, *metrics) and not set_aside:
        raise spec.unknown("method or metric", name, (*methods, *metrics))
    return registry.metric(text) if name in metrics else registry.method(text)
