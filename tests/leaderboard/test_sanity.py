"""A row that does not react, or that is no better than chance, fails its gate with the figures that say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mibench.leaderboard import sanity as judged
from mibench.leaderboard.results import CELLS, Gate, TaskCard
from mibench.leaderboard.sanity import LEVEL
from mibench.record.cards import MetricCard
from mibench.record.panel import Limit, Panel

ALIKE = MetricCard("alike", "Alike", "randomisation", "lower", (-1.0, 1.0), gate=True, limit=0.99)
AGAIN = MetricCard("again", "Again", "randomisation", "higher", (-1.0, 1.0), gate=True)
QUALITY = MetricCard("quality", "Quality", "localisation", "higher", (0.0, 1.0))


def scores(**values: np.ndarray) -> pd.DataFrame:
    """Scores by METHOD_METRIC."""
    rows = [
        ("d", "m", *name.split("_"), 0, f"s{number}", value, "" if np.isfinite(value) else "the map is constant")
        for name, each in values.items()
        for number, value in enumerate(each)
    ]
    return pd.DataFrame(rows, columns=["data", "model", "method", "metric", "seed", "sample", "value", "reason"])


def gates(table: pd.DataFrame, metrics: list[MetricCard], chance: str, **became: tuple[str, str]) -> tuple[Gate, ...]:
    """The gates of cells that went well, but for those of `became`, by METHOD_METRIC."""
    well = table[["data", "model", "method", "metric"]].drop_duplicates().assign(status="ok", reason="")
    told = pd.DataFrame([("d", "m", *name.split("_"), *why) for name, why in became.items()], columns=list(CELLS))
    cells = pd.concat([told, well]).drop_duplicates(["method", "metric"])
    return judged.gates(table, cells, metrics, chance)


def outcome(found: tuple[Gate, ...], method: str, gate: str) -> Gate:
    (one,) = [each for each in found if (each.method, each.gate) == (method, gate)]
    return one


@pytest.mark.parametrize(("similarity", "passed"), [(0.98, True), (1.0, False)])
def test_a_map_that_is_the_same_for_another_class_fails(similarity: float, passed: bool) -> None:
    found = outcome(gates(scores(a_alike=np.full(8, similarity)), [ALIKE], "random"), "a", "alike")
    assert found.verdict == ("passed" if passed else "failed")
    assert f"{similarity:.3f}" in found.reason


def test_a_map_that_does_not_repeat_itself_fails() -> None:
    assert outcome(gates(scores(a_again=np.full(8, 0.2)), [AGAIN], "random"), "a", "again").verdict == "failed"


def test_only_a_row_that_beats_chance_beyond_noise_passes() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.3, 0.7, 32)
    table = scores(
        random_quality=chance,
        better_quality=chance + 0.1,
        worse_quality=chance - 0.1,
        same_quality=rng.permutation(chance),
    )
    found = gates(table, [QUALITY], "random")
    assert outcome(found, "better", "not random").verdict == "passed"
    assert outcome(found, "worse", "not random").verdict == "failed"
    assert outcome(found, "same", "not random").verdict == "failed"


@pytest.mark.parametrize("status", ["failed", "timeout", "crash", "oom", "nan", "missing"])
@pytest.mark.parametrize("values", [[], [0.1, 0.1, np.nan]], ids=["lost", "one seed or sample lost"])
def test_a_gate_that_was_lost_is_failed_with_the_reason(status: str, values: list[float]) -> None:
    table = scores(a_quality=np.ones(8), a_alike=np.array(values))
    found = outcome(gates(table, [ALIKE, QUALITY], "", a_alike=(status, "stopped after 600 s")), "a", "alike")
    assert found.verdict == "failed"
    assert found.reason == "could not be judged: stopped after 600 s"


def test_a_row_without_a_gates_score_fails_it_with_its_samples_reason() -> None:
    found = outcome(gates(scores(a_alike=np.full(8, np.nan)), [ALIKE], ""), "a", "alike")
    assert found.verdict == "failed"
    assert found.reason == "could not be judged: the map is constant"


def test_a_row_whose_explanation_was_lost_fails_its_gates() -> None:
    found = outcome(gates(scores(a_alike=np.full(8, 0.1)), [ALIKE], "", b_=("crash", "signal 11")), "b", "alike")
    assert found == Gate("d", "m", "b", "alike", "failed", "could not be judged: signal 11")


def test_a_gate_skipped_or_not_requested_is_not_judged_and_gives_a_reason() -> None:
    table = scores(a_quality=np.ones(8), b_alike=np.full(8, 0.1))
    found = gates(table, [ALIKE, AGAIN, QUALITY], "", a_alike=("skipped", "the same for every class"))
    assert outcome(found, "a", "alike") == Gate("d", "m", "a", "alike", "not applicable", "the same for every class")
    assert outcome(found, "a", "again") == Gate("d", "m", "a", "again", "not applicable", "not requested")


def test_a_seed_that_was_skipped_does_not_excuse_the_others() -> None:
    table = scores(a_alike=np.ones(8))
    assert (
        outcome(gates(table, [ALIKE], "", a_alike=("skipped", "not with this seed")), "a", "alike").verdict == "failed"
    )


DIFFERENCES = st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.25, 3.0]), min_size=70, max_size=70)


@settings(deadline=None, max_examples=25)
@given(counts=st.lists(st.integers(1, 70), min_size=1, max_size=12), differences=DIFFERENCES)
def test_who_beats_random_on_every_sample_passes_or_is_not_judged(counts: list[int], differences: list[float]) -> None:
    passes_or_is_not_judged(counts, differences)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(counts=st.lists(st.integers(1, 70), min_size=1, max_size=30), differences=DIFFERENCES)
def test_who_beats_random_by_many_metrics_passes_or_is_not_judged(counts: list[int], differences: list[float]) -> None:
    passes_or_is_not_judged(counts, differences)


def passes_or_is_not_judged(counts: list[int], differences: list[float]) -> None:
    cards = [MetricCard(f"q{k}", "Quality", "localisation", "lower", (0.0, 9.0)) for k in range(len(counts))]
    found = gates(
        scores(
            **{f"random_{card.name}": np.full(n, 5.0) for card, n in zip(cards, counts, strict=True)},
            **{f"a_{card.name}": 5.0 - np.array(differences[:n]) for card, n in zip(cards, counts, strict=True)},
        ),
        cards,
        "random",
    )
    tests = sum(2.0**-count <= LEVEL for count in counts)
    told = tests > 0 and 2.0 ** -max(counts) * tests <= LEVEL
    assert outcome(found, "a", "not random").verdict == ("passed" if told else "undecided")


@pytest.mark.parametrize(("samples", "metrics", "needed"), [(4, 1, 5), (7, 7, 8), (8, 14, 9)])
def test_too_few_samples_to_tell_are_said_and_pass_nobody(samples: int, metrics: int, needed: int) -> None:
    cards = [MetricCard(f"q{k}", "Quality", "localisation", "higher", (0.0, 1.0)) for k in range(metrics)]
    same = {f"{row}_{card.name}": np.full(samples, 0.5) for row in ("a", "random") for card in cards}
    found = outcome(gates(scores(**same), cards, "random"), "a", "not random")
    assert found.verdict == "undecided"
    assert found.reason == f"too few samples: {samples}, at least {needed} are needed"
    same = {name: np.full(needed, 0.5) for name in same}
    assert outcome(gates(scores(**same), cards, "random"), "a", "not random").verdict == "failed"


@pytest.mark.parametrize("samples", [5, 8, 14, 60])
def test_that_every_sample_is_better_has_the_chance_of_as_many_like_signs(samples: int) -> None:
    lines = np.stack([np.full(samples, 0.5), np.arange(1, samples + 1), np.arange(samples) // 2 + 1])
    assert judged._larger(lines).tolist() == [0.5**samples] * 3


def test_with_a_known_score_of_chance_an_unlucky_random_row_has_no_effect() -> None:
    rng = np.random.default_rng(0)
    known = replace(QUALITY, chance=0.5)
    table = scores(random_quality=np.full(32, 0.3), a_quality=rng.uniform(0.3, 0.7, 32), b_quality=np.full(32, 0.6))
    assert (
        outcome(gates(table, [QUALITY], "random"), "a", "not random").verdict == "passed"
    )  # told from one row, and no better
    found = gates(table, [known], "random")
    assert outcome(found, "a", "not random").verdict == "failed"
    assert outcome(found, "b", "not random").verdict == "passed"


def test_without_scores_of_random_maps_no_row_is_told_from_them() -> None:
    found = gates(scores(a_quality=np.ones(8)), [QUALITY], "random", random_quality=("crash", "signal 11"))
    assert outcome(found, "a", "not random").verdict == "undecided"


def test_rows_are_separated_from_random_maps_alone_and_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    asked: list[tuple[int, ...]] = []
    wilcoxon = stats.wilcoxon

    def counted(differences: np.ndarray, **how: Any) -> Any:
        asked.append(differences.shape)
        return wilcoxon(differences, **how)

    monkeypatch.setattr(stats, "wilcoxon", counted)
    lines = rng.normal(0.2, 1, (40, 64)) + np.arange(40)[:, None] / 40
    lines[3:9, :30], lines[9] = np.nan, 0.0
    lines[10:13] = np.round(lines[10:13])
    lines[13, judged.FEWEST - 1 :] = np.nan
    p = judged._larger(lines)
    for line, found in zip(lines, p, strict=True):
        alone = line[np.isfinite(line)]
        told = (
            np.nan
            if len(alone) < judged.FEWEST
            else wilcoxon(alone, alternative="greater").pvalue
            if alone.any()
            else 1
        )
        assert found == pytest.approx(told, rel=1e-12, nan_ok=True)
    assert len(asked) == 3, "lines of 64, of 34, and with ties; not one by one"


BETWEEN = MetricCard("between", "Between", "randomisation", "lower", (-1.0, 1.0), gate=True, limit=0.6, fails=0.98)
PANELLED = MetricCard("panelled", "By the panel", "randomisation", "lower", (-1.0, 1.0), gate=True, judged="panel")
SHOWN = MetricCard("shown", "Only shown", "randomisation", "lower", (-1.0, 1.0), gate=True, judged="never")


@pytest.mark.parametrize(("similarity", "verdict"), [(0.59, "passed"), (0.8, "undecided"), (0.98, "failed")])
def test_between_two_limits_nothing_is_decided(similarity: float, verdict: str) -> None:
    found = outcome(gates(scores(a_between=np.full(8, similarity)), [BETWEEN], ""), "a", "between")
    assert found.verdict == verdict
    assert f"{similarity:.3f}" in found.reason


def test_the_panels_limit_is_used_with_its_error_rates_or_nothing_decided() -> None:
    table, cells = (
        scores(a_panelled=np.full(8, 0.7)),
        pd.DataFrame([("d", "m", "a", "", "ok", "")], columns=list(CELLS)),
    )
    task = TaskCard("d", "m", truth="images", network="cnn")
    limit = Limit(check="panelled", truth="images", network="cnn", limit=0.8, false_pass=0.05, false_fail=0.1)
    panel = Panel(limits=(limit,))
    (known,) = judged.gates(table, cells, [PANELLED], "", tasks=[task], panel=panel)
    assert known.verdict == "passed"
    assert "10% fail wrongly and 5% pass wrongly" in known.reason
    (other,) = judged.gates(table, cells, [PANELLED], "", tasks=[replace(task, network="vit")], panel=panel)
    assert (other.verdict, "the panel has no limit" in other.reason) == ("undecided", True)


def test_a_check_that_is_only_shown_is_not_judged() -> None:
    assert gates(scores(a_shown=np.ones(8)), [SHOWN], "") == ()


def test_nothing_is_decided_where_samples_do_not_separate_what_is_good() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.3, 0.7, 32)
    table = scores(random_quality=chance, good_quality=rng.permutation(chance), a_quality=rng.permutation(chance))
    cells = pd.DataFrame([("d", "m", each, "", "ok", "") for each in ("random", "good", "a")], columns=list(CELLS))
    for known, verdict in ((("good",), "undecided"), ((), "failed")):
        found = judged.gates(table, cells, [QUALITY], "random", known)
        assert outcome(found, "a", "not random").verdict == verdict
