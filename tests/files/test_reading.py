"""Names and texts from outside become file names, lines and cells that can do no harm, and come back as they were."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mibench.errors import MAX_LETTERS, MibenchError, UsageError, one_line
from mibench.files.reading import MAX_NAME, file_name
from mibench.gate import regression
from mibench.leaderboard import placing, publish, reporting
from mibench.leaderboard.csv_text import FORMULA, inert, restored
from mibench.leaderboard.tables import board, to_agreement_csv, to_csv
from mibench.record.cells import Outcome
from mibench.record.store import Store
from mibench.run.run import Options, run
from tests.toy_suite import toy as declared

TEXTS = st.text(st.characters(), max_size=2000) | st.text("=+-@\t\r'a\n\x1b\udcff", max_size=20)


@given(TEXTS)
def test_any_text_becomes_one_line_that_can_be_printed_and_stored(text: str) -> None:
    line = one_line(text)
    assert len(line) <= MAX_LETTERS
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")
    assert one_line(line) == line
    assert str(MibenchError(text)) == line


def test_a_line_that_is_cut_keeps_its_beginning_and_its_mend() -> None:
    line = one_line("the picture " + "x" * 10_000_000 + ": mend it")
    assert line.startswith("the picture x")
    assert line.endswith("x: mend it")


@given(TEXTS)
def test_no_cell_of_text_is_a_formula_and_each_reads_back(text: str) -> None:
    assert not inert(text).startswith(FORMULA)
    assert restored(inert(text)) == text


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_file_name_stays_in_its_folder_and_is_short(parts: list[str]) -> None:
    name = file_name(*parts)
    assert name == Path(name).name
    assert not name.startswith(".")
    assert len(name.encode()) <= MAX_NAME


def test_long_names_that_differ_at_their_ends_make_different_files() -> None:
    assert file_name("x" * 1000 + "a") != file_name("x" * 1000 + "b")
    assert file_name("inverted:occlusion") == "inverted-occlusion"
    assert file_name("..", "..", "etc") == "-..-etc"


@pytest.fixture
def finished(toy: None, tmp_path: Path) -> Path:
    """A finished run of the toys."""
    run(declared(), Options(out=tmp_path / "run", device="cpu", engine="inline"))
    return tmp_path / "run"


def test_a_row_named_like_a_formula_is_text_in_every_table(finished: Path) -> None:
    evil = '=cmd|"/c calc"!A1'
    with Store(finished) as store:
        results = reporting.results_of(store)
    renamed = [
        table.assign(method=table["method"].replace("bright", evil), data=table["data"].map(lambda name: f"@{name}"))
        for table in (results.scores, results.cells)
    ]
    cards = tuple(replace(card, name=evil if card.name == "bright" else card.name) for card in results.methods)
    made = board(replace(results, scores=renamed[0], cells=renamed[1], methods=cards, costs={}, gates=(), tasks=()))
    text = to_csv(made)
    for table in (text, to_agreement_csv(made)):
        assert not [cell for row in csv.reader(io.StringIO(table)) for cell in row if cell.startswith(("=", "@"))]
    back = regression._read(text, Path("mine.csv"))
    assert evil in set(back["method"])
    assert all(name.startswith("@") for name in back["data"])


def test_a_reason_of_ten_million_letters_makes_no_large_page(finished: Path) -> None:
    before = (finished / "leaderboard.html").stat().st_size
    with Store(finished) as store:
        results = reporting.results_of(store)
        places = {name: (place.data, place.model) for name, place in store.about().places.items()}
        scores = placing._placed(store.scores().assign(reason="\x1b[31m<b>" + "x" * 10_000_000, value=None), places)
    assert scores["reason"].str.len().max() <= MAX_LETTERS
    from mibench.leaderboard.page import to_html

    page = to_html(board(replace(results, scores=scores)))
    assert len(page) < before + 1_000_000
    assert "<b>x" not in page


def test_cells_of_a_task_that_run_json_lacks_are_named(finished: Path) -> None:
    text = (finished / "run.json").read_text()
    with Store(finished) as store:
        about = store.about()
    (task,) = about.tasks.values()
    other = about.model_copy(update={"tasks": {"corners/other": task.model_copy(update={"model": "other"})}})
    assert text == about.written()
    with Store(finished, write=True) as store:
        store.write_text("run.json", other.written())
    with Store(finished) as store, pytest.raises(UsageError, match="lacks the task 'corners/quadrants'"):
        reporting.results_of(store)


def test_a_board_goes_into_no_other_folder_whatever_the_record_names(finished: Path, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if finished not in path.parents}
    text = (finished / "run.json").read_text().replace('"name": "toy"', '"name": "../../evil"')
    with Store(finished, write=True) as store:
        store.write_text("run.json", text)
    with pytest.raises(UsageError, match=r"run\.json is damaged at suite\.name"):
        publish.publish([finished], tmp_path / "boards")
    assert {path for path in tmp_path.rglob("*") if finished not in path.parents} == before


def test_a_record_of_before_schema_numbers_is_refused_with_the_mend(finished: Path) -> None:
    text = (finished / "run.json").read_text().replace('"schema_number": 2,', "")
    with Store(finished, write=True) as store:
        store.write_text("run.json", text)
    with Store(finished) as store, pytest.raises(UsageError, match=r"another version of mibench.*run the suite again"):
        store.about()


def test_a_log_outside_of_the_record_is_not_shown(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from mibench.cli.console import show

    (finished / "secret").write_text("a secret")
    with Store(finished, write=True) as store:
        key = store.cells()[0].key
        store.record([Outcome(key, "failed", "why")], log="../secret")
    show(Console(), key, finished)
    assert "a secret" not in capsys.readouterr().out
