"""The blocks of docs/api.md run as they are printed, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text("utf-8"), re.DOTALL)


def perform(blocks: list[str]) -> None:
    """Run blocks in one namespace, as a notebook does."""
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)


def test_the_page_runs_up_to_whole_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = [block for block in BLOCKS if "mb.run" not in block]
    assert len(here) == 4
    perform(here)


@pytest.mark.slow
def test_the_whole_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    perform(BLOCKS)
    assert (tmp_path / "runs").is_dir()
