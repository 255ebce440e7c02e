"""Flip single bits of a finished record, and see that report, score, run and doctor name each, or that it is harmless.

Started by test_crash_loop.py. Prints one JSON object for each flip.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from mibench.cli.display import Lines
from mibench.record.verifying import verify
from mibench.run.rescoring import rescore
from mibench.run.run import Options
from tests.crash.loop import forget, forked, go, reported, warm, without_costs


def scored(folder: Path) -> str:
    """The board after one more metric was asked of the saved maps."""
    forget()
    summary = rescore(folder / "run", ["drop"], Options(device="cpu", engine="inline"))
    failed = sorted({outcome.reason for _, outcome in summary.failures})
    return f"named: {failed[0]}" if failed else (folder / "run" / "leaderboard.csv").read_text()


def again(folder: Path) -> dict[str, str]:
    """What the same run again makes of the record."""
    said = io.StringIO()
    go(folder, Lines(Console(file=said, width=1000)))
    named = [line for line in said.getvalue().splitlines() if line.startswith("damaged or missing")]
    return {"board": (folder / "run" / "leaderboard.csv").read_text(), "named": " ".join(named)}


def examined(folder: Path, *, mend: bool = False) -> list[str]:
    """What doctor finds wrong."""
    return [f"{each.name}: {each.text}" for each in verify(folder / "run", mend=mend) if each.state == "wrong"]


def targets(folder: Path) -> list[Path]:
    """The files of a record that are read again."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    return [path for path in files if path.name != "lock"]


def flip(folder: Path, draw: random.Random) -> tuple[str, int]:
    """Change one bit, half of the time in the database: the file's name and the bit."""
    files = targets(folder)
    file = draw.choice(files) if draw.random() < 0.5 else folder / "results.sqlite"
    content = bytearray(file.read_bytes())
    bit = draw.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    return str(file.relative_to(folder)), bit


def attempt(root: Path, draw: random.Random, whole: str, more: str) -> dict[str, Any]:
    """One flip: who names it, and whether anybody was misled."""
    folder, spare = root / "tried", root / "spare"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "warm", folder)
    name, bit = flip(folder / "run", draw)

    def on_a_copy(work: Callable[[Path], Any]) -> tuple[int, Any]:
        shutil.rmtree(spare, ignore_errors=True)
        shutil.copytree(folder, spare)
        return forked(lambda: work(spare))

    os.environ["MIBENCH_CACHE"] = str(root / "warm" / "cache")
    wrong, named = [], []
    for who, work, wanted in (("report", reported, whole), ("score", scored, more)):
        code, found = on_a_copy(work)
        if code == 2 and "\n" not in found:
            named.append(f"{who}: {found}")
        elif code:
            wrong.append(f"{who}: left with {code}: {found}")
        elif found.startswith("named:"):
            named.append(f"{who}: {found}")
        elif found != wanted:
            wrong.append(f"{who}: another board: {found}")
    code, found = on_a_copy(again)
    if code == 2 and "\n" not in found:
        named.append(f"run: {found}")
        forked(lambda: examined(spare, mend=True))
        code, found = forked(lambda: again(spare))
    if code:
        wrong.append(f"run: left with {code}: {found}")
    elif without_costs(found["board"]) != without_costs(whole):
        wrong.append(f"run: another board: {found['board']}")
    elif not found["named"] and found["board"] != whole and not named:
        wrong.append("run: other costs without a word")
    elif found["named"]:
        named.append(f"run: {found['named']}")
    code, found = on_a_copy(examined)
    if code:
        wrong.append(f"doctor: left with {code}: {found}")
    named += [f"doctor: {found[0]}"] if found and not code else []
    return {"file": name, "bit": bit, "named": named, "wrong": wrong}


def main(place: str, seed: int, count: int) -> None:
    """So many flips."""
    root = Path(place)
    warm(root)
    whole = (root / "warm" / "run" / "leaderboard.csv").read_text()
    shutil.copytree(root / "warm", root / "more")
    more = scored(root / "more")
    draw = random.Random(seed)
    for _ in range(count):
        print(json.dumps(attempt(root, draw, whole, more)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
