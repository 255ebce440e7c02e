"""Each figure of the README's findings, with the committed table that it is from: `python -m tests.claims` lists them.

A claim of claims.toml has the figure as the page writes it, the file, which of its rows, and which column; several rows
are averaged, or counted. `scale` and `digits` are how the page shows the number.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).with_name("claims.toml")
NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w])")
GIVEN = frozenset({"1.79", "2.58", "121", "300", "10"})  # planted, counted or published: no measurement
PLAIN = re.compile(
    r"`[^`]*`|\]\([^)]*\)|[Ee]quation \(\d+\)|\[\d+\]|\b\d+ x \d+\b"
)  # digits that are no finding's figure


@dataclass(frozen=True)
class Claim:
    """One figure."""

    says: str
    file: str
    column: str = ""
    rows: Mapping[str, str] = field(default_factory=dict)
    take: str = "mean"  # or count, smallest, largest
    scale: float = 1.0
    digits: int = 2
    of: str = ""  # the words next to the figure, where another sentence has the same figure

    def now(self) -> str:
        """The figure as its source has it now."""
        with (ROOT / self.file).open(newline="", encoding="utf-8") as stream:
            found = [
                row for row in csv.DictReader(stream) if all(row[name] == value for name, value in self.rows.items())
            ]
        if self.take == "count":
            return str(len(found))
        values = [self.scale * float(row[self.column]) for row in found if row[self.column]]
        if not values:
            return "no such row"
        value = {"mean": sum(values) / len(values), "smallest": min(values), "largest": max(values)}[self.take]
        return f"{value:.{self.digits}f}"


def claims() -> list[Claim]:
    """All that are listed."""
    return [Claim(**each) for each in tomllib.loads(TABLE.read_text(encoding="utf-8"))["claim"]]


def findings() -> str:
    """The README's section of findings, in one line."""
    text = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .split("## What was found")[1]
        .split("\n", 1)[1]
        .split("\n## ")[0]
    )
    return " ".join(text.split())


def unsourced(text: str, known: list[Claim]) -> list[str]:
    """The figures of a text that no claim has."""
    figures = {figure for claim in known for figure in NUMBER.findall(claim.says)}
    return [number for number in NUMBER.findall(PLAIN.sub(" ", text)) if number not in figures | GIVEN]


def main() -> None:
    for claim in claims():
        figure = NUMBER.findall(claim.says)[-1]
        mark = " " if figure == claim.now() else "!"
        print(f"{mark} {claim.says:50} {claim.now():>8}  {claim.file} {dict(claim.rows)}")


if __name__ == "__main__":
    main()
