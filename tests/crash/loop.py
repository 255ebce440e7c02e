"""Run the toys again and again, each time killed or failing at another call that changes a file; then go on.

Started by test_crash_loop.py with the shim preloaded. Everything is imported and tried once, so that each attempt is a
fork that costs a moment. Prints one JSON object for each point.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import toy.zoo
from torch import nn

from mibench.cli.display import Lines
from mibench.errors import MibenchError
from mibench.leaderboard import reporting
from mibench.leaderboard.tables import board, to_csv
from mibench.models.training import Lesson, Recipe, trained
from mibench.record.store import Store
from mibench.record.verifying import verify
from mibench.run import explaining, scoring
from mibench.run.run import Options, run
from tests.toy_suite import toy as toy_suite

OFF, COUNT, KILL = -2, -1, 0
WAYS = {"kill": KILL, "EIO": errno.EIO, "ENOSPC": errno.ENOSPC}
SUITE = toy_suite(methods=("bright", "learned"), controls=("noise",), metrics=("inside", "moved"))
shim = ctypes.CDLL(os.environ["LD_PRELOAD"]) if "LD_PRELOAD" in os.environ else None
make = toy.zoo.Quadrants.load


def from_the_cache(model: toy.zoo.Quadrants) -> nn.Module:
    """The toy network as one that was trained: it is kept in the cache."""
    return trained(Lesson("quadrants", 0.0, Recipe(1), ()), lambda: make(model), lambda *_: 1.0)


def go(folder: Path, watch: Lines | None = None) -> str:
    """One run; its board without what time costs."""
    forget()
    summary = run(SUITE, Options(folder / "run", "cpu", engine="inline"), watch)
    assert summary.code == 0, summary.failures
    return without_costs((folder / "run" / "leaderboard.csv").read_text())


def forget() -> None:
    """Know nothing of the run before."""
    explaining.task_of.cache_clear()
    scoring.scene_of.cache_clear()


def without_costs(table: str) -> str:
    return "\n".join(line for line in table.splitlines() if ",runtime," not in line)


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """What a fork of this process makes of some work: its exit status, and its answer or its last words."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            answer, code = work(), 0
        except MibenchError as error:
            answer, code = str(error), error.code
        except BaseException:
            answer = traceback.format_exc()
        if shim:
            shim.crash_arm(b"", b"", 0, OFF, None)
        with os.fdopen(writer, "w") as file:
            json.dump(answer, file)
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(text) if text else None


def armed(folder: Path, at: int, how: int, log: Path | None = None) -> int:
    """A run that meets its fate; how many calls it made."""
    os.environ["MIBENCH_CACHE"] = str(folder / "cache")
    assert shim
    shim.crash_arm(str(folder / "run").encode(), str(folder / "cache").encode(), at, how, log and str(log).encode())
    go(folder)
    return int(shim.crash_count())


def reported(folder: Path) -> str:
    """The board that a report would make."""
    with Store(folder / "run") as store:
        return to_csv(board(reporting.results_of(store)))


def resumed(folder: Path) -> dict[str, Any]:
    """What can be read of the record as it was left, and what the same run again makes of it."""
    os.environ["MIBENCH_CACHE"] = str(folder / "cache")
    try:
        seen = without_costs(reported(folder))
    except MibenchError as error:
        seen = f"error: {error}"
    again = go(folder)
    wrong = [each.text for each in verify(folder / "run") if each.state == "wrong"]
    drafts = [str(path) for path in folder.rglob("*.part")]
    return {"seen": seen, "again": again, "wrong": wrong, "drafts": drafts}


def attempt(folder: Path, at: int, way: str, whole: str) -> dict[str, Any]:
    """One point: how the run ended, and what was wrong afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    code, words = forked(lambda: armed(folder, at, WAYS[way]))
    after, found = forked(lambda: resumed(folder))
    wrong = []
    unreached = code == 0 and words < at  # how many pages SQLite writes depends on the digits of seconds
    if way == "kill" and code != -signal.SIGKILL and not unreached:
        wrong.append(f"it was not killed but left with {code}: {words}")
    if way != "kill" and (code not in (0, 2) or (code == 2 and "\n" in str(words))):
        wrong.append(f"it left with {code}: {words}")
    if after:
        wrong.append(f"it could not go on: {after}: {found}")
    else:
        wrong += [f"board differs: {found['again']}"] if found["again"] != whole else []
        wrong += found["wrong"] + found["drafts"]
        wrong += [found["seen"]] if found["seen"].startswith("error:") and "\n" in found["seen"] else []
    return {"point": at, "way": way, "code": code, "words": words if code == 2 else "", "wrong": wrong}


def warm(root: Path) -> str:
    """Import and try everything once; the board of a run that nothing happens to."""
    torch.set_num_threads(1)
    toy.zoo.Quadrants.load = from_the_cache  # type: ignore[method-assign]
    os.environ["MIBENCH_CACHE"] = str(root / "warm" / "cache")
    return go(root / "warm")


def main(place: str, ways: str, part: int, step: int) -> None:
    """Every `step`-th point of some ways, from `part` on."""
    root = Path(place)
    whole = warm(root)
    log = root / "trace"
    code, points = forked(lambda: armed(root / "counted", 0, COUNT, log))
    assert code == 0, points
    print(json.dumps({"points": points, "trace": log.read_text().splitlines()}), flush=True)
    for number, (way, at) in enumerate((way, at) for way in ways.split(",") for at in range(1, points + 1)):
        if number % step == part:
            print(json.dumps(attempt(root / "tried", at, way, whole)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
