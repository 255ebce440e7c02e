"""Whatever a job does, every cell gets one outcome, and only the guilty cell fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mibench.engines.base import Engine, answers
from mibench.engines.inline import InlineEngine
from mibench.engines.local import LocalEngine
from mibench.engines.logs import MAX_BYTES, Log
from mibench.record import maps
from mibench.record.cells import Cell, Job, Loss, Outcome, Setting, TaskSpec, Tenant

TASK = TaskSpec("model", "data", 1, 1)


def cell(key: str, does: str = "work", needs: tuple[str, ...] = ()) -> Cell:
    return Cell(key, "score", "data/model", does, needs=needs)


def job(*cells: Cell, seconds: float = 60, folder: str = "nowhere", tenant: str = "") -> Job:
    return Job("score", Setting(folder, seconds=seconds), TASK, cells, tenant=Tenant(code=tenant))


def statuses(engine: Engine, *jobs: Job) -> dict[str, str]:
    """The status of every cell; complains if a cell was answered twice."""
    found: dict[str, str] = {}
    for _, outcomes in answers(engine, jobs, {}):
        for outcome in outcomes:
            assert outcome.key not in found
            found[outcome.key] = outcome.status
    return found


@pytest.fixture
def record(tmp_path: Path) -> str:
    """A folder with the places of a run's files."""
    for name in ("maps", "logs"):
        (tmp_path / name).mkdir()
    return str(tmp_path)


@pytest.fixture
def local(toy: None) -> Iterator[Callable[[int], Engine]]:
    from toy.chores import perform

    engines: list[Engine] = []

    def start(workers: int) -> Engine:
        engines.append(LocalEngine(perform, workers))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close(at_once=True)


def test_a_crash_or_a_timeout_costs_the_cell_that_caused_it_and_no_other(local: Callable[[int], Engine]) -> None:
    bad = [
        job(cell("a", "segfault")),
        job(cell("b", "kill")),
        job(cell("c", "exit")),
        job(cell("d", "hang"), seconds=1),
    ]
    good = [job(cell(f"good {number}")) for number in range(8)]
    found = statuses(local(2), *bad, *good)
    assert {key: found[key] for key in "abcd"} == {"a": "crash", "b": "oom", "c": "crash", "d": "timeout"}
    assert [found[f"good {number}"] for number in range(8)] == ["ok"] * 8


def outcomes(engine: Engine, *jobs: Job) -> dict[str, Outcome]:
    return {outcome.key: outcome for _, found in answers(engine, jobs, {}) for outcome in found}


def test_whatever_a_worker_does_to_its_process_is_its_own_row(local: Callable[[int], Engine], record: str) -> None:
    bad = {
        "leave": "the worker left with exit code 0 before it answered",
        "kill the keeper": "and so did the process that watches over it",
        "close everything": "exit code 1",
        "exit call": "SystemExit: 0",
        "interrupt": "KeyboardInterrupt",
        "another's answer": "not about exactly the job's cells",
    }
    harmless = ("close the streams", "leave threads", "fork", "print", "dtype", "litter", "work")
    jobs = [job(cell(name, name), folder=record, tenant=name) for name in (*bad, *harmless)]
    before = time.monotonic()
    found = outcomes(local(2), *jobs)
    assert time.monotonic() - before < 50  # of the 60 s after which each would be stopped
    assert {name: found[name].status for name in harmless} == dict.fromkeys(harmless, "ok")
    assert all(found[name].status in ("crash", "failed") for name in bad)
    assert all(reason in found[name].reason for name, reason in bad.items())


def test_what_hangs_in_any_way_is_stopped_and_the_limit_is_named(local: Callable[[int], Engine]) -> None:
    hanging = ("stop", "swallow", "hang")
    found = outcomes(local(3), *(job(cell(name, name), seconds=1, tenant=name) for name in hanging))
    reason = "took longer than the limit of 1 s (--timeout) and was stopped"
    assert {(each.status, each.reason) for each in found.values()} == {("timeout", reason)}


def test_nothing_that_a_worker_started_outlives_its_turn(local: Callable[[int], Engine], record: str) -> None:
    engine = local(1)
    first, *_ = (
        each
        for _, found in answers(engine, [job(cell("a", "daemon"), tenant="a"), job(cell("b"), tenant="b")], {})
        for each in found
    )
    assert not alive(first.facts["daemon"])
    assert not alive(first.facts["pid"])
    stopped = job(cell("c", "daemon and hang"), folder=record, seconds=2)
    assert outcomes(engine, stopped)["c"].status == "timeout"
    assert not alive(int(Path(record, "logs", stopped.log).read_text().split()[0]))


def test_a_daemon_whose_keeper_was_killed_is_ended_all_the_same(local: Callable[[int], Engine], record: str) -> None:
    found = outcomes(local(1), job(cell("a", "daemon and kill the keeper"), folder=record, tenant="a"), job(cell("b")))
    assert (found["a"].status, found["b"].status) == ("crash", "ok")
    assert not alive(int(Path(record, "logs", "daemon").read_text()))


def test_a_process_serves_one_tenant_alone(local: Callable[[int], Engine]) -> None:
    names = [f"{tenant}{number}" for number in range(3) for tenant in "abcd"]
    found = outcomes(local(2), *(job(cell(name), tenant=name[0]) for name in names))
    pids = {tenant: {found[name].facts["pid"] for name in names if name[0] == tenant} for tenant in "abcd"}
    assert len(set.union(*pids.values())) == sum(map(len, pids.values()))
    assert all(len(each) <= 2 for each in pids.values())


def test_a_process_whose_settings_were_changed_gets_no_other_job(local: Callable[[int], Engine]) -> None:
    found = outcomes(local(1), job(cell("a", "dtype")), job(cell("b")), job(cell("c")))
    assert found["a"].facts["pid"] != found["b"].facts["pid"] == found["c"].facts["pid"]


def test_a_worker_begins_with_libraries_and_no_plug_in(local: Callable[[int], Engine]) -> None:
    facts = outcomes(local(1), job(cell("a", "modules")))["a"].facts
    assert facts["plug-ins"] == []
    assert facts["libraries"] == ["captum", "numba", "torch", "zennit"]


def test_a_worker_holds_nothing_open_but_its_connection(local: Callable[[int], Engine]) -> None:
    facts = outcomes(local(1), job(cell("a", "descriptors")))["a"].facts
    opened = [name for name in facts["descriptors"] if name != "/dev/null"]
    assert [name.partition(":")[0] for name in opened if "(deleted)" not in name] == ["socket"]
    assert len(opened) == 2  # and the list of what multiprocessing is to clear away


def test_garbage_in_every_descriptor_of_a_worker_harms_nothing_else(local: Callable[[int], Engine]) -> None:
    from multiprocessing import forkserver, resource_tracker

    engine = local(1)
    outcomes(engine, job(cell("first"), tenant="first"))
    before = [os.getpid(), resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid]
    found = outcomes(engine, job(cell("a", "garbage"), tenant="a"), job(cell("b"), tenant="b"))
    assert found["a"].status == "failed"
    assert found["b"].status == "ok"
    assert forkserver._forkserver._forkserver_pid == before[-1]
    assert all(map(alive, before))


def test_shared_memory_that_a_plug_in_leaves_is_freed_with_its_worker(local: Callable[[int], Engine]) -> None:
    engine = local(1)
    name = outcomes(engine, job(cell("a", "shared memory")))["a"].facts["name"]
    engine.close(at_once=False)
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


def test_neither_drafts_nor_temporary_files_nor_long_logs_are_left(local: Callable[[int], Engine], record: str) -> None:
    engine, loud = local(1), job(cell("loud", "print"), folder=record)
    found = outcomes(engine, loud, job(cell("half", "draft"), folder=record), job(cell("litter", "litter"), tenant="c"))
    engine.close(at_once=False)
    assert not Path(found["litter"].facts["folder"]).exists()
    assert list(Path(record, "maps").iterdir()) == []
    size = Path(record, "logs", loud.log).stat().st_size
    assert MAX_BYTES < size < MAX_BYTES + 200


@given(st.lists(st.binary(max_size=9), max_size=30), st.sampled_from([2, 8, 20]))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_keeps_head_and_tail_and_says_what_was_cut(tmp_path: Path, printed: list[bytes], most: int) -> None:
    log, whole = Log(tmp_path / "log", most), b"".join(printed)
    for part in printed:
        log.write(part)
    log.close()
    assert (tmp_path / "log").exists() == bool(whole)
    kept = (tmp_path / "log").read_bytes() if whole else b""
    if len(whole) <= most:
        assert kept == whole
    else:
        assert kept.startswith(whole[: most // 2] + b"\n[")
        assert kept.endswith(b"]\n" + whole[-(most // 2) :])
        assert f" {len(whole) - most} bytes".encode() in kept


def test_a_log_is_never_written_through_what_another_has_put_in_its_place(tmp_path: Path) -> None:
    """A named pipe would wait for a reader, and a link would be written to."""
    (tmp_path / "other").write_text("mine")
    for place in (os.mkfifo, lambda file: os.symlink(tmp_path / "other", file)):
        file = tmp_path / "log"
        log = Log(file)
        place(file)
        log.write(b"printed")
        log.close()
        file.unlink()
    assert (tmp_path / "other").read_text() == "mine"


def test_the_cells_of_a_lost_job_are_tried_one_by_one(local: Callable[[int], Engine]) -> None:
    found = statuses(local(2), job(cell("a"), cell("b", "segfault"), cell("c"), cell("d", "loss"), cell("e")))
    assert found == {"a": "ok", "b": "crash", "c": "ok", "d": "failed", "e": "ok"}


def test_workers_at_work_do_not_outlive_the_run_that_is_killed(toy: None, tmp_path: Path) -> None:
    code = (
        "from mibench.engines.base import each\nfrom mibench.engines.local import LocalEngine\n"
        "from toy.chores import perform\nfrom tests.engines.test_local import cell, job\n"
        "if __name__ == '__main__':\n"
        "    engine = LocalEngine(perform, 2)\n"
        f"    next(each(engine, [job(cell(name, 'hang'), folder={str(tmp_path)!r}) for name in 'ab']))\n"
    )
    (tmp_path / "logs").mkdir()
    path = os.pathsep.join([os.getcwd(), os.environ["PYTHONPATH"]])
    run = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    workers: set[int] = set()
    deadline = time.monotonic() + 60
    while len(workers) < 2:
        assert time.monotonic() < deadline, "no worker has begun"
        workers = {int(log.read_text() or 0) for log in (tmp_path / "logs").iterdir()} - {0}
        time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 30
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.1)


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def chores(work: Job) -> list[Outcome] | Loss:
    return [Outcome(each.key, "failed" if each.method == "fail" else "ok", each.method) for each in work.cells]


def test_a_cell_whose_need_failed_fails_with_its_reason_others_go_on() -> None:
    found = dict[str, Outcome]()
    jobs = [
        job(cell("score 1", needs=("maps 1",)), cell("score 2", needs=("maps 2",)), cell("lost", needs=("nowhere",))),
        job(cell("maps 1", "fail", needs=("fit",))),
        job(cell("maps 2", needs=("fit",))),
        job(cell("fit")),
    ]
    for _, outcomes in answers(InlineEngine(chores), jobs, {}):
        found |= {outcome.key: outcome for outcome in outcomes}
    assert {key: outcome.status for key, outcome in found.items()} == {
        "fit": "ok", "maps 1": "failed", "maps 2": "ok", "score 1": "failed", "score 2": "ok", "lost": "failed",
    }  # fmt: skip
    assert found["score 1"].reason == "fail"


def test_what_ran_out_of_memory_is_tried_once_more_on_its_own() -> None:
    tries: list[str] = []

    def hungry(work: Job) -> list[Outcome] | Loss:
        (each,) = work.cells
        tries.append(each.key)
        full = each.method == "glutton" or (each.method == "neighbour" and tries.count(each.key) == 1)
        return Loss("oom", "no memory") if full else chores(work)

    jobs = [job(cell("a", "glutton")), job(cell("b", "neighbour")), job(cell("c")), job(cell("d", needs=("b",)))]
    assert statuses(InlineEngine(hungry), *jobs) == {"a": "oom", "b": "ok", "c": "ok", "d": "ok"}
    assert tries == ["a", "b", "c", "a", "b", "d"]


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda file: None, "its file was not written"),
        (lambda file: os.mkfifo(file), "its file was not written"),
        (lambda file: file.write_bytes(b"other"), "its file does not have the recorded SHA-256"),
        (lambda file: file.touch() or os.truncate(file, 2**43), "more bytes than this machine's"),
    ],
    ids=["nothing", "pipe", "other", "huge"],
)
def test_an_answer_about_another_file_than_was_written_is_a_failure(
    tmp_path: Path, write: Callable[[Path], object], why: str
) -> None:
    """A plug-in may have patched renaming or hashing; the same cell was explained again without end."""

    def pretends(work: Job) -> list[Outcome]:
        write(maps.path(tmp_path, "a"))
        return [Outcome(each.key, "ok", digest="ab" * 32) for each in work.cells]

    (tmp_path / "maps").mkdir()
    asked = Job("explain", Setting(str(tmp_path)), TASK, (cell("a"),))
    ((_, (outcome,)),) = answers(InlineEngine(pretends), [asked], {})
    assert outcome.status == "failed"
    assert why in outcome.reason


def test_known_outcomes_count_as_needs() -> None:
    known = {"maps": Outcome("maps", "ok"), "bad maps": Outcome("bad maps", "timeout", "too slow")}
    jobs = [job(cell("score", needs=("maps",)), cell("bad score", needs=("bad maps",)))]
    found = {
        o.key: (o.status, o.reason) for _, outcomes in answers(InlineEngine(chores), jobs, known) for o in outcomes
    }
    assert found == {"score": ("ok", "work"), "bad score": ("timeout", "too slow")}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # seconds tell of the machine's load
@given(st.data())
def test_every_cell_is_answered_once_and_after_all_that_it_needs(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    does = [data.draw(st.sampled_from(["work", "work", "fail"])) for _ in range(count)]
    needs = [
        tuple(str(each) for each in data.draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else ()
        for number in range(count)
    ]
    cells = [cell(str(number), does[number], needs[number]) for number in range(count)]
    order = data.draw(st.permutations([job(each) for each in cells]))
    told: list[str] = []
    failed: set[str] = set()
    for _, outcomes in answers(InlineEngine(chores), order, {}):
        for outcome in outcomes:
            each = cells[int(outcome.key)]
            assert set(each.needs) <= set(told)
            assert (outcome.status == "ok") == (each.method == "work" and not set(each.needs) & failed)
            told.append(outcome.key)
            if outcome.status != "ok":
                failed.add(outcome.key)
    assert sorted(told) == sorted(each.key for each in cells)
