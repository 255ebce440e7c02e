"""The study of departures: every row is another way of a method, and the page is the table's."""

from __future__ import annotations

from pathlib import Path

from leaderboards.studies.departures import study as departures
from leaderboards.studies.lines import read_table
from mibench.plugins import registry

HOME = Path(departures.__file__).parent


def test_every_row_is_another_spec_and_has_its_default_beside_it() -> None:
    labels = [registry.method(row).label for row in departures.ROWS]
    assert len(set(labels)) == len(labels)
    assert {label.partition("[")[0] for label in labels} <= set(labels)


def test_the_committed_page_is_what_the_committed_table_says() -> None:
    assert (HOME / "README.md").read_text("utf-8") == departures.describe(read_table(HOME / "table.csv"))
