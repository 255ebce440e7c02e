"""Mean ranks count what can be counted, once each, and metrics that disagree are caught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, rankdata

from mibench.leaderboard.standings import agreements, flips, over_tasks, standings
from mibench.leaderboard.tables import Board, board
from tests.leaderboard import made_up


@pytest.fixture(scope="module")
def whole() -> Board:
    return board(made_up.whole())


def test_mean_ranks_are_the_mean_over_metrics_of_ranks_on_each_sample(whole: Board) -> None:
    task = made_up.TASKS[0]
    results = made_up.whole()
    standing = standings({task: whole.panels[task]})
    methods = sorted(place.method for place in standing.places)
    scores = results.scores[(results.scores["data"] == "planted") & results.scores["method"].isin(methods)]
    ranks: list[np.ndarray] = []
    for card in results.metrics:
        if card.gate or card.name != card.plain:
            continue
        mine = scores[scores["metric"] == card.name]
        by_seed = []
        for seed in range(3):
            of_seed = mine["seed"].where(mine["method"].isin(made_up.SEEDED), seed)
            table = mine[of_seed == seed].pivot_table(index="method", columns="sample", values="value", dropna=False)
            by_seed.append(rankdata(-card.sign * table.loc[methods].to_numpy(), axis=0, nan_policy="propagate"))
        ranks.append(np.mean(by_seed, axis=0))
    expected = np.nanmean(np.stack(ranks), axis=0).mean(1)
    assert standing.panels == len(ranks)
    for place in standing.places:
        assert place.mean == pytest.approx(expected[methods.index(place.method)])
        assert place.low <= place.mean <= place.high
        assert place.rank_low <= place.rank <= place.rank_high


def test_better_rows_stand_higher_and_equal_ones_tie(whole: Board) -> None:
    places = {place.method: place for place in standings(whole.panels).places}
    assert list(places) == sorted(places, key=lambda name: places[name].mean)
    assert set(places["iba"].tie) & set(places["iba[steps=50]"].tie)
    assert places["mire"].rank_high < places["saliency"].rank_low
    assert not {"random", "constant", "known-good"} & set(places)


def test_rows_that_a_counted_metric_does_not_rank_are_omitted_and_named(whole: Board) -> None:
    left = dict(standings(whole.panels).incomplete)
    assert left["nif"] == "mnist/cnn-m: stopped after 600 s"
    assert left["kernel-shap"].startswith("planted/planted-cnn: ")
    assert left["guided-backprop"].startswith("mnist/cnn-m: ")


def test_blind_metrics_gates_and_variants_of_a_metric_do_not_count(whole: Board) -> None:
    mnist, planted = standings({made_up.TASKS[1]: whole.panels[made_up.TASKS[1]]}), whole.panels[made_up.TASKS[0]]
    counted = len(made_up.METRICS) - 1 - 1  # the gate, irof[baseline=blur]
    assert standings({made_up.TASKS[0]: planted}).panels == counted
    assert mnist.panels == counted - 2  # pixel-flipping is blind, the error in nats skipped


def test_a_metric_for_few_rows_is_shown_and_does_not_unrank_the_others() -> None:
    results = made_up.whole()
    few = results.scores["metric"].eq("sparseness") & ~results.scores["method"].isin(["mire", "mire.total"])
    cells = results.cells.copy()
    cells.loc[cells["metric"].eq("sparseness"), ["status", "reason"]] = "skipped", "needs another map"
    cells = cells[~(cells["metric"].eq("sparseness") & cells["method"].isin(["mire", "mire.total"]))]
    made = board(replace(results, scores=results.scores[~few], cells=cells))
    panels = {panel.card.name: panel for panel in made.panels[made_up.TASKS[0]]}
    assert panels["sparseness"].ranked == ("mire", "mire.total")
    assert panels["sparseness"].aside == "it ranks only 2 of 16 rows"
    assert not panels["sparseness"].counts
    assert "saliency" in {place.method for place in standings(made.panels).places}


def test_a_row_is_dominated_by_one_never_behind_and_once_surely_ahead(whole: Board) -> None:
    places = {place.method: place for place in standings(whole.panels).places}
    assert places["saliency"].dominated
    assert not places["mire"].dominated
    for place in places.values():
        if place.dominated:
            assert places[place.dominated].mean < place.mean


def test_one_metric_gives_the_ranks_of_the_table() -> None:
    results = made_up.results(methods=("mire", "saliency", "gradcam"))
    made = board(replace(results, metrics=tuple(card for card in results.metrics if card.name == "sparseness")))
    standing = standings({made_up.TASKS[0]: made.panels[made_up.TASKS[0]]})
    assert [place.method for place in standing.places] == ["mire", "gradcam", "saliency"]
    assert [place.tie for place in standing.places] == ["a", "b", "c"]


def test_agreement_is_kendalls_tau_of_the_means(whole: Board) -> None:
    panels = {panel.card.name: panel for panel in whole.panels[made_up.TASKS[0]]}
    for pair in agreements(whole.panels[made_up.TASKS[0]]):
        left, right = panels[pair.left], panels[pair.right]
        common = [method for method in left.ranked if method in right.ranked]
        means = [[panel.mean(method) for method in common] for panel in (left, right)]
        assert pair.tau == pytest.approx(kendalltau(*means).statistic)
        assert -1 <= pair.low <= pair.tau <= pair.high <= 1
        ranks = [rankdata([-mean for mean in some], "min").tolist() for some in means]
        moved = {(name, *places) for name, *places in zip(common, *ranks, strict=True) if places[0] != places[1]}
        assert set(pair.moved) == moved


def test_an_inverted_metric_flips_every_pair_that_surely_differs() -> None:
    results = made_up.results(methods=("mire", "gradcam", "saliency", "smoothgrad"))
    auc = next(card for card in results.metrics if card.name == "auc")
    contrary = replace(auc, name="contrary")
    turned = results.scores[results.scores["metric"] == "auc"].assign(metric="contrary")
    turned["value"] = 1 - turned["value"]
    made = board(replace(results, metrics=(auc, contrary), scores=pd.concat([results.scores, turned])))
    panels = made.panels[made_up.TASKS[0]]
    (pair,) = agreements(panels)
    assert pair.tau == pytest.approx(-1)
    assert pair.opposed >= 4
    assert pair.alike == 0
    found = {(flip.first, flip.second): flip for flip in flips(panels)}
    assert found["mire", "saliency"].first_above == ("auc",)
    assert found["mire", "saliency"].second_above == ("contrary",)
    assert not any(place.dominated for place in standings({made_up.TASKS[0]: panels}).places)


def test_tests_over_tasks_need_enough_tasks(whole: Board) -> None:
    one = standings({made_up.TASKS[0]: whole.panels[made_up.TASKS[0]]})
    assert over_tasks([one, one])[1] is None
    methods, verdict = over_tasks([one] * 8)
    assert verdict is not None
    assert verdict.friedman < 0.001
    assert methods == tuple(sorted(place.method for place in one.places))
    assert over_tasks([])[1] is None


def test_no_panels_make_no_standings() -> None:
    assert standings({}).places == ()
