"""A record survives being killed, a failing and a full disk at every call that changes a file; no flipped bit misleads.

The loop is SQLite's own: number every write, rename, sync and open of a run, and let each of them be the last one. What
a power cut leaves is not tried, for the kernel keeps what a killed process wrote; the order of syncs is looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

HERE = Path(__file__).parent.parent
CRASH = HERE / "crash"
MEMORY = Path("/dev/shm")  # where syncing costs nothing


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that counts calls and makes one of them the last."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("needs Linux and a C compiler, for the calls of SQLite are counted by a preloaded library")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, CRASH / "shim.c", "-ldl"], check=True)
    return library


def start(script: str, *words: object, preload: Path | None = None) -> tuple[subprocess.Popen[str], IO[str]]:
    """A module of the folder crash/, and what it writes: a file, because a full pipe would stop it."""
    paths = os.pathsep.join(map(str, (HERE.parent, HERE / "thirdparty")))
    variables = os.environ | {"PYTHONPATH": paths} | ({"LD_PRELOAD": str(preload)} if preload else {})
    command = [sys.executable, "-m", f"tests.crash.{script}", *map(str, words)]
    out = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it is read after the process has ended
    return subprocess.Popen(command, cwd=HERE.parent, env=variables, stdout=out, stderr=subprocess.PIPE, text=True), out


def lines(started: tuple[subprocess.Popen[str], IO[str]]) -> list[dict[str, Any]]:
    """All that a script found, each line as JSON."""
    process, out = started
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    with out:
        out.seek(0)
        return [json.loads(line) for line in out]


def refused(tried: Sequence[dict[str, Any]]) -> None:
    """Report what went wrong anywhere."""
    wrong = [each for each in tried if each["wrong"]]
    assert not wrong, f"{len(wrong)} of {len(tried)}, such as {wrong[0]}"


def test_a_run_killed_or_failing_at_any_call_goes_on_to_the_same_board(shim: Path, place: Path) -> None:
    about, *tried = lines(start("loop", place, "kill,EIO,ENOSPC", 7, 48, preload=shim))
    assert about["points"] > 200
    assert len(tried) >= 25
    assert {each["way"] for each in tried} == {"kill", "EIO", "ENOSPC"}
    refused(tried)
    check_syncs(about["trace"])


def check_syncs(trace: Sequence[str]) -> None:
    """A file is synced before it takes its place, and its folder after."""
    calls = [tuple(line.split(" ", 1)) for line in trace]
    renamed = [(at, Path(path)) for at, (name, path) in enumerate(calls) if name == "rename"]
    assert len(renamed) > 10
    for at, path in renamed:
        assert calls[at - 1][0] == "fsync"
        assert Path(calls[at - 1][1]).name.startswith(f".{path.name}.")
        assert calls[at + 1] == ("fsync", str(path.parent))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_or_failing_at_every_call_goes_on_to_the_same_board(shim: Path, place: Path) -> None:
    halves = [start("loop", place / str(part), "kill,EIO,ENOSPC", part, 2, preload=shim) for part in range(2)]
    found = [lines(half) for half in halves]
    tried = [each for _, *half in found for each in half]
    assert len(tried) == sum(len(range(part, 3 * about["points"], 2)) for part, (about, *_) in enumerate(found))
    print(Counter((each["way"], each["code"]) for each in tried))
    refused(tried)


def test_a_flipped_bit_in_a_record_is_named_or_harmless(place: Path) -> None:
    tried = lines(start("flips", place, 5, 12))
    assert sum(bool(each["named"]) for each in tried) >= 4
    refused(tried)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_none_of_a_thousand_flipped_bits_changes_a_number(place: Path) -> None:
    halves = [start("flips", place / str(part), part, 500) for part in range(2)]
    tried = [each for half in halves for each in lines(half)]
    print(Counter((Path(each["file"]).suffix, bool(each["named"])) for each in tried))
    refused(tried)
