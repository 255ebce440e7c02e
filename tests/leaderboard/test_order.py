"""The order follows from committed constants and each method's own scores; metrics that disagree are caught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, rankdata

from mibench.leaderboard.agreement import agreements, flips
from mibench.leaderboard.order import Order, Standing
from mibench.leaderboard.results import Results
from mibench.leaderboard.tables import Board, board
from mibench.record.cards import MethodCard
from mibench.record.panel import Entry, Panel, Prior
from tests.leaderboard import made_up

PLANTED, MNIST = made_up.TASKS


@pytest.fixture(scope="module")
def whole() -> Board:
    return board(made_up.whole(), made_up.panel())


def placed(order: Order) -> dict[str, Standing]:
    return {place.method: place for place in order.placed}


def test_a_standing_is_the_mean_over_families_between_random_and_top(whole: Board) -> None:
    order, entries = whole.order(MNIST), {e.metric: e for e in made_up.panel().entries if e.truth == "images"}
    panels = {panel.card.name: panel for panel in whole.panels[MNIST]}
    families: dict[str, list[str]] = {}
    for _, panel in order.scores:
        families.setdefault(panel.card.family, []).append(panel.card.name)
    assert set(families) == {"faithfulness", "localisation"}
    for method, place in placed(order).items():
        expected = np.mean([
            np.mean([
                (panels[name].card.sign * panels[name].mean(method) - entries[name].random)
                / (entries[name].top - entries[name].random)
                for name in names
            ])
            for names in families.values()
        ])  # fmt: skip
        assert place.value == pytest.approx(expected, abs=1e-9)
        assert place.low <= place.value <= place.high


def test_where_the_truth_is_known_information_alone_decides(whole: Board) -> None:
    assert [panel.card.name for _, panel in whole.order(PLANTED).scores] == ["information-error"]
    assert "information-error" not in [panel.card.name for _, panel in whole.order(MNIST).scores]


def test_better_rows_stand_higher_and_equal_ones_share_their_places(whole: Board) -> None:
    places = placed(whole.order())
    assert list(places) == sorted(places, key=lambda name: -places[name].value)
    assert places["iba"].rank_low <= places["iba[steps=50]"].rank <= places["iba"].rank_high
    assert places["occlusion"].rank_high < places["saliency"].rank_low
    assert not {"random", "constant", "known-good"} & set(places)


def test_only_the_first_map_of_a_method_has_a_place() -> None:
    origins = {name: (name.partition(".")[0], name.partition(".")[0]) for name in made_up.QUALITY}
    made = board(replace(made_up.whole(), origins=origins), made_up.panel())
    assert {name for name in placed(made.order()) if name.startswith("mire")} == {"mire"}
    assert "mire.total" in made.panels[PLANTED][0].ranked, "the others have places in their columns"


def test_a_method_without_a_score_that_counts_has_pairs_and_no_place(whole: Board) -> None:
    order = whole.order()
    lacks = dict(order.incomplete)
    assert lacks["nif"] == "mnist/cnn-m: stopped after 600 s"
    assert lacks["kernel-shap"].startswith("planted/planted-cnn: ")
    assert lacks["guided-backprop"].startswith("mnist/cnn-m: ")
    assert not set(lacks) & set(placed(order))
    assert "saliency" in order.partial["nif"].above
    assert {*order.partial["nif"].above, *order.partial["nif"].below, *order.partial["nif"].tied} >= set(placed(order))


def test_without_sight_or_without_constants_a_score_decides_nothing() -> None:
    blindfold = board(made_up.whole(), made_up.panel(sightless=("information-error",)))
    assert not blindfold.order(PLANTED).placed
    assert blindfold.order(PLANTED).why == "no sight: information-error"
    unknown = board(made_up.whole(), made_up.panel(lacking=("information-error",)))
    assert unknown.order(PLANTED).why == "the panel lacks information-error"
    other = made_up.panel(lacking=("auc",))
    assert "auc" not in [panel.card.name for _, panel in board(made_up.whole(), other).order(MNIST).scores]


@pytest.mark.parametrize("ahead", [-0.3, 0.0, 0.01])
def test_a_score_whose_top_is_not_well_above_random_orders_nobody(ahead: float) -> None:
    def flat(entry: Entry) -> Entry:
        card = next(card for card in made_up.METRICS if card.name == entry.metric)
        return entry.model_copy(update={"top": entry.random + card.sign * ahead * np.ptp(np.clip(card.range, -1, 1))})

    known = made_up.panel()
    made = board(made_up.whole(), Panel(entries=tuple(map(flat, known.entries))))
    for task in made.panels:
        assert not made.order(task).scores
        assert "is not well above random" in made.order(task).why


def test_a_network_of_a_kind_that_the_panel_lacks_has_no_order() -> None:
    results = made_up.whole()
    vit = board(replace(results, tasks=tuple(replace(task, network="vit") for task in results.tasks)), made_up.panel())
    assert not vit.order().placed
    assert vit.order(PLANTED).why == "the panel lacks information-error"


def test_fewer_than_three_methods_have_no_places() -> None:
    two = board(made_up.results(methods=("mire", "occlusion", "random", "known-good")), made_up.panel())
    assert [each.method for each in two.order(MNIST).places] == ["mire", "occlusion"]
    assert not two.order(MNIST).placed
    assert two.order(MNIST).why.startswith("fewer than 3 methods")
    assert {row.rank for row in two.rows if row.family != "runtime"} == {None}


def test_one_fit_without_a_prior_has_no_place_and_with_one_it_has() -> None:
    results = made_up.whole()
    single = replace(results, scores=results.scores[results.scores["seed"] == 0])
    alone = board(single, made_up.panel()).order(MNIST)
    assert "mire" not in placed(alone)
    assert next(each.why for each in alone.places if each.method == "mire").startswith("of this fit alone")
    prior = Prior(level=1e-4, freedom=4.0, rows=20, seeds=60)
    assert "mire" in placed(board(single, made_up.panel(prior=prior)).order(MNIST))


def test_the_truth_s_own_place_and_the_best_baseline_are_printed(whole: Board) -> None:
    results = made_up.whole()
    known = whole.order(MNIST).known(("known-good",))
    assert known.startswith("the truth (known-good) would have place 1 ")
    first = next(name for name in placed(whole.order(MNIST)) if name not in made_up.SEEDED)
    assert f"the best baseline is {first}, place " in known  # draws nothing at random, and claims no nats
    bits = tuple(replace(card, unit="nats") if card.name == first else card for card in results.methods)
    told = board(replace(results, methods=bits), made_up.panel()).order(MNIST).known(("known-good",))
    assert f"the best baseline is {first}, place " not in told


def _pairs(made: Board) -> dict[tuple[str, str, str], tuple[float, float, float]]:
    """Of each metric and two rows: their difference and its interval."""
    found = {}
    for panel in made.panels[MNIST]:
        if panel.pairs:
            for i, first in enumerate(panel.sound):
                for j, second in enumerate(panel.sound):
                    each = panel.pairs.difference[i, j], panel.pairs.low[i, j], panel.pairs.high[i, j]
                    found[panel.card.name, first, second] = tuple(map(float, each))
    return found


def _of(results: Results, kept: frozenset[str], named: Mapping[str, str]) -> Results:
    """The results of some methods, some of which have other names."""
    cards = {card.name: card for card in results.methods}
    return replace(
        results,
        scores=results.scores[results.scores["method"].isin(kept)].replace({"method": dict(named)}),
        cells=results.cells[results.cells["method"].isin(kept)].replace({"method": dict(named)}),
        methods=tuple(replace(cards[name], name=named.get(name, name)) for name in cards if name in kept),
        gates=(),
        costs={},
        samples=(),
    )


@given(st.sets(st.sampled_from(sorted({*made_up.QUALITY} - {"random", "known-good"})), min_size=4), st.booleans())
@settings(max_examples=8, deadline=None)
def test_no_method_changes_what_is_found_of_two_others(kept: set[str], renamed: bool) -> None:
    everything = frozenset({*made_up.QUALITY})
    names = {name: f"{len(name)}-{name}" for name in sorted(kept)[:2]} if renamed else {}
    back = {new: old for old, new in names.items()}
    results, panel = made_up.results(count=24), made_up.panel()
    before = board(_of(results, everything, {}), panel)
    after = board(_of(results, frozenset({*kept, "random", "known-good"}), names), panel)
    was, now = _pairs(before), _pairs(after)
    assert now
    for (metric, first, second), found in now.items():
        assert found == pytest.approx(
            was[metric, back.get(first, first), back.get(second, second)], rel=1e-9, abs=1e-12
        )
    values = {each.method: (each.value, each.low, each.high) for each in before.order(MNIST).places}
    for each in after.order(MNIST).places:
        assert (each.value, each.low, each.high) == pytest.approx(values[back.get(each.method, each.method)])
    seen = {panel.card.name: (panel.sight, panel.blind) for panel in before.panels[MNIST]}
    assert {panel.card.name: (panel.sight, panel.blind) for panel in after.panels[MNIST]} == seen


def test_nobody_is_among_the_first_whose_bar_does_not_touch_the_firsts(whole: Board) -> None:
    for task in (None, *whole.panels):
        order = whole.order(task)
        first = order.placed[0]
        for each in order.placed:
            touches = abs(first.value - each.value) <= first.bar + each.bar
            assert bool(each.leading) <= touches
    for panels in whole.panels.values():
        for panel in panels:
            led = [row for row in panel.rows if row.tie]
            best = next((row for row in led if row.tie == "best"), None)
            for row in led:
                assert abs(best.value - row.value) <= panel.bars[best.method] + panel.bars[row.method]


def test_agreement_is_kendalls_tau_of_the_means(whole: Board) -> None:
    panels = {panel.card.name: panel for panel in whole.panels[PLANTED]}
    for pair in agreements(whole.panels[PLANTED]):
        left, right = panels[pair.left], panels[pair.right]
        common = [method for method in left.sound if method in right.sound]
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
    panels = made.panels[PLANTED]
    (pair,) = agreements(panels)
    assert pair.tau == pytest.approx(-1)
    assert pair.opposed >= 4
    assert pair.alike == 0
    found = {(flip.first, flip.second): flip for flip in flips(panels)}
    assert found["mire", "saliency"].first_above == ("auc",)
    assert found["mire", "saliency"].second_above == ("contrary",)


def test_a_board_without_scores_has_no_order() -> None:
    results = made_up.whole()
    made = board(replace(results, scores=results.scores[:0], methods=(MethodCard("mire", "MIRE"),)), made_up.panel())
    assert not made.order().places
    assert made.order().why
