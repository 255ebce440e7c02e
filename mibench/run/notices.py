"""What a user should know of a network and its data before an hour is spent on them: each notice is one sentence.

None of this forbids a run, for each may be meant. Every rule is a test or an identity, so that a sound set-up has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from torch import Tensor

if TYPE_CHECKING:
    from mibench.run.task import Task

CHANCE_LEVEL = 0.05  # of the test against chance
ORDER_LEVEL = 0.01  # of the test of another order of classes: no sound network should hear of it
ORDER_GAIN = 0.1  # … and another order must make so much more of the held-out samples right
SHOWN = 3  # pairs of classes that are named
SUM_SLACK = 1e-2  # by which probabilities in half precision may miss a sum of one


def notices(task: Task) -> tuple[str, ...]:
    """All that is conspicuous about a task."""
    scoring, calibration = task.scoring, task.calibration  # loading them may bring notices of the data
    label, prediction = task.held_out
    found = [
        near_chance(label, prediction, len(task.data.classes)),
        other_order(label, prediction, task.data.classes),
        probabilities(task.first_logits),
        *task.data_notices,
        fewer("scoring", len(scoring), task.spec.samples),
        fewer("calibration", len(calibration), task.spec.calibration),
        *same_layer(task),
    ]
    return tuple(dict.fromkeys(filter(None, found)))


def near_chance(label: Tensor, prediction: Tensor, classes: int) -> str:
    """Whether the network is not surely better than always answering the commonest class (exact binomial test)."""
    right, count = int((label == prediction).sum()), len(label)
    common = int(label.bincount().max()) / count  # never below 1 / classes
    chance = common if common < 1 else 1 / classes  # where all have one label, no guess could have been better
    p = float(binomtest(right, count, chance, alternative="greater").pvalue)
    if p <= CHANCE_LEVEL:
        return ""
    return (
        f"the network is right on {right} of {count} held-out samples, which is not significantly above chance "
        f"({chance:.1%}, from always answering one class; exact binomial test, p = {p:.2g}): "
        "check its weights, its mean and std, and the order of the classes"
    )


def other_order(label: Tensor, prediction: Tensor, classes: tuple[str, ...]) -> str:
    """Whether the outputs seem to be in another order than the data's classes.

    The best one-to-one naming of outputs is found on half of the samples and tested on the other half, against the
    given one (sign test), so that its being the best of many naming proves nothing by itself.
    """
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(0))
    found, tested = order[::2], order[1::2]
    counts = np.zeros((len(classes), len(classes)))  # (output, label)
    np.add.at(counts, (prediction[found].numpy(), label[found].numpy()), 1)
    counts += 0.5 * np.eye(len(classes))  # ties, and classes never seen, keep their names
    _, naming = linear_sum_assignment(counts, maximize=True)
    renamed = torch.from_numpy(naming)[prediction[tested]] == label[tested]
    given = prediction[tested] == label[tested]
    gained, lost = int((renamed & ~given).sum()), int((given & ~renamed).sum())
    if gained - lost < ORDER_GAIN * len(tested):
        return ""
    if binomtest(gained, gained + lost, alternative="greater").pvalue > ORDER_LEVEL:
        return ""
    moved = [index for index in range(len(classes)) if naming[index] != index and counts[index, naming[index]] >= 1]
    moved.sort(key=lambda index: -counts[index, naming[index]])
    pairs = ", ".join(f"{classes[index]!r} where the data have {classes[naming[index]]!r}" for index in moved[:SHOWN])
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return (
        f"the classes seem to be in another order than the network's outputs: it answers {pairs}{more}; renamed, "
        f"{renamed.float().mean():.1%} of the held-out samples would be right and not {given.float().mean():.1%}: "
        "give the classes in the network's order"
    )


def probabilities(logits: Tensor) -> str:
    """Whether the network's outputs (N, classes) are probabilities already."""
    if logits.shape[1] < 2 or (logits < 0).any() or ((logits.sum(1) - 1).abs() > SUM_SLACK).any():
        return ""
    return (
        "the network's outputs are not negative and add up to one, as after a softmax: explainers and metrics expect "
        "logits, so remove its last softmax"
    )


def fewer(split: str, count: int, asked: int) -> str:
    """A notice if the data have fewer samples than requested."""
    return f"the data have {count} {split} samples, not the {asked} of the suite" if count < asked else ""


def same_layer(task: Task) -> Iterator[str]:
    """Whether two of the network's three places (local features, representation, logits) are one."""
    probe, model = task.probe, task.model
    with torch.no_grad():
        seen = probe.features(probe.network.example())
    z = seen.representation
    if model.local == model.representation or _equal(seen.local.flatten(1), z):
        yield (
            f"the local layer {model.local!r} and the representation {model.representation!r} are the same values: "
            "explainers of the information that local features have about the representation find nothing"
        )
    if _equal(z, seen.logits):
        yield (
            f"the representation {model.representation!r} is at the network's logits: choose the layer before, "
            "where more than the decision is left to be explained"
        )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4)
