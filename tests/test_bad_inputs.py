"""Bad inputs end in one line that names them, soon and in little memory; none is a traceback, and none hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mibench import errors
from mibench.errors import MAX_LETTERS, MibenchError
from tests import bad_inputs

BAD = [name for name, _ in bad_inputs.cases()]
GOOD = [name for name, _ in bad_inputs.good_cases()]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of every input, in one process of its own."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "work").mkdir()
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "tests.bad_inputs", folder / "work", folder / "results.json"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "MIBENCH_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return found


def test_there_are_more_than_a_hundred_and_each_has_a_name_of_its_own() -> None:
    assert len(BAD) == len(set(BAD)) > 100
    assert not set(BAD) & set(GOOD)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_refused_in_one_line(results: dict[str, dict[str, Any]], name: str) -> None:
    found = results[name]
    kind = getattr(errors, found["kind"], None)
    ours = isinstance(kind, type) and issubclass(kind, MibenchError)
    assert ours or found["kind"] == "command", found
    assert found["code"] == 2
    line = found["message"].removeprefix("error: ")
    assert 10 < len(line) <= MAX_LETTERS
    assert line.isprintable()
    assert "Traceback" not in line


AGREE = ("was written by another version", "is one of", "names a metric", "name other rows")


@pytest.mark.parametrize("name", [name for name in BAD if name.startswith(("run.json: ", "board: ")) and "|" in name])
def test_a_wrong_key_is_named_by_its_place(results: dict[str, dict[str, Any]], name: str) -> None:
    place = name.partition(": ")[2].partition(" ")[0].replace("|", ".")
    message = results[name]["message"]
    whole = place.partition(".0.")[0]  # what is wrong with a range is found when all cards are there
    assert any(words in message for words in (f"at {whole}", f"lacks {whole}", *AGREE)), message


@pytest.mark.parametrize("name", GOOD)
def test_an_odd_input_is_read(results: dict[str, dict[str, Any]], name: str) -> None:
    assert results[name]["kind"] == "", results[name]


@pytest.mark.parametrize("name", [*BAD, *GOOD])
def test_an_input_costs_less_than_ten_seconds_and_two_gibibytes(results: dict[str, dict[str, Any]], name: str) -> None:
    assert results[name]["cpu"] < 10
    assert results[name]["grown"] < 2 * 2**30


def test_an_elongated_picture_costs_megabytes(results: dict[str, dict[str, Any]]) -> None:
    assert results["picture: a PNG of 8 x 1,000,000"]["grown"] < 300 * 2**20
