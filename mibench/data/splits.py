"""Fixed, disjoint splits: of every class two fifths for training, two for calibration, one for scoring."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from mibench.plugins.contract import Split

DEAL: tuple[Split, ...] = ("scoring", "calibration", "training", "calibration", "training")


def members(split: Split, names: Sequence[str], labels: Sequence[int]) -> list[int]:
    """The indices of a split's samples, classes taking turns, so that any first few show many classes.

    Each class is shuffled by the hashes of its samples' names and dealt out like cards; class c starts at card c, so
    that classes of a single sample spread over the splits too. No sample is in two splits.
    """
    classes: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(names)), key=lambda index: _hash(names[index])):
        classes[labels[index]].append(index)
    turns: list[tuple[int, str, int]] = []
    for label, indices in classes.items():
        mine = [index for card, index in enumerate(indices) if DEAL[(card + label) % len(DEAL)] == split]
        turns += [(turn, _hash(names[index]), index) for turn, index in enumerate(mine)]
    return [index for _, _, index in sorted(turns)]


def _hash(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
