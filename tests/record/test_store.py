"""The record keeps every outcome whole, shows only what is planned, and is written by one run at a time."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mibench.errors import Damaged, NotWritten, RecordError, UsageError
from mibench.plugins.contract import Explanation, State
from mibench.record import maps
from mibench.record.cells import Cell, Outcome
from mibench.record.store import Store
from mibench.record.verifying import verify

EXPLAINED = Cell("k1", "explain", "t", "m")
SCORED = Cell("k2", "score", "t", "m", "q", needs=("k1",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "run", write=True)


def test_scores_come_back_as_they_were_with_reasons_in_the_place_of_nan(store: Store) -> None:
    store.plan([EXPLAINED, SCORED])
    store.record_samples("t", [("a", "cat", "cat"), ("b", "dog", "cat")])
    store.record([Outcome("k2", "ok", scores=(0.1 + 0.2, math.nan), reasons=("", "flat"))], log="")
    rows = store.scores()
    assert rows["sample"].tolist() == ["a", "b"]
    assert rows["value"][0] == 0.1 + 0.2
    assert math.isnan(rows["value"][1])
    assert rows["reason"].tolist() == ["", "flat"]
    assert store.samples("t")[1] == ("b", "dog", "cat")


def test_an_outcome_replaces_the_one_before(store: Store) -> None:
    store.plan([SCORED])
    store.record_samples("t", [("a", "", ""), ("b", "", "")])
    store.record([Outcome("k2", "ok", scores=(1.0, 2.0), reasons=("", ""))], log="")
    store.record([Outcome("k2", "timeout", "too slow")], log="")
    assert store.scores().empty
    assert [(cell.status, cell.reason) for cell in store.cells()] == [("timeout", "too slow")]


def test_only_planned_cells_are_shown_and_the_others_are_kept(store: Store) -> None:
    store.plan([EXPLAINED, SCORED])
    store.record_samples("t", [("a", "", "")])
    store.record([Outcome("k2", "ok", scores=(1.0,), reasons=("",))], log="")
    store.plan([EXPLAINED])
    assert [cell.key for cell in store.cells()] == ["k1"]
    assert store.scores().empty
    store.plan([SCORED, EXPLAINED])
    assert [cell.key for cell in store.cells()] == ["k2", "k1"]
    assert store.scores()["value"].tolist() == [1.0]


def kept_map(store: Store, key: str = "k1") -> str:
    """A file of maps; its SHA-256."""
    saved = maps.Saved(Explanation({"map": torch.ones(1, 2, 2)}), {"map": [""]})
    return maps.write(maps.path(store.folder, key), saved)


def test_maps_that_are_missing_or_of_another_size_count_as_never_computed(store: Store) -> None:
    store.plan([EXPLAINED, SCORED])
    digest = kept_map(store)
    store.record([Outcome("k1", "ok", digest=digest), Outcome("k2", "ok")], log="")
    assert set(store.known()) == {"k1", "k2"}
    file = maps.path(store.folder, "k1")
    for length in (file.stat().st_size - 1, 20, 0):
        os.truncate(file, length)
        assert set(store.known()) == {"k2"}
        with pytest.raises(Damaged, match=r"k1\.safetensors is damaged"):
            maps.read([maps.Source(file, digest)])
    file.unlink()
    assert set(store.known()) == {"k2"}
    assert "is missing" in store.faults()["k1"]


def test_no_other_file_is_read_in_the_place_of_the_one_that_was_written(store: Store) -> None:
    digest = kept_map(store)
    file = maps.path(store.folder, "k1")
    other = maps.Saved(Explanation({"map": torch.ones(1, 2, 2) + 1e-7}), {"map": [""]})
    maps.write(file, other)
    with pytest.raises(Damaged, match=r"k1\.safetensors is damaged: its SHA-256"):
        maps.read([maps.Source(file, digest)])
    with pytest.raises(Damaged, match="no SHA-256 is recorded"):
        maps.source(store.folder, "k1", {})


def test_a_folder_of_something_else_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("film.mp4.part", "maps/mine.part", "logs/deep/mine.part")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    before = {*tmp_path.rglob("*")}
    with pytest.raises(UsageError, match=r"is not empty, and holds no run") as refusal:
        Store(tmp_path, write=True)
    assert refusal.value.code == 2
    files[0].unlink()  # what is left has the names of a record's parts
    with pytest.raises(UsageError, match=r"is not empty, and holds no run"):
        Store(tmp_path, write=True)
    assert {*tmp_path.rglob("*")} == before - {files[0]}


def test_only_half_files_that_a_record_makes_are_removed_from_it(tmp_path: Path) -> None:
    Store(tmp_path, write=True).close()
    (tmp_path / "mine").mkdir()
    halves = ("maps/k1.7.part", "maps/.k1.safetensors.part", "logs/.a.log.part", ".run.json.part")
    for name in (*halves, ".leaderboard.csv.me-7-0a.part", "film.part", "mine/film.part"):
        (tmp_path / name).write_text("half")
    Store(tmp_path, write=True).close()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.part")} == {"film.part", "mine/film.part"}


@pytest.mark.parametrize("gone", [[], ["results.sqlite"], ["results.sqlite", "maps", "logs"]])
def test_a_record_that_was_only_begun_can_be_gone_on_with(tmp_path: Path, gone: list[str]) -> None:
    Store(tmp_path, write=True).close()
    for name in gone:
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        (tmp_path / name).unlink(missing_ok=True)
    Store(tmp_path, write=True).close()


def test_a_refused_run_leaves_no_folder_that_it_made_itself(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for name in ("ours", "told", "theirs"):
        with contextlib.suppress(UsageError), Store(tmp_path / name, write=True):
            (tmp_path / name / "logs/a.log").write_text("why" if name == "told" else "")
            raise UsageError("no")
    assert {path.name for path in tmp_path.iterdir()} == {"told", "theirs"}
    assert (tmp_path / "told/logs/a.log").read_text() == "why"


def test_a_run_that_recorded_something_keeps_its_folder(tmp_path: Path) -> None:
    with contextlib.suppress(UsageError), Store(tmp_path / "run", write=True) as store:
        store.write_text("run.json", "{}")
        raise UsageError("no")
    assert (tmp_path / "run/results.sqlite").exists()


@pytest.mark.parametrize("text", ["{}", "[1]", '{"tasks": 1}', "", "null"])
def test_a_damaged_account_of_a_run_is_one_line(store: Store, text: str) -> None:
    store.write_text("run.json", text)
    with pytest.raises(UsageError, match=r"run\.json (was written by another version|is damaged|cannot be read)"):
        store.about()


def test_an_empty_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.sqlite").touch()
    with pytest.raises(RecordError, match=r"results\.sqlite holds no record"):
        Store(tmp_path)


def test_tables_that_are_not_those_that_were_made_are_one_line(store: Store) -> None:
    with sqlite3.connect(store.folder / "results.sqlite") as database:
        database.execute("DROP TABLE scores")
    with pytest.raises(Damaged, match=r"results\.sqlite is damaged \(its tables are not those"):
        Store(store.folder)


def test_a_second_run_in_the_same_folder_is_refused_and_may_come_later(tmp_path: Path) -> None:
    first = Store(tmp_path, write=True)
    with pytest.raises(RecordError, match=r"another run \(process \d+\) is at work"):
        Store(tmp_path, write=True)
    Store(tmp_path).close()  # looking is allowed
    first.close()
    Store(tmp_path, write=True).close()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not the folder of a run"):
        Store(tmp_path)


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path, write=True).close()
    with sqlite3.connect(tmp_path / "results.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(RecordError, match="another version"):
        Store(tmp_path, write=True)


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(RecordError, match=r"cannot be written.*the same command goes on"):
        Store(tmp_path / "run", write=True)


def test_a_full_disk_is_one_clear_line_and_spoils_nothing(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from mibench.errors import RecordError
from mibench.record.cells import Cell, Outcome
from mibench.record.store import Store
from mibench.record.verifying import verify
store = Store(Path({str(tmp_path)!r}), write=True)
store.plan([Cell("a", "score", "t", "m"), Cell("b", "score", "t", "m")])
store.record_samples("t", [(str(number), "", "") for number in range(5000)])
store.record([Outcome("a", "ok", scores=(1.0,), reasons=("",))], log="")
full = Path({str(tmp_path)!r}, "results.sqlite").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (full, full))
try:
    store.record([Outcome("b", "ok", scores=(2.0,) * 5000, reasons=("x" * 50,) * 5000)], log="")
except RecordError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written" in told.stdout
    assert told.stdout.count("\n") == 1
    with Store(tmp_path, write=True) as store:
        assert [(cell.key, cell.status) for cell in store.cells()] == [("a", "ok"), ("b", "")]
        assert store.scores()["value"].tolist() == [1.0]


def test_maps_come_back_as_they_were_from_several_files(tmp_path: Path) -> None:
    parts = [
        maps.Saved(
            Explanation({"m": torch.rand(2, 3, 3)}, {"bits": torch.rand(2)}, {"source": torch.rand(2, 1, 3, 3)}),
            {"m": ["", "flat"]},
        )
        for _ in range(2)
    ]
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    both = maps.read([maps.Source(file, maps.write(file, part)) for file, part in zip(files, parts, strict=True)])
    assert torch.equal(both.explanation.maps["m"], torch.cat([part.explanation.maps["m"] for part in parts]))
    assert both.explanation.facts["bits"].shape == (4,)
    assert both.explanation.signals["source"].shape == (4, 1, 3, 3)
    assert both.reasons["m"] == ["", "flat", "", "flat"]


def test_a_fit_comes_back_as_it_was(tmp_path: Path) -> None:
    state = State({"w": torch.rand(3, 2).T}, {"layers": ["a", "b"], "bound": 1.5})
    file = tmp_path / "fit.safetensors"
    back = maps.read_state(maps.Source(file, maps.write_state(file, state)))
    assert torch.equal(back.tensors["w"], state.tensors["w"])
    assert back.facts == state.facts


def test_nothing_is_left_of_a_file_that_could_not_be_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mibench.files.writing.os.replace", full)
    with pytest.raises(NotWritten, match=r"fit\.safetensors cannot be written: No space"):
        maps.write_state(tmp_path / "fit.safetensors", State({"w": torch.ones(1)}))
    assert list(tmp_path.iterdir()) == []


def scored(store: Store) -> None:
    """A record with a score of each sample, of a cell that has maps."""
    store.plan([EXPLAINED, SCORED])
    store.record_samples("t", [("a", "cat", "cat"), ("b", "dog", "cat")])
    digest = kept_map(store)
    store.record([Outcome("k1", "ok", digest=digest)], log="")
    store.record([Outcome("k2", "nan", scores=(0.5, math.nan), reasons=("", "flat"), seconds=1)], log="")


EDITS = [
    "UPDATE scores SET value = 0.25 WHERE sample = 0",
    "UPDATE scores SET value = 0.5 WHERE sample = 1",
    "UPDATE scores SET value = NULL WHERE sample = 0",
    "UPDATE scores SET reason = 'fat' WHERE sample = 1",
    "UPDATE scores SET sample = 2 WHERE sample = 1",
    "DELETE FROM scores WHERE sample = 1",
    "DELETE FROM scores",
    "UPDATE cells SET status = 'ok' WHERE key = 'k2'",
    "UPDATE cells SET facts = '{\"seconds\": 2}' WHERE key = 'k1'",
    "UPDATE cells SET seconds = 2 WHERE key = 'k2'",
    "UPDATE cells SET digest = 'another' WHERE key = 'k1'",
    "UPDATE cells SET method = 'n' WHERE key = 'k2'",
    "UPDATE cells SET planned = 3 - planned",
    "UPDATE cells SET planned = 0 WHERE key = 'k2'",
    "UPDATE cells SET key = 'k3' WHERE key = 'k2'",
    "DELETE FROM cells WHERE key = 'k2'",
    "UPDATE samples SET id = 'c' WHERE sample = 1",
    "DELETE FROM samples WHERE sample = 1",
    "DELETE FROM samples",
    "UPDATE checks SET digest = 'another' WHERE name = 'plan'",
    "DELETE FROM checks WHERE name = 'plan'",
]


def both(store: Store) -> object:
    """What a board is made from."""
    return store.cells(), store.scores()


@pytest.mark.parametrize("edit", EDITS)
def test_no_edited_row_reaches_a_board(store: Store, edit: str) -> None:
    scored(store)
    assert len(store.cells()) == len(store.scores()) == 2
    store.close()
    with sqlite3.connect(store.folder / "results.sqlite") as database:
        database.execute(edit)
    with Store(store.folder) as reader, pytest.raises(Damaged, match=r"does not match its checksum"):
        both(reader)


@pytest.mark.parametrize("content", [b"", b"S", b"SQLite", b"SQLite format 3\0" + bytes(84), bytes(4096)])
def test_a_database_that_lost_its_content_is_never_taken_for_a_new_one(store: Store, content: bytes) -> None:
    scored(store)
    store.close()
    (store.folder / "results.sqlite").write_bytes(content)
    for write in (False, True):
        with pytest.raises(Damaged, match=r"results\.sqlite is damaged .*doctor .* --mend"):
            Store(store.folder, write=write)


def test_a_record_killed_in_the_middle_of_a_commit_is_read_as_before_it(store: Store) -> None:
    scored(store)
    code = f"""
import os, sqlite3
from pathlib import Path
from mibench.record.store import Store
from mibench.record.verifying import verify
from mibench.record.cells import Cell, Outcome
store = Store(Path({str(store.folder)!r}), write=True)
store._database.execute("PRAGMA cache_size = 1")
store._database.execute("BEGIN")
store._database.execute("UPDATE scores SET value = 9")
store._database.executemany("INSERT INTO scores VALUES ('k', ?, 1, ?)", [(n, "x" * 50) for n in range(5000)])
os._exit(0)
"""
    store.close()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (store.folder / "results.sqlite-journal").stat().st_size > 0
    with Store(store.folder) as reader:
        assert reader.scores()["value"].tolist()[0] == 0.5
        assert not reader.damaged_rows()


def test_what_is_sound_of_a_damaged_database_is_kept_when_asked(store: Store) -> None:
    scored(store)
    store.plan([EXPLAINED, SCORED, *(Cell(f"m{n}", "score", "t", "m" * 40, f"q{n}") for n in range(200))])
    store.close()
    file = store.folder / "results.sqlite"
    content = bytearray(file.read_bytes())
    place = content.index(b"q150")
    content[place // 4096 * 4096 : place // 4096 * 4096 + 12] = bytes(12)  # the head of a page of the table
    file.write_bytes(content)
    with pytest.raises(Damaged, match="--mend"):
        Store(store.folder, write=True)
    assert [each.state for each in verify(store.folder)] == ["wrong"]
    assert next(verify(store.folder, mend=True)).state == "wrong"
    assert (store.folder / "results.sqlite.damaged-1").read_bytes() == content
    with Store(store.folder, write=True) as mended:
        assert {"k1", "k2"} <= mended.all_keys() != {"k1", "k2"}
        assert set(mended.known()) == {"k1", "k2"}
        mended.plan([EXPLAINED, SCORED])
        mended.record_samples("t", [("a", "cat", "cat"), ("b", "dog", "cat")])
        assert mended.scores()["value"].tolist()[0] == 0.5


def test_tidying_removes_the_files_that_no_row_refers_to_and_no_others(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        store.plan([EXPLAINED])
        kept, adopted, strange = (maps.path(tmp_path, key) for key in ("k1", "pictures", "refused"))
        for file in (kept, adopted, strange):
            file.write_bytes(b"tensors")
        store.adopt([str(adopted.relative_to(tmp_path))])
        store.tidy()
    assert (kept.exists(), adopted.exists(), strange.exists()) == (True, True, False)
