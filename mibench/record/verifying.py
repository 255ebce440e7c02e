"""All that a record holds against what was written: each file's SHA-256, each row's checksum, and SQLite's own check.

What is damaged is named and counts as never computed, so that the same run again makes just that again.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from mibench.errors import Damaged, MibenchError, UsageError
from mibench.files import writing
from mibench.record import database, maps
from mibench.record.folder import held
from mibench.record.store import Store
from mibench.record.symptom import Symptom


def verify(folder: Path, *, mend: bool = False) -> Iterator[Symptom]:
    """Read all of a record; with `mend`, a database that SQLite cannot read gives way to what is sound of it."""
    if not (folder / database.NAME).exists():
        raise UsageError(f"{folder} is not the folder of a run: it has no {database.NAME}")
    if mend:
        yield from _mended(folder)
    try:
        store = Store(folder)
    except Damaged as error:
        yield Symptom("database", "wrong", str(error))
        return
    with store:
        yield from (Symptom("database", "wrong", fault) for fault in store.integrity())
        damaged = store.faults()
        damaged |= store.unreadable(store.all_keys() - damaged.keys())
        damaged |= {key: fault for key, fault in store.damaged_rows().items() if key not in damaged}
        yield from (Symptom("cell", "wrong", fault) for fault in damaged.values())
        yield from _tables(store)
        yield from _files(store)
        cells = len(store.all_keys())
    if damaged:
        yield _struck(folder, set(damaged))
    yield Symptom(
        "record", "fine", f"{folder}: read {cells} cells, {cells - len(damaged)} of them as they were written"
    )


def _mended(folder: Path) -> Iterator[Symptom]:
    """Replace the database if it is damaged."""
    try:
        Store(folder).close()
    except Damaged:
        with held(folder):
            aside, kept, dropped = database.salvage(folder)
        text = f"moved to {aside}; {kept} cells kept, {dropped} dropped because they do not match their checksums"
        yield Symptom("database", "wrong", f"{text}; the same run again computes what is missing")


def _tables(store: Store) -> Iterator[Symptom]:
    """The rows that belong to no cell alone: the digests of other files, the plan, and the samples of each task."""
    looks: list[Callable[[], object]] = [store.cells, store.checks]
    with contextlib.suppress(Damaged):  # named below
        looks += [functools.partial(store.samples, task) for task in store.tasks()]
    for look in looks:
        try:
            look()
        except Damaged as error:
            if not error.key:  # the row of a cell was named already
                yield Symptom("table", "wrong", str(error))


def _files(store: Store) -> Iterator[Symptom]:
    """The files that belong to no cell, and those that belong to nothing."""
    try:
        named = store.files()
    except Damaged:
        return  # named already
    for name, (digest, size) in named.items():
        if fault := writing.fault(store.folder / name, digest, size):
            yield Symptom("file", "wrong", f"{name} {fault}; the same run again writes it again")
    ours = {maps.path(Path(), key).name for key in store.all_keys()} | {Path(name).name for name in named}
    spare = sorted(file.name for file in (store.folder / "maps").iterdir() if file.name not in ours)
    if spare:
        yield Symptom("file", "absent", f"maps/{spare[0]} belongs to no cell ({len(spare)} such files): delete it")


def _struck(folder: Path, damaged: set[str]) -> Symptom:
    """Count what is damaged as never computed."""
    try:
        with Store(folder, write=True) as store:
            store.repair()
            store.strike(damaged & store.all_keys())
    except MibenchError as error:
        return Symptom("mend", "wrong", f"the damage could not be noted in the record: {error}")
    return Symptom("mend", "absent", f"{len(damaged)} cells count as not computed: the same run again makes them again")
