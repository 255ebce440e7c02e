"""A committed board's tables and page are made again from its data alone, to the byte, and damage is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mibench.errors import UsageError
from mibench.leaderboard import make, publish, stored_board
from mibench.leaderboard.board_files import DATA, packed, put, unpacked
from tests.leaderboard import made_up


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    """A folder with one board as data."""
    _, texts = make.texts(made_up.whole())
    for ending, text in texts.items():
        put(stored_board.file_of(tmp_path, "made-up") if ending == DATA else tmp_path / f"made-up{ending}", text)
    put(tmp_path / "made-up.parquet", packed(made_up.whole().scores))
    return tmp_path


def test_tables_and_page_are_made_again_to_the_byte(boards: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = tmp_path_factory.mktemp("again")
    publish.remake(boards, again)
    for ending in (".csv", "-agreement.csv", ".html"):
        assert (again / f"made-up{ending}").read_bytes() == (boards / f"made-up{ending}").read_bytes(), ending
    assert "made-up" in (again / "index.html").read_text()


def test_scores_come_back_to_the_bit_in_the_same_bytes_in_any_order(boards: Path) -> None:
    scores = made_up.whole().scores
    assert packed(scores.sample(frac=1, random_state=1)) == (boards / "made-up.parquet").read_bytes()
    found = unpacked(boards / "made-up.parquet", "mend")
    assert found is not None
    place = ["data", "model", "method", "metric", "seed", "sample"]
    was, now = (each.set_index(place)["value"].sort_index() for each in (scores, found))
    assert was.equals(now)


@pytest.mark.parametrize(
    ("content", "why"),
    [("{", "cannot be read"), ('{"schema_number": 7}', "written by another version"), (None, "has boards as data")],
)
def test_damaged_data_are_one_line(boards: Path, content: str | None, why: str) -> None:
    file = stored_board.file_of(boards, "made-up")
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(UsageError, match=why):
        publish.remake(boards, boards)


def test_a_picture_that_is_no_png_in_the_page_is_refused(boards: Path) -> None:
    file = stored_board.file_of(boards, "made-up")
    evil = file.read_text().replace("data:image/png;base64,", "javascript:alert(1)//", 1)
    file.write_text(evil)
    with pytest.raises(UsageError, match="is damaged at pictures"):
        stored_board.read(file)


def test_scores_that_are_missing_are_named(boards: Path) -> None:
    (boards / "made-up.parquet").unlink()
    with pytest.raises(UsageError, match=r"made-up\.parquet is missing"):
        publish.remake(boards, boards)
