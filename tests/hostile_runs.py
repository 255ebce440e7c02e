"""Runs beside plug-ins that misbehave, and what they must leave unharmed: `python -m tests.hostile_runs [--help]`.

A case is one misbehaviour; `thirdparty/hostile/ends.csv` lists how each must end. Every run is a child of this process,
which adopts whatever the run leaves behind, so no process that a plug-in starts can hide from the count.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import hashlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mibench.errors import MibenchError
from mibench.plugins import registry
from mibench.record.store import Store
from mibench.run.run import Options, run
from mibench.suites import suite
from tests.toy_suite import toy

HERE = Path(__file__).parent
TOYS, HOSTILE = HERE / "thirdparty", HERE / "thirdparty" / "hostile"

METHODS = ("hostile", "hostile-fit", "bright", "learned")  # the first two behave: they share their code with culprits
METRICS = ("hostile-metric", "inside", "drop", "moved", "sparseness", "random-logit")
MEMORY = 3 << 30  # bytes of its own that a process of a run may hold
PATIENCE = 10.0  # seconds in which what a run started must have ended after it
LONGEST, MORE = 10, 3  # times what a cell may take is how long a run may take, and more for each of its culprits
PAGE = 100_000  # bytes that each culprit may add to the page
LOG_NAME = re.compile(r"[0-9a-f]+\.log")
LOG = 11 << 20  # bytes of the longest log
REASON = 600  # letters of the longest reason
BRIEF, LONG = 15.0, 60.0  # the least seconds that a cell may take, where one hangs and elsewhere
TEMPORARY = "t"  # brief, like all names here: the path of a socket has 107 letters at most, and Ray needs 84
SHARED = Path("/dev/shm")  # where Linux keeps shared memory that has a name
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


@dataclass(frozen=True)
class Case:
    """One misbehaviour of one kind of plug-in, and how a run with it must end."""

    plugin: str
    group: str
    does: str
    code: str  # exit codes, with | between them where several are right
    status: str  # of the culprit's cells, likewise
    reason: str  # a regular expression found in the reason of one of them

    def __str__(self) -> str:
        return f"{self.plugin}:{self.does}"

    @property
    def culprit(self) -> str:
        """The plug-in's spec."""
        if self.plugin == "import":
            return f"at-import-{self.does}"
        return "hostile-needs" if self.does == "needs" else f"{self.twin}[does={self.does}]"

    @property
    def twin(self) -> str:
        """The spec of the same plug-in when it behaves."""
        return {"method": "hostile", "fit": "hostile-fit"}.get(self.plugin, f"hostile-{self.plugin}")

    @property
    def equals_twin(self) -> bool:
        """Whether cells of the culprit that are fine must be its twin's to the bit, for it answered before it acted."""
        acts = self.plugin in ("method", "fit", "metric") and self.group != "answers"
        return acts and (self.code == "0" or self.group in ("inputs", "network")) and self.status != "skipped"

    @property
    def can_share(self) -> bool:
        """Whether the run goes on to its end with this culprit in it, without taking all of a machine."""
        alone = ("crecursion", "alloc100", "bigsignal", "huge", "spin")
        return not self.attacks and "2" not in self.code and self.does not in alone

    @property
    def attacks(self) -> bool:
        """Whether it reaches for what is the user's, which nobody can stop: no score may be another number for it."""
        return self.group == "attacks"

    @property
    def hangs(self) -> bool:
        """Whether a cell must be stopped."""
        return self.status == "timeout"

    def is_own(self, cell: Cell) -> bool:
        """Whether a cell uses the culprit."""
        return self.culprit in (*cell.task.split("/"), cell.metric) or cell.method.startswith(self.culprit)


@dataclass(frozen=True)
class Cell:
    """What a record says of a cell, but for times."""

    key: str
    stage: str
    task: str
    method: str
    metric: str
    seed: int
    variant: str
    start: int
    status: str
    reason: str
    file: str  # SHA-256 of its tensors
    scores: tuple[tuple[int, float | None, str], ...]


@dataclass
class End:
    """How a run ended and what it left."""

    code: int | None  # None: it did not end
    seconds: float
    said: str
    left: list[str] = field(default_factory=list)  # processes
    files: list[str] = field(default_factory=list)  # where none should be


def cases() -> list[Case]:
    """The committed table."""
    with open(HOSTILE / "ends.csv", newline="") as table:
        return [Case(**row) for row in csv.DictReader(table)]


def declared(culprits: Iterable[Case]) -> suite.Suite:
    """The toy suite with culprits in it, each before the plug-ins of its kind that behave."""
    methods, metrics, tasks = list(METHODS), list(METRICS), [{"model": "quadrants"}]
    for case in culprits:
        if case.plugin in ("method", "fit"):
            methods.insert(0, case.culprit)
        elif case.plugin == "metric":
            metrics.insert(0, case.culprit)
        elif case.plugin == "model":
            tasks.insert(0, {"model": case.culprit})
        elif case.plugin == "data":
            tasks.insert(0, {"model": "quadrants", "data": case.culprit})
    return toy(methods=tuple(methods), metrics=tuple(metrics), tasks=tuple(tasks))


def patience(culprits: Sequence[Case], alone: float) -> float:
    """The seconds that a cell may take, where all cells together take `alone` seconds on this machine as it is now."""
    return max(BRIEF, alone) if any(case.hangs for case in culprits) else max(LONG, 3 * alone)


def start(culprits: Sequence[Case], folder: Path, engine: str, seconds: float = 300.0, *, command: bool = False) -> End:
    """Carry out one run in a process of its own, and look for what is left of it."""
    for name in (TEMPORARY, "cwd"):
        (folder / name).mkdir(parents=True)
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(culprits, folder, engine, seconds, command)
    )
    began = time.monotonic()
    child.start()
    child.join((LONGEST + MORE * len(culprits)) * seconds)
    ended = time.monotonic()
    code = child.exitcode
    left = [] if code is None else [*_lasting(PATIENCE), *map(str, SHARED.glob("hostile-*"))]
    for process in _descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    child.join()
    _reap()
    said = (folder / "said").read_text(errors="replace")[-4000:]
    files = [str(file.relative_to(folder)) for name in (TEMPORARY, "cwd") for file in (folder / name).rglob("*")]
    return End(code, ended - began, said, left, files)


def _child(culprits: Sequence[Case], folder: Path, engine: str, seconds: float, command: bool) -> None:
    """One run as the command line does it, with little memory and nowhere to write but its own folder."""
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(said, stream)
    if engine == "local":
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(folder / "cwd")
    paths = [str(_at_import(case, folder)) for case in culprits if case.plugin == "import"]
    paths += [str(HOSTILE), str(TOYS), str(HERE.parent)]
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(folder / TEMPORARY),
        "MIBENCH_CACHE": str(folder / "cache"),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    tempfile.tempdir = None
    vars(sys.modules["__main__"]).pop("__file__", None)  # or every worker imports this file again
    vars(sys.modules["__main__"])["__spec__"] = None
    sys.path[:0] = paths
    if command:
        (folder / "suite.toml").write_text(suite.write(declared(culprits)))
        flags = ["--out", folder / "run", "--jobs", 2, "--timeout", seconds, "--engine", engine, "--device", "cpu"]
        words = [sys.executable, "-m", "mibench", "run", folder / "suite.toml", *flags]
        os.execv(sys.executable, [str(word) for word in words])
    registry.refresh()
    options = Options(out=folder / "run", device="cpu", engine=engine, jobs=2, timeout=seconds)
    try:
        code = run(declared(culprits), options).code
    except MibenchError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.code
    sys.exit(code)


def _at_import(case: Case, folder: Path) -> Path:
    """An installed package whose module misbehaves when it is imported."""
    sys.path.insert(0, str(HOSTILE))
    from hostile.at_import import PLUGIN, SOURCES

    place, module = folder / "installed", f"at_import_{case.does}"
    points = place / f"{module}-1.0.dist-info" / "entry_points.txt"
    points.parent.mkdir(parents=True)
    (place / f"{module}.py").write_text(PLUGIN.replace("at-import", case.culprit) + f"\n{SOURCES[case.does]}\n")
    points.write_text(f"[mibench.methods]\n{module} = {module}\n")
    (points.parent / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    return place


def faults(culprits: Sequence[Case], end: End, folder: Path, alone: Path) -> dict[str, str]:
    """Claim -> how it does not hold; empty if the run survived. `alone` is the run without culprits."""
    found = {"ends": _wrong_end(culprits, end), "processes": ", ".join(end.left), "files": ", ".join(end.files[:5])}
    if end.code == 2 and not found["ends"]:
        found["says"] = "" if len(end.said.strip().splitlines()) == 1 else f"not one line: {end.said[-200:]}"
    elif any(case.attacks for case in culprits):
        found["others"] = _falsified(culprits, folder, alone)
    else:
        found |= record_faults(culprits, folder, alone)
    return {claim: fault for claim, fault in found.items() if fault}


def _wrong_end(culprits: Sequence[Case], end: End) -> str:
    """Several culprits end in the worst that one of them ends in."""
    if end.code is None:
        return f"still there after {end.seconds:.0f} s"
    codes = {code for case in culprits for code in case.code.split("|")}
    if len(culprits) > 1 and any(case.code == "3" for case in culprits):
        codes = {"3"}
    last = end.said.strip().splitlines()[-1:] or [""]
    return "" if str(end.code) in codes else f"exit code {end.code}: {last[0][:160]}"


def record_faults(culprits: Sequence[Case], folder: Path, alone: Path) -> dict[str, str]:
    """What is wrong with a run's record beside that of the run without culprits."""
    try:
        here, there = read(folder / "run"), read(alone / "run")
        assert (folder / "run" / "leaderboard.csv").stat().st_size, "the board is empty"
        assert (folder / "run" / "leaderboard.html").stat().st_size, "the page is empty"
    except Exception as error:
        return {"record": f"{type(error).__name__}: {error}"[:200]}
    users = {cell.key: [case for case in culprits if case.is_own(cell)] for cell in here.values()}
    owned = {key for key, cases in users.items() if cases}
    owners = {case: [here[key] for key, cases in users.items() if cases == [case]] for case in culprits}
    late = {cell.key for case, cells in owners.items() if case.group == "late" for cell in cells}
    holes = [cell for cell in here.values() if not cell.status and cell.key not in late]  # those are made again
    twins = {(*_place(cell),): cell for cell in here.values()}
    rows = [fault for case, cells in owners.items() if (fault := _wrong_rows(case, cells))]
    bent = [fault for case, cells in owners.items() if case.equals_twin and (fault := _bent(case, cells, twins))]
    return {
        "holes": f"{len(holes)} cells have no outcome" if holes else "",
        "row": "; ".join(rows),
        "own": "; ".join(bent),
        "others": _difference({key: cell for key, cell in here.items() if key not in owned}, there),
        "folder": _strange(folder / "run", alone / "run", here),
        "small": _large(folder / "run", alone / "run", here, PAGE * len(culprits)),
    }


def _falsified(culprits: Sequence[Case], folder: Path, alone: Path) -> str:
    """Which scores of others are other numbers after an attack; a record that is refused as damaged shows none."""
    try:
        here, there = read(folder / "run"), read(alone / "run")
    except MibenchError as error:
        return "" if len(str(error).splitlines()) == 1 else f"not one line: {error}"
    usable = {key: cell.scores for key, cell in here.items() if cell.status == "ok"}
    others = {key for key in usable if not any(case.is_own(here[key]) for case in culprits)}
    wrong = [here[key] for key in others if usable[key] != there[key].scores]
    return f"{len(wrong)} of {len(others)}: {wrong[0].method} {wrong[0].metric} has other numbers" if wrong else ""


def read(folder: Path) -> dict[str, Cell]:
    """Every planned cell of a record by its key, opened by the package's own words."""
    with Store(folder) as store:
        store.about()
        store.scores()
        cells = store.cells()
    database = sqlite3.connect(folder / "results.sqlite")
    with contextlib.closing(database):
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        scores: dict[str, list[tuple[int, float | None, str]]] = {}
        for key, *score in database.execute("SELECT key, sample, value, reason FROM scores ORDER BY key, sample"):
            scores.setdefault(key, []).append(tuple(score))
    return {
        cell.key: Cell(
            cell.key,
            cell.stage,
            cell.task,
            cell.method,
            cell.metric,
            cell.seed,
            cell.variant,
            cell.start,
            cell.status,
            cell.reason,
            _sha(folder / "maps" / f"{cell.key}.safetensors"),
            tuple(scores.get(cell.key, ())),
        )
        for cell in cells
    }


def _sha(file: Path) -> str:
    plain = file.is_file() and not file.is_symlink() and file.stat().st_size < 1 << 30
    return hashlib.sha256(file.read_bytes()).hexdigest() if plain else ""


def _wrong_rows(case: Case, cells: Sequence[Cell]) -> str:
    """What cells that use this culprit alone say that they should not."""
    if case.plugin == "import":
        return ""
    if not cells:
        return f"{case}: it has no cells"
    allowed = set(case.status.split("|"))
    bad = [cell for cell in cells if cell.status not in {*allowed, "ok", "skipped", ""}]
    if bad:
        return f"{case}: {bad[0].stage} is {bad[0].status} ({bad[0].reason[:120]})"
    if "ok" not in allowed:
        telling = [cell for cell in cells if cell.status in allowed]
        if not any(re.search(case.reason, cell.reason) for cell in telling):
            return f"{case}: no reason says {case.reason!r} but {[cell.reason[:80] for cell in telling[:1]]}"
    return ""


def _place(cell: Cell, *old_new: str) -> tuple[str, ...]:
    """Which of the plan's cells it is, with one plug-in's spec in the place of another's."""
    words = (cell.stage, cell.task, cell.method, cell.metric, str(cell.seed), cell.variant, str(cell.start))
    return tuple(word.replace(*old_new) for word in words) if old_new else words


def _bent(case: Case, cells: Sequence[Cell], twins: Mapping[tuple[str, ...], Cell]) -> str:
    """How the culprit bent cells of its own that count as fine."""
    for cell in cells:
        twin = twins.get(_place(cell, case.culprit, case.twin))
        if cell.status == "ok" and twin and (cell.scores, cell.file) != (twin.scores, twin.file):
            return f"{case}: {cell.stage} {cell.variant}{cell.metric} is ok and not what its twin has"
    return ""


def _difference(here: Mapping[str, Cell], there: Mapping[str, Cell]) -> str:
    """How cells that do not use the culprit differ from those of the run without it."""
    if here.keys() != there.keys():
        return f"{len(here.keys() - there.keys())} cells more and {len(there.keys() - here.keys())} cells fewer"
    other = [cell for key, cell in here.items() if cell != there[key]]
    if not other:
        return ""
    was = there[other[0].key]
    how = f"{was.status} became {other[0].status}" if was.status != other[0].status else "has other numbers"
    return f"{len(other)} of {len(here)}: {other[0].stage} {other[0].method} {other[0].metric} {how}"


def _strange(run: Path, alone: Path, cells: Mapping[str, Cell]) -> str:
    """Files in a run's folder that belong to no record."""
    strange = sorted({*os.listdir(run)} ^ {*os.listdir(alone)})
    known = {*cells, *(file.stem for file in (alone / "maps").iterdir())}
    pictures = {task["facts"]["pictures"] for task in json.loads((run / "run.json").read_text())["tasks"].values()}
    strange += [file.name for file in (run / "maps").iterdir() if file.stem not in known | pictures]
    strange += [file.name for file in (run / "logs").iterdir() if not LOG_NAME.fullmatch(file.name)]
    return ", ".join(strange[:5])


def _large(run: Path, alone: Path, cells: Mapping[str, Cell], more: int) -> str:
    """What grew beyond its bounds."""
    page, before = (((place / "leaderboard.html").stat().st_size) for place in (run, alone))
    if page > before + more:
        return f"the page has {page} bytes where {before} are usual"
    long = max((len(cell.reason) for cell in cells.values()), default=0)
    if long > REASON:
        return f"a reason has {long} letters"
    logs = {file.name: file.stat().st_size for file in (run / "logs").iterdir()}
    too = [f"{name} has {size} bytes" for name, size in logs.items() if size > LOG]
    return ", ".join(too)


def _processes() -> Iterator[tuple[int, int, str, str]]:
    """Number, parent, state and name of every process."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                name, _, rest = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")
                state, parent = rest.split()[:2]
                yield int(entry), int(parent), state, name.partition("(")[2]


def _descendants() -> dict[int, str]:
    """The living processes that this one started or adopted, with their command lines."""
    table = {process: (parent, state, name) for process, parent, state, name in _processes()}
    found: dict[int, str] = {}
    newest = {os.getpid()}
    while newest:
        newest = {process for process, (parent, _, _) in table.items() if parent in newest}
        for process in newest:
            if table[process][1] != "Z":
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[process] = words[:80].strip() or table[process][2]
    return found


def _lasting(seconds: float) -> list[str]:
    """The descendants that are still there after some seconds."""
    deadline = time.monotonic() + seconds
    while (left := _descendants()) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.1)
    return list(left.values())


def _reap() -> None:
    """Let go of the dead that this process adopted."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def adopt_orphans() -> None:
    """Become the parent of whatever a run leaves behind, instead of the machine's first process."""
    if ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0):
        raise OSError("this system does not let a process adopt orphans")


def import_first() -> None:
    """Import the package's own plug-ins once, so that the runs, which are forked from here, need not."""
    for room in registry.ROOMS:
        registry.plugins(room)


def run_alone(folder: Path, engine: str) -> tuple[float, dict[str, dict[str, str]]]:
    """The run that all others are compared with: the seconds that it took, and what it left behind even so."""
    end = start([], folder, engine)
    if end.code:
        raise SystemExit(f"the run without culprits ended with {end.code}: {end.said}")
    found = {"processes": ", ".join(end.left), "files": ", ".join(end.files[:5])}
    found = {claim: fault for claim, fault in found.items() if fault}
    tell("nobody", end, found)
    return end.seconds, {"nobody": found}


def try_each(chosen: Sequence[Case], engine: str, place: Path) -> dict[str, dict[str, str]]:
    """One run a case; what became of each."""
    alone = place / "a"
    usual, found = run_alone(alone, engine)
    for number, case in enumerate(chosen):
        folder = place / str(number)
        end = start([case], folder, engine, patience([case], usual))
        found[str(case)] = faults([case], end, folder, alone)
        shutil.rmtree(folder)
        tell(str(case), end, found[str(case)])
    return found


def try_together(chosen: Sequence[Case], engine: str, place: Path, *, command: bool) -> dict[str, dict[str, str]]:
    """One run with all of them."""
    usual, found = run_alone(place / "a", engine)
    end = start(chosen, place / "b", engine, patience(chosen, usual), command=command)
    found["together"] = faults(chosen, end, place / "b", place / "a")
    tell(f"{len(chosen)} together", end, found["together"])
    return found


def tell(name: str, end: End, found: Mapping[str, str]) -> None:
    what = "; ".join(f"{claim}: {fault}" for claim, fault in found.items())
    print(f"{name:24} code {end.code!s:4} {end.seconds:5.1f} s  {what or 'survived'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Try misbehaving plug-ins, each in a run of its own.")
    parser.add_argument("only", nargs="*", help="regular expressions of PLUGIN:DOES, for example 'method:sysexit'")
    parser.add_argument("--engine", default="local", choices=("local", "ray"))
    parser.add_argument("--group", default="", help="exits, exceptions, inputs, state, patches, …")
    parser.add_argument("--every", type=int, default=1, help="only every so manieth")
    parser.add_argument("--together", action="store_true", help="in one run, but for those that cannot share it")
    parser.add_argument("--command", action="store_true", help="by the command line; only with --together")
    parser.add_argument("--json", type=Path, help="where to write what did not survive")
    given = parser.parse_args()
    adopt_orphans()
    import_first()
    chosen = [case for case in cases() if given.group in ("", case.group)]
    chosen = [case for case in chosen if not given.only or any(re.fullmatch(only, str(case)) for only in given.only)]
    if given.together:
        chosen = [case for case in chosen if case.can_share]
    chosen = chosen[:: given.every]
    with tempfile.TemporaryDirectory(prefix="h-", dir="/tmp" if given.engine == "ray" else None) as place:
        if given.together:
            found = try_together(chosen, given.engine, Path(place), command=given.command)
        else:
            found = try_each(chosen, given.engine, Path(place))
            survived = [name for name, each in found.items() if not each and name != "nobody"]
            print(f"tried {len(chosen)}, survived {len(survived)}")
    lost = {name: each for name, each in found.items() if each}
    if given.json:
        given.json.write_text(json.dumps(lost, indent=1))
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
