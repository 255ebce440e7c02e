"""Names of tests are short, and the words of docstrings, comments and messages are plain English."""

from __future__ import annotations

import re
from pathlib import Path

from tests.language import DIALECT, ROOT, modules, prose, rates

LONGEST = 70  # letters of a test's name


def names(folder: Path) -> list[str]:
    """The names of all tests under a folder."""
    texts = (path.read_text("utf-8") for path in folder.rglob("*.py"))
    return [name for text in texts for name in re.findall(r"def (test_\w+)", text)]


def test_no_name_of_a_test_is_longer_than_a_claim_of_seventy_letters() -> None:
    found = names(ROOT / "tests")
    assert found
    assert [name for name in found if len(name) > LONGEST] == []


def test_the_package_keeps_the_limits_on_words_of_its_own_dialect() -> None:
    found = rates([text for path in modules() for text in prose(path)])
    assert {word: rate for word, rate in found.items() if rate > DIALECT[word]} == {}
