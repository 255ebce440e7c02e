"""Splits are disjoint, complete, stratified, and show many classes first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mibench.data.splits import members
from mibench.plugins.contract import Split

SPLITS: tuple[Split, ...] = ("training", "calibration", "scoring")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), max_size=80))
def test_every_sample_is_in_exactly_one_split(labels: list[int]) -> None:
    names = [f"sample {index}" for index in range(len(labels))]
    dealt = [index for split in SPLITS for index in members(split, names, labels)]
    assert sorted(dealt) == list(range(len(labels)))


def test_each_class_gives_one_fifth_to_scoring_and_two_to_the_others() -> None:
    labels = [0] * 50 + [1] * 100
    names = [str(index) for index in range(150)]
    shares = {split: [labels[index] for index in members(split, names, labels)] for split in SPLITS}
    assert {split: (found.count(0), found.count(1)) for split, found in shares.items()} == {
        "training": (20, 40),
        "calibration": (20, 40),
        "scoring": (10, 20),
    }


def test_the_first_samples_are_of_different_classes() -> None:
    labels = [index // 100 for index in range(1_000)]
    chosen = members("scoring", [str(index) for index in range(1_000)], labels)
    assert sorted(labels[index] for index in chosen[:10]) == list(range(10))


def test_classes_of_one_sample_spread_over_the_splits() -> None:
    names = [str(index) for index in range(100)]
    assert [len(members(split, names, list(range(100)))) for split in SPLITS] == [40, 40, 20]


def test_a_sample_keeps_its_split_when_the_order_of_the_samples_changes() -> None:
    names, labels = [f"n{index}" for index in range(40)], [index % 2 for index in range(40)]
    forwards = [names[index] for index in members("scoring", names, labels)]
    backwards = [names[::-1][index] for index in members("scoring", names[::-1], labels[::-1])]
    assert forwards == backwards
