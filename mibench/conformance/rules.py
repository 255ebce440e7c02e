"""A rule is a function of a plug-in and a bench that raises `Broken`, with what is wrong, where it is not kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mibench.conformance.bench import Bench

Rule = Callable[[Any, Bench], None]
Rules = dict[str, Rule]


class Broken(Exception):
    """The plug-in breaks a rule; the message describes how."""
