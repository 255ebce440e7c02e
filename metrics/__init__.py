"""The scores, one family a file; found by listing this folder, and shown by the names of classes and of metrics."""

import sys
from typing import Any

if __name__ != "mibench.metrics":
    raise ImportError(f"import mibench.metrics, not {__name__}: under two names there would be two of every class")


def __getattr__(name: str) -> Any:  # a metric or its class: what a type checker cannot know
    from mibench.plugins import rooms

    return rooms.attribute("metrics", sys.modules[__name__], name)


def __dir__() -> list[str]:
    from mibench.plugins import rooms

    return rooms.attributes("metrics")
