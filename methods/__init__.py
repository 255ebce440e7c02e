"""The explainers, one a file; found by listing this folder, and shown by the names of their classes."""

import sys
from typing import Any

if __name__ != "mibench.methods":
    raise ImportError(f"import mibench.methods, not {__name__}: under two names there would be two of every class")


def __getattr__(name: str) -> Any:  # a method's class, or a wrapper's: what a type checker cannot know
    from mibench.plugins import rooms

    return rooms.attribute("methods", sys.modules[__name__], name)


def __dir__() -> list[str]:
    from mibench.plugins import rooms

    return rooms.attributes("methods")
