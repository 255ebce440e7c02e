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

from mibench import maps
from mibench.contract import Explanation, State
from mibench.errors import RecordError, UsageError
from mibench.jobs import Cell, Outcome
from mibench.store import Store

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


def test_maps_whose_file_is_gone_or_damaged_count_as_never_computed(store: Store) -> None:
    store.plan([EXPLAINED, SCORED])
    store.record([Outcome("k1", "ok"), Outcome("k2", "ok")], log="")
    assert set(store.known()) == {"k2"}
    file = maps.path(store.folder, "k1")
    maps.write(file, maps.Saved(Explanation({"map": torch.ones(1, 2, 2)}), {"map": [""]}))
    assert set(store.known()) == {"k1", "k2"}
    for length in (file.stat().st_size - 1, 20, 0):
        os.truncate(file, length)
        assert set(store.known()) == {"k2"}
        with pytest.raises(RecordError, match=r"k1\.safetensors is damaged"):
            maps.read([file])


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
    for name in (*halves, "leaderboard.csv.part", "film.part", "mine/film.part"):
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
    (store.folder / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"run\.json (was written by another version|is damaged|cannot be read)"):
        store.about()


def test_an_empty_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.sqlite").touch()
    with pytest.raises(RecordError, match=r"results\.sqlite holds no record"):
        Store(tmp_path)


def test_scores_that_cannot_be_read_are_one_line(store: Store) -> None:
    with sqlite3.connect(store.folder / "results.sqlite") as database:
        database.execute("DROP TABLE scores")
    with Store(store.folder) as reader, pytest.raises(RecordError, match=r"cannot be read: no such table: scores$"):
        reader.scores()


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
    with pytest.raises(RecordError, match=r"cannot be kept.*intact"):
        Store(tmp_path / "run", write=True)


def test_a_full_disk_is_one_clear_line_and_spoils_nothing(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from mibench.errors import RecordError
from mibench.jobs import Cell, Outcome
from mibench.store import Store
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
    assert "cannot be kept" in told.stdout
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
    for file, part in zip(files, parts, strict=True):
        maps.write(file, part)
    both = maps.read(files)
    assert torch.equal(both.explanation.maps["m"], torch.cat([part.explanation.maps["m"] for part in parts]))
    assert both.explanation.facts["bits"].shape == (4,)
    assert both.explanation.signals["source"].shape == (4, 1, 3, 3)
    assert both.reasons["m"] == ["", "flat", "", "flat"]


def test_a_fit_comes_back_as_it_was(tmp_path: Path) -> None:
    state = State({"w": torch.rand(3, 2).T}, {"layers": ["a", "b"], "bound": 1.5})
    maps.write_state(tmp_path / "fit.safetensors", state)
    back = maps.read_state(tmp_path / "fit.safetensors")
    assert torch.equal(back.tensors["w"], state.tensors["w"])
    assert back.facts == state.facts


def test_nothing_is_left_of_a_file_that_could_not_be_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mibench.maps.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        maps.write_state(tmp_path / "fit.safetensors", State({"w": torch.ones(1)}))
    assert list(tmp_path.iterdir()) == []
