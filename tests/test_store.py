"""The record keeps every outcome whole, shows only what is planned, and is written by one run at a time."""

from __future__ import annotations

import math
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


def test_maps_whose_file_is_gone_count_as_never_computed(store: Store) -> None:
    store.plan([EXPLAINED, SCORED])
    store.record([Outcome("k1", "ok"), Outcome("k2", "ok")], log="")
    assert set(store.known()) == {"k2"}
    maps.write(maps.path(store.folder, "k1"), maps.Saved(Explanation({"map": torch.ones(1, 2, 2)}), {"map": [""]}))
    assert set(store.known()) == {"k1", "k2"}


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
