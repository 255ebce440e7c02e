"""The committed default board, made again from its data: bars say what ties say, and no method changes two others."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mibench.leaderboard import make, stored_board
from mibench.leaderboard.board_files import DATA, unpacked
from mibench.leaderboard.results import Results
from mibench.leaderboard.tables import Board, board
from mibench.statistics.bars import touch

BOARDS = Path(__file__).parent.parent.parent / "leaderboards"
SOME = ("information-rank-additive", "decision-auc", "pixel-flipping", "pointing-game")


@cache
def results() -> Results:
    """All that the board was made of."""
    scores = unpacked(BOARDS / "default.parquet", "")
    assert scores is not None
    return stored_board.results_of(stored_board.read(stored_board.file_of(BOARDS, "default")), scores)


def some(kept: frozenset[str] | None = None, metrics: tuple[str, ...] = SOME, samples: int = 32) -> Board:
    """The board of some methods and metrics, on the first samples."""
    whole = results()
    by_task = whole.scores.groupby("data")["sample"].unique()
    first = {sample for names in by_task for sample in sorted(names)[:samples]}
    scores = whole.scores[whole.scores["metric"].isin(metrics) & whole.scores["sample"].isin(first)]
    cells = whole.cells[whole.cells["metric"].isin([*metrics, ""])]
    methods = whole.methods
    if kept is not None:
        scores, cells = scores[scores["method"].isin(kept)], cells[cells["method"].isin(kept)]
        methods = tuple(card for card in methods if card.name in kept)
    cards = tuple(card for card in whole.metrics if card.name in metrics)
    return board(
        replace(whole, scores=scores, cells=cells, methods=methods, metrics=cards, samples=(), gates=(), costs={})
    )


def test_bars_of_tied_rows_touch_and_nearly_all_of_others_do_not() -> None:
    touching = apart = 0
    for panels in some().panels.values():
        for panel in panels:
            if panel.pairs is not None:
                split = panel.pairs.above | panel.pairs.above.T
                touches = touch(panel.pairs.mean, panel.pairs.bars)
                assert (touches | split).all(), "tied and disjoint"
                touching += int(np.triu(touches & split, 1).sum())
                apart += int(np.triu(split, 1).sum())
                led = [row for row in panel.rows if row.tie]
                best = next((row for row in led if row.tie == "best"), None)
                for row in led:
                    reach = panel.bars[best.method] + panel.bars[row.method]
                    assert abs(best.value - row.value) <= reach, "among the first, and its bar does not touch"
    assert apart > 500
    assert touching <= 0.01 * apart


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_leaving_methods_out_changes_no_other_two(seed: int) -> None:
    rng, every = np.random.default_rng(seed), sorted(card.name for card in results().methods)
    keep = frozenset({*rng.permutation(every)[: len(every) // 2].tolist(), "truth", "random", "occlusion"})
    whole, part = some(), some(keep)
    checked = 0
    for task, panels in part.panels.items():
        before = {panel.card.name: panel for panel in whole.panels[task]}
        for panel in panels:
            was = before[panel.card.name]
            assert (panel.blind, panel.sight) == (was.blind, was.sight)
            for i, first in enumerate(panel.sound):
                for j, second in enumerate(panel.sound):
                    at = was.sound.index(first), was.sound.index(second)
                    for figure in ("difference", "low", "high"):
                        now, then = getattr(panel.pairs, figure)[i, j], getattr(was.pairs, figure)[at]
                        assert now == pytest.approx(then, rel=1e-9, abs=1e-12, nan_ok=True)
                        checked += 1
    assert checked > 1000


@pytest.mark.slow
def test_the_committed_files_are_what_their_data_make() -> None:
    _, texts = make.texts(results())
    for ending, text in texts.items():
        if ending != DATA:
            assert (BOARDS / f"default{ending}").read_text(encoding="utf-8") == text, ending
