"""The house holds together: rooms without circles, arrows that point downwards, one import root, whole wheels."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import typing
import zipfile
from pathlib import Path

import networkx
import pytest

from mibench.plugins import contract, registry
from tests.house import LINKED, ROOT, arrows, dotted, files, floors, room, rooms

LOOSE = {"errors", "version", "__main__"}  # modules that lie beside the rooms
PLUGINS = {  # what a room of plug-ins may stand on, beside itself
    "methods": {"plugins.contract", "network", "information"},
    "metrics": {"plugins.contract", "plugins.spec", "errors", "network", "information"},
}
WORDS = {"random", "constant", "region", "truth", "quantus"}  # names that are words too, or a library's
HARNESS = ("engines", "gate", "leaderboard", "network", "plugins", "record", "run", "statistics")


def test_no_room_imports_upwards_or_in_a_circle() -> None:
    assert not list(networkx.simple_cycles(rooms()))
    assert not list(networkx.simple_cycles(arrows()))


def test_the_floors_are_those_of_the_folders() -> None:
    folders = {path.name for path in (ROOT / "mibench").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert set(rooms()) == folders | LOOSE | {"mibench"}
    floor = floors(rooms())
    order = ["plugins", "record", "run", "cli"]  # the flow of a run goes one way
    assert [floor[each] for each in order] == sorted(floor[each] for each in order)
    assert max(floor.values()) <= 10


@pytest.mark.parametrize("name", PLUGINS)
def test_plugins_stand_on_contract_network_and_information_alone(name: str) -> None:
    face = f"mibench.{name}"  # which finds plug-ins by the registry, for `mibench.methods.Iba`
    below = {b for a, b in arrows().edges if room(a) == name and room(b) != name and a != face}
    allowed = PLUGINS[name]
    assert not {each for each in below if not any(each == f"mibench.{a}" or room(each) == a for a in allowed)}


def test_harness_code_names_no_plugin() -> None:
    """A branch on a plug-in's name in shared code would make the next plug-in a second-class one."""
    families = {*typing.get_args(contract.Family), *typing.get_args(contract.Role)}
    words_of_theirs = {*registry.plugins("methods"), *registry.plugins("metrics")} - families - WORDS
    for path in files():
        if room(dotted(path)) in HARNESS:
            tree = ast.parse(path.read_text("utf-8"))
            words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not {word for word in words if isinstance(word, str)} & words_of_theirs, path


def test_the_wheel_holds_every_module(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__", "tests", "leaderboards")
    copy = shutil.copytree(ROOT, tmp_path / "copy", symlinks=True, ignore=ignored)
    shutil.copytree(ROOT / "leaderboards/studies", copy / "leaderboards/studies")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, copy],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"{dotted(path).replace('.', '/')}.py" for path in files() if path.name != "__init__.py"}
    expected |= {f"mibench/suites/{path.name}" for path in (ROOT / "mibench/suites").glob("*.toml")}
    assert expected <= inside, expected - inside
    assert not any(name.startswith(("methods/", "metrics/", "tests/")) for name in inside)
    assert not any(name.startswith("leaderboards") or "studies" in Path(name).parts for name in inside)


def test_the_package_imports_no_study() -> None:
    """Studies stand on the package and are not installed with it."""
    for path in files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "leaderboards" for name in named), path


@pytest.mark.parametrize("name", LINKED)
def test_a_room_refuses_to_be_imported_under_another_name(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert f"import mibench.{name}" in done.stderr


@pytest.mark.parametrize("name", LINKED)
def test_the_links_are_relative(name: str) -> None:
    link = ROOT / "mibench" / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{name}"


def test_the_quick_start_holds_exactly_two_commands() -> None:
    for which in ("run", "test"):
        done = subprocess.run(
            [sys.executable, ROOT / ".ci/readme.py", which], capture_output=True, text=True, check=True
        )
        assert "pip install" in done.stdout
