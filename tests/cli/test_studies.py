"""Studies are found in the current folder and in the checkout, and nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mibench.cli import studies
from mibench.errors import UsageError

STUDY = """
from pathlib import Path

def write(folder, *, quick, say):
    say(f"quick: {quick}")
    page = folder / "README.md"
    page.write_text("measured")
    return [page]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study of its own, `new-claim`, and a folder with none of its files."""
    home = tmp_path / "leaderboards" / "studies"
    (home / "new_claim").mkdir(parents=True)
    (home / "half_written").mkdir()
    (home / "new_claim" / "study.py").write_text(STUDY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_every_study_has_its_claim_code_and_table_in_one_folder() -> None:
    assert {"departures", "iba", "mipin", "mire-beta", "mire-digits", "nif"} <= set(studies.names("study"))
    for name, root in studies.names("study").items():
        inside = {path.name for path in (root / studies.HOME / name.replace("-", "_")).iterdir()}
        assert {"study.py", "README.md", "table.csv"} <= inside, name


def test_a_study_of_the_current_folder_is_done_into_its_own_folder(here: Path) -> None:
    said: list[str] = []
    [page] = studies.write("new-claim", quick=True, say=said.append)
    assert page == here / "leaderboards" / "studies" / "new_claim" / "README.md"
    assert (page.read_text("utf-8"), said) == ("measured", ["quick: True"])
    assert {"nif", "new-claim"} <= set(studies.names("study"))
    assert "half-written" not in studies.names("study")


def test_a_study_writes_where_it_is_told_to(here: Path) -> None:
    [page] = studies.write("new-claim", here / "elsewhere", say=print)
    assert page == here / "elsewhere" / "README.md"


@pytest.mark.parametrize("work", [studies.write, lambda name: studies.draw(name, Path("figures"))])
def test_a_folder_without_studies_is_one_clear_line(
    work: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "CHECKOUT", tmp_path / "installed")
    with pytest.raises(UsageError, match="run this in a checkout of mibench"):
        work("nif")  # type: ignore[operator]


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="no study 'mire-bta'; did you mean mire-beta"):
        studies.write("mire-bta")
    with pytest.raises(UsageError, match="no set of figures 'mir'; did you mean mire"):
        studies.draw("mir", Path("figures"))
