"""On a Ray cluster jobs have the same outcomes; a lost node costs time, a bad job costs itself, and nothing is lost."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mibench.engines.base import Engine, answers
from mibench.errors import MibenchError, UsageError
from mibench.record.cells import Cell, Job
from mibench.record.store import Store
from mibench.run.run import Options
from tests.engines.test_local import cell, job, statuses
from tests.run.test_run import HERE, go, scores
from tests.toy_suite import toy

ray = pytest.importorskip("ray", reason="the extra mibench[ray] is not installed")


@pytest.fixture
def toy_plugins(toy: None) -> None:
    """The toys, under a name that leaves `toy` to the suite of them."""


@pytest.fixture
def chore(tmp_path: Path) -> Callable[..., Job]:
    """A job in a record of its own."""
    (tmp_path / "maps").mkdir()
    (tmp_path / "logs").mkdir()

    def make(*cells: Cell, seconds: float = 60) -> Job:
        made = job(*cells, seconds=seconds)
        return replace(made, setting=replace(made.setting, folder=str(tmp_path)))

    return make


@pytest.fixture
def start(toy: None) -> Iterator[Callable[..., Engine]]:
    """Start engines, which are closed whatever happens."""
    from toy.chores import perform

    from mibench.engines.ray import RayEngine

    engines: list[Engine] = []

    def begin(workers: int, address: str = "") -> Engine:
        engines.append(RayEngine(perform, workers, address))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.close(at_once=True)


@pytest.fixture
def cluster() -> Iterator[object]:
    """Two nodes of one CPU on this machine."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def times(pytestconfig: pytest.Config) -> int:
    """How often a slow test repeats itself."""
    return int(pytestconfig.getoption("--times"))


def bad_jobs(chore: Callable[..., Job], turn: int = 0) -> list[Job]:
    does = [("segfault", 60), ("kill", 60), ("exit", 60), ("hang", 2)]
    return [chore(cell(f"{name} {turn}", name), seconds=seconds) for name, seconds in does]


WANTED = {"segfault": "crash", "kill": "oom", "exit": "crash", "hang": "timeout"}


def board(folder: Path) -> list[str]:
    """The lines of the CSV, to the byte, without those of costs."""
    return [line for line in (folder / "leaderboard.csv").read_text().splitlines() if ",runtime," not in line]


def test_a_run_on_ray_has_the_board_of_a_local_one(toy_plugins: None, tmp_path: Path) -> None:
    """Its worker has a folder of its own, so the maps and fits that jobs read have travelled."""
    whole = toy(shard=3, seeds=2)
    go(tmp_path / "local", whole, engine="local", jobs=1)
    go(tmp_path / "ray", whole, engine="ray", jobs=1)
    assert (tmp_path / "ray" / "run.json").exists()
    assert board(tmp_path / "local") == board(tmp_path / "ray")
    pd.testing.assert_frame_equal(scores(tmp_path / "local"), scores(tmp_path / "ray"), check_exact=True)
    with Store(tmp_path / "ray") as store:
        about = store.about()
        costs = [each for each in store.cells("cost") if each.status == "ok"]
    assert about.engine == "ray"
    assert [node.workers for node in about.nodes] == [1]
    assert costs
    assert all(cost.facts["shared"] is False and cost.facts["node"] for cost in costs)


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("nonsense", "'nonsense' is not an address"),
        ("ray://here:1", "is not an address"),
        ("here:port", "is not an address"),
        ("127.0.0.1:99999", "no Ray cluster answers"),
    ],
)
def test_an_address_without_a_cluster_is_answered_with_what_was_tried(
    start: Callable[..., Engine], address: str, answer: str
) -> None:
    with pytest.raises(UsageError, match=answer):
        start(1, address)


def test_where_something_else_listens_it_is_said_soon(
    start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mibench.engines.ray.PATIENCE", 10.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=rf"no Ray cluster answers at 127.0.0.1:{port} .*something else listens"):
            start(1, f"127.0.0.1:{port}")


GUARDED = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
print(cluster.address, flush=True)
input()
cluster.shutdown()
"""


@pytest.mark.slow
def test_where_a_token_is_asked_for_it_is_said(start: Callable[..., Engine]) -> None:
    guarded = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    with subprocess.Popen(
        [sys.executable, "-c", GUARDED], env=guarded, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        address = next(line.strip() for line in process.stdout if line.count(".") == 3)
        with pytest.raises(UsageError, match=f"no Ray cluster answers at {address} .*set RAY_AUTH_MODE=token"):
            start(1, address)
        process.communicate("\n")


def listening(root: int) -> list[tuple[str, str]]:
    """Names of a process and all that came of it, with each address on which they accept TCP connections."""
    addresses = {}
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            words = re.findall(".{8}", local.partition(":")[0])  # each in the machine's order of bytes
            if state == "0A":  # TCP_LISTEN
                packed = b"".join(struct.pack("=I", int(word, 16)) for word in words)
                addresses[f"socket:[{inode}]"] = socket.inet_ntop(family, packed)
    return [
        ((process / "comm").read_text().strip(), addresses[link])
        for process in descendants(root)
        for link in links(process / "fd")
        if link in addresses
    ]


def descendants(root: int) -> list[Path]:
    """The folders in /proc of a process and of all that came of it."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[process] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
    found = [Path("/proc", str(root))]
    for process in found:
        found += [child for child, parent in parents.items() if parent == int(process.name)]
    return found


def links(folder: Path) -> list[str]:
    found = []
    for link in folder.iterdir():
        try:
            found.append(os.readlink(link))
        except OSError:  # closed meanwhile
            continue
    return found


def is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are looked up in /proc")
def test_a_cluster_of_our_own_outlives_bad_jobs_and_is_open_to_nobody_else(
    start: Callable[..., Engine], chore: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mibench.engines.ray import _unwell

    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray would keep a token, and look for one
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    engine = start(2)
    folder = Path(engine._own)
    assert folder.is_dir()
    outcomes = statuses(engine, *bad_jobs(chore), *[chore(cell(f"good {number}")) for number in range(6)])
    assert outcomes == {f"{name} 0": status for name, status in WANTED.items()} | {f"good {n}": "ok" for n in range(6)}
    assert engine.workers == 2
    assert [node["workers"] for node in engine.nodes] == [2]

    found = listening(os.getpid())
    assert {"gcs_server", "raylet"} <= {name for name, _ in found}
    assert len(found) >= 5  # those two, the driver, the agent and the worker
    assert [each for each in found if not is_loopback(each[1])] == []

    address = ray.get_runtime_context().gcs_address
    assert _unwell(address) == ""
    token = os.environ["RAY_AUTH_TOKEN"]
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "it requires a token" in _unwell(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert "its health check failed" in _unwell(address) or "it requires a token" in _unwell(address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    engine.close(at_once=False)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert not (tmp_path / ".ray").exists()
    assert not folder.exists()
    engine.close(at_once=True)
    assert not ray.is_initialized()  # what was closed stays so


def test_a_cluster_that_others_can_reach_is_refused(
    start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeManagerAddress": "192.0.2.7", "Alive": True}])
    with pytest.raises(MibenchError, match=r"on 192\.0\.2\.7, which other machines can reach: use --engine local"):
        start(1)
    assert not ray.is_initialized()


def test_the_folders_of_the_killed_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mibench.engines import ray as engine

    monkeypatch.setattr(engine.tempfile, "gettempdir", lambda: str(tmp_path))
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    mine = engine._me()
    owners = {
        "mibray-gone": f"{socket.gethostname()} {killed.pid}",
        "mibench-gone": f"{socket.gethostname()} {killed.pid}",
        "mibench-mine": mine,
        "mibray-elsewhere": f"another-machine {killed.pid}",
        "somebody-else": f"{socket.gethostname()} {killed.pid}",
    }
    for name, owner in owners.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / engine.OWNER).write_text(owner)
    (tmp_path / "mibray-new").mkdir()
    engine._sweep()
    kept = {each.name for each in tmp_path.iterdir()}
    assert kept == {"mibench-mine", "mibray-elsewhere", "somebody-else", "mibray-new"}


def test_without_the_extra_it_is_said_what_to_install(
    start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install \"mibench\[ray\]\"") as told:
        start(1)
    assert told.value.code == 2


def test_a_node_without_a_package_of_plug_ins_is_told_which(toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from mibench.engines.ray import _differences, _software

    here = _software.__wrapped__()
    assert _differences(here, dict(here)) == []
    monkeypatch.setattr(sys, "path", [each for each in sys.path if not each.endswith("thirdparty")])
    (package, code) = _differences(here, _software.__wrapped__())
    assert package == "toy none there, 1.0 here"
    assert code.startswith("code ")
    assert _differences(here, here | {"quantus": "0.1"}) == [f"quantus 0.1 there, {here['quantus']} here"]


def test_an_address_is_only_for_ray(tmp_path: Path) -> None:
    from mibench.run.run import engine_of

    with pytest.raises(UsageError, match="--address is for --engine ray"):
        engine_of(Options(address="auto"), 1, "cpu")


def test_what_a_worker_brings_back_cannot_leave_the_record(tmp_path: Path) -> None:
    from mibench.engines.ray import _keep

    for name in ("../evil", "maps/../../evil", "/etc/evil", "run.json", "maps/a/b"):
        with pytest.raises(MibenchError, match="which no job makes"):
            _keep({name: b""}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_bad_jobs_cost_themselves_each_time(
    start: Callable[..., Engine], chore: Callable[..., Job], times: int
) -> None:
    engine = start(2)
    for turn in range(times):
        found = statuses(engine, *bad_jobs(chore, turn), chore(cell(f"good {turn}")))
        assert found == {f"{name} {turn}": status for name, status in WANTED.items()} | {f"good {turn}": "ok"}


@pytest.mark.slow
def test_a_job_that_eats_all_memory_costs_itself_each_time(
    start: Callable[..., Engine], chore: Callable[..., Job], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own watch over memory, told that the node has five GiB left, ends the worker and not the run."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines}
    used = 1 - (kilobytes["MemAvailable:"] - (5 << 20)) / kilobytes["MemTotal:"]
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{used:.3f}")
    engine = start(2)
    for turn in range(times):
        good = [f"good {turn}/{number}" for number in range(4)]
        found = statuses(engine, chore(cell(f"eat {turn}", "eat")), *[chore(cell(name)) for name in good])
        assert found == {f"eat {turn}": "oom"} | dict.fromkeys(good, "ok")


@pytest.mark.slow
def test_a_node_that_is_lost_costs_nothing_each_time(
    cluster: object, start: Callable[..., Engine], chore: Callable[..., Job], times: int
) -> None:
    """One node is killed while both perform jobs: every cell is answered once, as if it had lived."""
    node = cluster.add_node(num_cpus=1)
    engine = start(2, cluster.address)
    assert sorted(each["workers"] for each in engine.nodes) == [1, 1]
    for turn in range(times):
        jobs = [chore(cell(f"{turn}/{number}", "nap")) for number in range(6)]
        told: list[str] = []
        for _, outcomes in answers(engine, jobs, {}):
            if not told:
                cluster.remove_node(node, allow_graceful=False)
                node = cluster.add_node(num_cpus=1)
            assert all(outcome.status == "ok" for outcome in outcomes)
            told += [outcome.key for outcome in outcomes]
        assert sorted(told) == [f"{turn}/{number}" for number in range(6)]


@pytest.mark.slow
def test_boards_are_equal_on_one_node_and_two(
    toy_plugins: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    suite = toy(shard=2, seeds=2)
    for workers in (1, 2):
        go(tmp_path / f"local {workers}", suite, engine="local", jobs=workers)
    go(tmp_path / "one node", suite, engine="ray", jobs=1)
    cluster = request.getfixturevalue("cluster")  # now, for two clusters on one machine disturb each other
    cluster.add_node(num_cpus=1)
    go(tmp_path / "two nodes", suite, engine="ray", address=cluster.address)
    with Store(tmp_path / "two nodes") as store:
        assert len(store.about().nodes) == 2
    for name in ("local 2", "one node", "two nodes"):
        assert board(tmp_path / "local 1") == board(tmp_path / name)


KILLED = """
from pathlib import Path
from tests.toy_suite import toy
from mibench.run.run import Options, run
if __name__ == "__main__":
    run(toy(shard=1, seeds=3), Options(out=Path({!r}), device="cpu", engine="ray", jobs=2))
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_ten_times_of_ten(toy_plugins: None, tmp_path: Path) -> None:
    suite, folder = toy(shard=1, seeds=3), tmp_path / "killed"
    go(tmp_path / "whole", suite, engine="local", jobs=2)
    for turn in range(10):
        command = [sys.executable, "-c", KILLED.format(str(folder))]
        process = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal = answered(folder) + 2
        while answered(folder) < goal and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert answered(folder) >= min(goal, turn)
    before = answered(folder)
    finished = go(folder, suite, engine="ray", jobs=2)
    assert finished.computed <= finished.cells - before
    assert finished.code == 0
    assert board(tmp_path / "whole") == board(folder)


def answered(folder: Path) -> int:
    """How many cells of a run have an outcome."""
    if not (folder / "run.json").exists():
        return 0
    with Store(folder) as store:
        return len(store.known())
