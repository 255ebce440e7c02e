"""A run against a leaderboard that was committed: unchanged it passes, worse or other it does not."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from toy_suite import toy as declared

from mibench import regression, reporting
from mibench.comparison import NotComparable
from mibench.errors import UsageError
from mibench.run import Options, run
from mibench.thresholds import read_thresholds


@pytest.fixture
def finished(toy: None, tmp_path: Path) -> Path:
    """A finished run of the toys."""
    return go(tmp_path / "run")


def go(folder: Path) -> Path:
    run(declared(samples=16), Options(out=folder, device="cpu", engine="inline"))
    return folder


def worsen(folder: Path, method: str) -> None:
    """Take half of a method's scores away from a record, as a quality loss would."""
    with sqlite3.connect(folder / "results.sqlite") as database:
        database.execute(
            "UPDATE scores SET value = value - 0.5 WHERE key IN "
            "(SELECT key FROM cells WHERE stage = 'score' AND method = ? AND metric = 'inside')",
            (method,),
        )


def test_an_unchanged_run_passes_its_own_leaderboard(finished: Path, tmp_path: Path) -> None:
    reporting.publish([finished], tmp_path / "boards")
    changes = regression.gate(finished, tmp_path / "boards", read_thresholds())
    assert changes.paired == 0  # a leaderboard has intervals alone
    assert {change.verdict for change in changes.changes} == {"same"}


@pytest.mark.parametrize("paired", [True, False])
def test_a_quality_loss_is_a_regression(finished: Path, tmp_path: Path, paired: bool) -> None:
    reporting.publish([finished], tmp_path / "boards")
    later = go(tmp_path / "later")
    worsen(later, "bright")
    changes = regression.gate(later, finished if paired else tmp_path / "boards", read_thresholds())
    assert [(each.row.method, each.row.metric) for each in changes.regressions] == [("bright", "inside")]


def test_other_weights_are_refused(finished: Path, tmp_path: Path) -> None:
    reporting.publish([finished], tmp_path / "boards")
    (file,) = (tmp_path / "boards").glob("*.json")
    identity = json.loads(file.read_text())
    weights = next(key for key in identity if key.startswith("weights"))
    file.write_text(json.dumps(identity | {weights: "other"}))
    with pytest.raises(NotComparable, match="weights"):
        regression.gate(finished, tmp_path / "boards", read_thresholds())


def test_a_baseline_that_is_not_there_is_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no leaderboard of the suite 'toy'"):
        regression.gate(finished, tmp_path, read_thresholds())
