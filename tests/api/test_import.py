"""`import mibench` costs next to nothing: nothing is imported before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house import ROOT

HEAVY = {"torch", "numpy", "pandas", "pydantic", "rich", "scipy", "matplotlib", "torchvision", "typer"}
TIMED = "import time; before = time.process_time(); import {}; print(time.process_time() - before)"


def python(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_imports_no_library() -> None:
    assert not HEAVY & set(python("import sys, mibench; print(*sys.modules)").split())


def test_every_public_name_can_be_listed_before_anything_is_imported() -> None:
    names = python("import mibench; print(*dir(mibench))").split()
    assert {"open", "explain", "score", "compare", "run", "gate", "methods", "metrics", "__version__"} <= set(names)


def test_a_room_that_is_called_is_still_a_package() -> None:
    code = "import mibench as mb, mibench.run; print(callable(mb.run), callable(mb.gate), mb.run.__path__)"
    assert python(code).startswith("True True ['")


@pytest.mark.slow
def test_importing_the_package_takes_under_a_tenth_of_torch() -> None:
    ours, torchs = (min(float(python(TIMED.format(name))) for _ in range(3)) for name in ("mibench", "torch"))
    assert ours < torchs / 10
