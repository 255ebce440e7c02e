"""A command that computes nothing imports nothing that computes, and a run's own process imports no stranger's code."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = ("torch", "torchvision", "zennit", "numba", "captum", "quantus", "sklearn", "scipy.stats", "cv2", "ray")
SUITE = """
name = "small"
methods = ["saliency"]
controls = ["random"]
chance = "random"
metrics = ["sparseness", "complexity"]
samples = 6
calibration = 16
gate_samples = 2
timed_samples = 1

[[tasks]]
model = "mlp"
"""
COMMAND = """
import atexit, json, os, sys
def tell():
    with open(os.environ["TOLD"], "w") as file:
        json.dump({"modules": sorted(sys.modules), "pid": os.getpid()}, file)
atexit.register(tell)
sys.argv = ["mibench", *sys.argv[1:]]
from mibench.cli.main import main
main()
"""


@dataclass
class Told:
    """What a command in a process of its own came to."""

    code: int
    out: str
    modules: frozenset[str]
    pid: int


def command(place: Path, *words: str, path: str = "") -> Told:
    """A command in a process of its own, and what that process had imported in the end."""
    told = place / "told.json"
    given = os.environ | {"TOLD": str(told), "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], cwd=place, capture_output=True, text=True, env=given, timeout=600
    )
    content = json.loads(told.read_text())
    return Told(done.returncode, done.stdout + done.stderr, frozenset(content["modules"]), content["pid"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a small suite has run, and its board lies beside it, without its costs."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "small.toml").write_text(SUITE)
    for words in (("run", "small.toml", "--out", "first", "--jobs", "1"), ("report", "first", "-o", "boards")):
        told = command(folder, *words)
        assert told.code == 0, told.out
    board = folder / "boards" / "small.csv"
    board.write_text("".join(line for line in board.read_text().splitlines(True) if ",runtime," not in line))
    return folder


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (("list",), ()),
        (("run", "small.toml", "--out", "first", "--dry-run"), ()),
        (("run", "small.toml", "--out", "first", "--jobs", "1"), ()),
        (("report", "first", "-o", "again"), ()),
        (("compare", "first", "first"), ()),
        (("gate", "first", "--baseline", "boards"), ()),
        (("doctor",), ("torch",)),
    ],
    ids=lambda words: words[0] if words and words[0] != "run" else "-".join(words[:1] + words[4:5]),
)
def test_what_computes_nothing_imports_nothing_heavy(place: Path, words: tuple[str, ...], allowed: tuple[str]) -> None:
    told = command(place, *words)
    assert told.code == 0, told.out
    assert {name for name in HEAVY if name in told.modules} <= set(allowed)


def test_an_unchanged_run_writes_nothing_and_ends_in_the_same_words(place: Path) -> None:
    files = {file: file.stat().st_mtime_ns for file in (place / "first").rglob("*") if file.name != "lock"}
    told = command(place, "run", "small.toml", "--out", "first", "--jobs", "1")
    assert "no order: no score is requested that could decide it" in told.out
    assert "0 computed now, 0 failed" in told.out
    assert {file: file.stat().st_mtime_ns for file in (place / "first").rglob("*") if file.name != "lock"} == files


PATCHER = """
import os
import numpy
import torch
from mibench.plugins.contract import Explainer, Explanation

with open({mark!r}, "a") as file:
    print(os.getpid(), file=file)

def patched(*args, **more):
    raise RuntimeError("patched at import")

torch.zeros_like = torch.randperm = torch.softmax = numpy.random.seed = numpy.random.default_rng = patched


class Patcher(Explainer):
    name = "patcher"
    title = "Patches its process"

    def explain(self, probe, x, target, seeds):
        return Explanation({{"map": x.abs().view(len(x), *probe.pixels)}})
"""


def test_the_process_of_a_run_never_holds_what_an_import_patched(place: Path, tmp_path: Path) -> None:
    mark = tmp_path / "imported by"
    (tmp_path / "patcher.py").write_text(PATCHER.format(mark=str(mark)))
    info = tmp_path / "patcher-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: patcher\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mibench.methods]\npatcher = patcher\n")
    words = ("run", "small.toml", "--methods", "patcher,saliency", "--out", "patched", "--jobs", "1")
    told = command(place, *words, path=str(tmp_path))
    assert "patcher" in told.out
    importers = set(map(int, mark.read_text().split()))
    assert importers  # the worker, and the child that made the card …
    assert told.pid not in importers  # … and not the run
    assert "patcher" not in told.modules
    assert "torch" in told.modules  # which it would have patched
    mine, theirs = (_scores(place / name, "saliency") for name in ("first", "patched"))
    assert mine == theirs


def _scores(run: Path, method: str) -> list[str]:
    lines = (run / "leaderboard.csv").read_text().splitlines()
    return [",".join(line.split(",")[1:13]) for line in lines if f",{method}," in line and ",runtime," not in line]


@pytest.mark.slow
def test_commands_answer_within_a_share_of_importing_torch(place: Path) -> None:
    limits = {
        ("list",): 0.5,
        ("run", "small.toml", "--out", "first", "--dry-run"): 0.5,
        ("report", "first", "-o", "again"): 0.5,
        ("doctor",): 1.2,
        ("run", "small.toml", "--out", "first", "--jobs", "1"): 1.5,
    }

    def seconds(code: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        given = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *code], cwd=place, capture_output=True, check=True, env=given)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    for words, limit in limits.items():
        turns = [(seconds(["-c", "import torch"]), seconds(["-m", "mibench", *words])) for _ in range(3)]
        assert min(command for _, command in turns) < limit * min(torch for torch, _ in turns), words
