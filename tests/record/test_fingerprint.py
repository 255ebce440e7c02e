"""A hash of code changes with what the code does, and with nothing else."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mibench.record import fingerprint

CODE = '''
"""What it is for."""
from mibench.plugins.contract import Explainer
from mibench.network.probe import open_probe as opened

class Bright(Explainer):
    """Shows where it is bright."""
    def explain(self, x):
        """The maps."""
        return x.mean(1) + 1  # brighter
'''


def hashed(code: str) -> str:
    return fingerprint.contents([code])


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("What it is for.", "Plainer."),
        ("Shows where it is bright.", "Bright places."),
        ('        """The maps."""\n', ""),
        ("  # brighter", ""),
        ("mibench.plugins.contract", "mibench.plugins.contract"),
        ("mibench.network.probe", "mibench.network.probe"),
    ],
)
def test_docstrings_comments_and_module_names_do_not_count(was: str, becomes: str) -> None:
    assert was in CODE
    assert hashed(CODE.replace(was, becomes)) == hashed(CODE)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("+ 1", "+ 2"),
        ("open_probe as opened", "open_probe"),
        ("import Explainer", "import Explainer, Known"),
        ("class Bright", "class Dark"),
        ("from mibench.network.probe", "from elsewhere.probe"),
    ],
)
def test_whatever_changes_the_answer_counts(was: str, becomes: str) -> None:
    assert was in CODE
    assert hashed(CODE.replace(was, becomes)) != hashed(CODE)


def test_a_package_that_is_moved_has_the_same_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules are followed wherever they are, and only their contents count."""
    for name, inner in (("before_the_move", "one"), ("after_the_move", "rooms.two")):
        folder = tmp_path / name / Path(*inner.split(".")[:-1])
        folder.mkdir(parents=True)
        for each in {folder, tmp_path / name}:
            (each / "__init__.py").touch()
        (folder / f"{inner.split('.')[-1]}.py").write_text("def half(x):\n    return x / 2\n")
        (tmp_path / name / "plugin.py").write_text(
            f"from {name}.{inner} import half\n\ndef use(x):\n    return half(x)\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    before = fingerprint.sources(["before_the_move.plugin"])
    assert fingerprint.sources(["after_the_move.plugin"]) == before
    moved = tmp_path / "after_the_move" / "rooms" / "two.py"
    moved.write_text("def half(x):\n    return x / 3\n")
    assert fingerprint.sources(["after_the_move.plugin"]) != before
