"""A task is recalled from the record only as long as all that it was opened from is the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mibench.record.cells import Prepared, Setting, TaskSpec
from mibench.record.store import Store
from mibench.run import reopening

SETTING = Setting(".")
NOW = time.time_ns()
LONG_AGO = NOW - 10**12


def written(file: Path, text: str, changed: int = LONG_AGO) -> Path:
    file.write_text(text)
    os.utime(file, ns=(changed, changed))
    return file


def task(place: Path) -> tuple[TaskSpec, Prepared]:
    table = written(place / "table.csv", "a,b,class\n1,2,x\n")
    weights = written(place / "weights.safetensors", "weights")
    spec = TaskSpec(f"mlp[data=csv:{table}]", f"csv:{table}", 8, 16)
    facts = {"kind": "columns", "pictures": "ab12"}
    return spec, Prepared(spec.name, "a", "b", 0.9, ("1",), (0,), (0,), ("x",), facts, files=(str(weights),))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store(tmp_path / "run", write=True) as store:
        (tmp_path / "run/maps/ab12.safetensors").write_bytes(b"pictures")
        store.adopt(["maps/ab12.safetensors"])
        yield store


def test_an_unchanged_task_is_recalled_as_it_was(store: Store, tmp_path: Path) -> None:
    spec, prepared = task(tmp_path)
    reopening.keep(store, {spec: prepared}, SETTING, NOW)
    assert reopening.recalled(store, [spec], SETTING) == {spec: prepared}


@pytest.mark.parametrize(
    "change",
    [
        lambda place: written(place / "table.csv", "a,b,class\n1,3,x\n", LONG_AGO + 1),
        lambda place: written(place / "weights.safetensors", "other weights"),
        lambda place: (place / "weights.safetensors").unlink(),
        lambda place: (place / "run/tasks.json").write_text("{}"),
        lambda place: (place / "run/tasks.json").unlink(),
    ],
    ids=["data", "weights", "no weights", "another record", "no record"],
)
def test_a_task_of_which_anything_has_changed_is_opened(
    store: Store, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    spec, prepared = task(tmp_path)
    reopening.keep(store, {spec: prepared}, SETTING, NOW)
    change(tmp_path)
    assert reopening.recalled(store, [spec], SETTING) == {}


def test_other_samples_or_another_precision_are_another_task(store: Store, tmp_path: Path) -> None:
    spec, prepared = task(tmp_path)
    reopening.keep(store, {spec: prepared}, SETTING, NOW)
    assert reopening.recalled(store, [replace(spec, samples=9)], SETTING) == {}
    assert reopening.recalled(store, [spec], replace(SETTING, precision="bf16")) == {}


def test_data_that_may_have_changed_while_they_were_read_are_read_again(store: Store, tmp_path: Path) -> None:
    spec, prepared = task(tmp_path)
    written(tmp_path / "table.csv", "a,b,class\n1,2,x\n", NOW + 10**6)
    reopening.keep(store, {spec: prepared}, SETTING, NOW)
    assert reopening.recalled(store, [spec], SETTING) == {}


@pytest.mark.parametrize("model", ["quadrants", "user[local=a,representation=b]:nets:build"])
def test_what_others_wrote_is_always_opened(toy: None, store: Store, tmp_path: Path, model: str) -> None:
    _, prepared = task(tmp_path)
    spec = TaskSpec(model, "iris", 8, 16)
    reopening.keep(store, {spec: prepared}, SETTING, NOW)
    assert reopening.recalled(store, [spec], SETTING) == {}
