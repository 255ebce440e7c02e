"""The rules of the contract, checked for one plug-in on tiny networks: `check NAME`, and a test for every one found.

A plug-in may refuse some of the networks, but not all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mibench.conformance.bench import Bench, benches
from mibench.conformance.explainer_rules import FIT_RULES, KNOWN_RULES, METHOD_RULES, WRAPPER_RULES
from mibench.conformance.metric_rules import METRIC_RULES
from mibench.conformance.rules import Broken, Rule
from mibench.errors import Interrupted, interrupts_told_apart
from mibench.network.untouched import left_as_found
from mibench.plugins.contract import FittedExplainer, Known, Metric, Unsupported
from mibench.plugins.reasons import kind, message
from mibench.plugins.registry import Method

DECLARATIONS = ("has a title and named maps", "declares direction and range")  # rules that need no network


@dataclass(frozen=True)
class Finding:
    """The result of one rule for one plug-in on one network."""

    rule: str
    network: str
    verdict: Literal["kept", "broken", "skipped"]
    reason: str = ""


def check(plugin: Method | Metric) -> list[Finding]:
    """Check every rule for a method or a metric on every tiny network."""
    subject: Any = plugin if isinstance(plugin, Metric) or plugin.wrapper else plugin.explainer
    if isinstance(subject, Metric):
        rules = METRIC_RULES
    elif isinstance(subject, Method):
        rules = WRAPPER_RULES
    elif isinstance(subject, Known):
        rules = KNOWN_RULES
    else:
        rules = METHOD_RULES | (FIT_RULES if isinstance(subject, FittedExplainer) else {})
    findings = [_ask(rule, ask, subject, bench) for bench in benches() for rule, ask in rules.items()]
    refused = [finding.verdict == "skipped" for finding in findings if finding.rule not in DECLARATIONS]
    if all(refused):
        findings.append(Finding("treats at least one kind of network", "any", "broken", "every network was refused"))
    return findings


def _ask(rule: str, ask: Rule, subject: Any, bench: Bench) -> Finding:
    try:
        with interrupts_told_apart(), left_as_found(bench.probe.model):
            ask(subject, bench)
    except Unsupported as refusal:
        return Finding(rule, bench.name, "skipped", message(refusal))
    except Interrupted:
        raise  # the user's own Ctrl-C
    except BaseException as error:  # whatever a plug-in raises breaks the rule being checked
        return Finding(rule, bench.name, "broken", message(error) if isinstance(error, Broken) else kind(error))
    return Finding(rule, bench.name, "kept")
