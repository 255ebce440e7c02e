"""`mibench verify`: scores computed again by Quantus; the record keeps the result while they are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from mibench.errors import UsageError
from mibench.metrics.concentration import Complexity
from mibench.plugins.contract import Evidence, Scene
from mibench.record import verified
from mibench.record.store import Store
from mibench.record.verified import Verified
from mibench.run import verification
from mibench.run.run import Options, run
from tests import needs
from tests.toy_suite import toy

quantus = needs.quantus()


@pytest.fixture
def toy_plugins(toy: None) -> None:
    """The toys, under a name that leaves `toy` to the suite of them."""


def go(folder: Path, *metrics: str) -> None:
    run(toy(metrics=metrics), Options(folder, "cpu", engine="inline"))


def kept(folder: Path) -> Verified | None:
    with Store(folder) as store:
        return verified.current(store)


def test_scores_are_those_of_quantus_and_the_board_carries_the_line(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, "inside", "sparseness", "complexity", "pixel-flipping")
    assert kept(tmp_path) is None
    found = verification.verify(tmp_path, 2)
    assert [each.metric for each in found.metrics] == ["sparseness", "complexity", "pixel-flipping"]  # not `inside`
    assert all(each.scores and each.deviation < 1e-6 for each in found.compared)
    assert not found.wrong
    assert str(found).startswith(f"against Quantus {quantus.__version__}: 3 metrics, ")
    assert str(found) in (tmp_path / "leaderboard.html").read_text()
    assert kept(tmp_path) == found


def test_a_wrong_score_is_named_and_a_damaged_file_is_as_none(
    toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Complexity.judge

    def wrong(metric: Complexity, scene: Scene, row: Evidence) -> Tensor:
        return right(metric, scene, row) * 1.001

    with monkeypatch.context() as patch:
        patch.setattr(Complexity, "judge", wrong)
        go(tmp_path, "sparseness", "complexity")
    found = verification.verify(tmp_path, 2)
    assert [each.metric for each in found.wrong] == ["complexity"]
    assert "1 metrics" in str(found)
    assert "NOT complexity (1e-03)" in str(found)
    (tmp_path / "verified.json").write_text("{")
    assert kept(tmp_path) is None


def test_a_run_without_an_original_has_nothing_to_verify(toy_plugins: None, tmp_path: Path) -> None:
    go(tmp_path, "inside")
    with pytest.raises(UsageError, match="nothing to verify"):
        verification.verify(tmp_path, 2)
