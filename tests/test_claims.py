"""What the README says was found is what its tables show, to the digit."""

from __future__ import annotations

import pytest

from tests.claims import NUMBER, Claim, claims, findings, unsourced


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.says)
def test_a_figure_is_what_its_source_shows(claim: Claim) -> None:
    assert claim.says in findings(), "the page has other words"
    assert NUMBER.findall(claim.says)[-1] == claim.now(), (claim.file, claim.rows)


def test_every_figure_of_the_findings_has_a_source() -> None:
    assert unsourced(findings(), claims()) == []


def test_a_sentence_without_a_source_would_be_seen() -> None:
    assert unsourced(findings() + " It wins in 77.7 % of the images.", claims()) == ["77.7"]
