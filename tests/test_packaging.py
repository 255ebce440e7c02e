"""The house holds together: one import root, whole wheels, arrows that point downwards."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (  # from the ground up; a module may import from its own floor and from below
    {
        "contract",
        "errors",
        "statistics",
        "information",
        "environment",
        "fingerprint",
        "reading",
        "stored",
        "files",
        "tensorfile",
    },
    {
        "condition",
        "layers",
        "maps",
        "probe",
        "registry",
        "data",
        "models",
        "methods",
        "metrics",
        "task",
        "jobs",
        "engines",
    },
    {
        "graph",
        "graph_drawing",
        "pruning",
        "suite",
        "suites",
        "about",
        "identity",
        "database",
        "store",
        "leaderboard",
        "gates",
        "comment",
        "comparison",
        "thresholds",
        "explaining",
        "notices",
        "scoring",
        "costs",
        "conformance",
    },
    {"planning", "reporting", "regression", "work", "run", "studies", "figures", "gallery", "outlook", "rescoring"},
    {"cli", "console", "display", "doctor", "verifying", "__main__"},
)
ROOMS = {"methods": {"contract", "information", "methods"}, "metrics": {"contract", "information", "metrics"}}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "mibench").parts[0].removesuffix(".py")


def ours_imported_by(path: Path) -> set[str]:
    """The rooms of ours that a module imports, wherever in the file it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("mibench.") and name.count(".")}


def modules() -> list[Path]:
    found = [*(ROOT / "mibench").rglob("*.py")]
    for room in ROOMS:
        found += (ROOT / "mibench" / room).glob("*.py")  # rglob does not follow links
    return sorted({path for path in found if path.name != "__init__.py"})


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_upwards(path: Path) -> None:
    room = room_of(path)
    floors = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert floors, f"{room} stands on no floor: name it in FLOORS"
    allowed = ROOMS.get(room, {name for rooms in FLOORS[: floors[0] + 1] for name in rooms})
    assert ours_imported_by(path) - {"__version__"} <= allowed, f"{path.name} imports from above its floor"


def test_no_two_rooms_import_each_other_in_a_circle() -> None:
    arrows = {(room_of(path), other) for path in modules() for other in ours_imported_by(path)}
    circles = list(networkx.simple_cycles(networkx.DiGraph([arrow for arrow in arrows if arrow[0] != arrow[1]])))
    assert not circles


def test_every_package_is_listed_and_the_wheel_holds_every_module(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__", "tests", "leaderboards")
    copy = shutil.copytree(ROOT, tmp_path / "copy", symlinks=True, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, copy],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(path.relative_to(ROOT)) for path in modules()}
    expected |= {f"mibench/suites/{path.name}" for path in (ROOT / "mibench/suites").glob("*.toml")}
    assert expected <= inside, expected - inside
    assert not any(name.startswith(("methods/", "metrics/", "tests/")) for name in inside)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_refuses_to_be_imported_under_another_name(room: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True)
    assert f"import mibench.{room}" in done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_the_links_are_relative(room: str) -> None:
    link = ROOT / "mibench" / room
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{room}"


def test_the_quick_start_holds_exactly_two_commands() -> None:
    for which in ("run", "test"):
        done = subprocess.run(
            [sys.executable, ROOT / ".ci/readme.py", which], capture_output=True, text=True, check=True
        )
        assert "pip install" in done.stdout
