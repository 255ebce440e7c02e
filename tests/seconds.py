"""What each folder of tests costs: `python -m pytest -n 2 --junitxml=tests.xml; python -m tests.seconds tests.xml`.

Seconds are of the tests with their fixtures, added over workers, so that a folder's share is its share of the work.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree  # the report is pytest's own, written a moment ago


def spent(report: Path) -> dict[str, list[float]]:
    """The seconds of the tests that ran, by the folder (or the module outside all folders) that they are in."""
    found: dict[str, list[float]] = defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            folder = case.attrib["classname"].removeprefix("tests.").split(".")[0]
            found[folder].append(float(case.attrib["time"]))
    return found


def table(found: dict[str, list[float]]) -> str:
    """A Markdown table, the dearest first."""
    whole = sum(map(sum, found.values())) or 1.0
    lines = ["| tests | number | seconds | share | slowest |", "| --- | --- | --- | --- | --- |"]
    for folder, each in sorted(found.items(), key=lambda pair: -sum(pair[1])):
        lines.append(f"| {folder} | {len(each)} | {sum(each):.0f} | {sum(each) / whole:.0%} | {max(each):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(spent(Path(sys.argv[1]))))
