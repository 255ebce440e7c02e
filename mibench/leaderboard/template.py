"""The templates of pages."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@cache
def template(name: str) -> Template:
    """One of the templates in this folder, with escaping on."""
    pages = Environment(
        loader=PackageLoader("mibench", "leaderboard"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template(name)
