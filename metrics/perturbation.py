"""Perturbed inputs: what is replaced when, and the network's outputs, computed once for all rows and metrics.

A plan gives every pixel of a sample the step at which a baseline takes its place, in all channels at once:

    x_s = x + (baseline - x) [when <= s]   (so far)      or      x + (baseline - x) [when = s]   (alone)

Two plans that change the same pixels of a sample to the same baseline need one and the same input, whatever row or
metric they serve: it runs once. `Forwards` counts inputs requested and inputs run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mibench.metrics.sharing import image, once
from mibench.network.seeds import drawing
from mibench.plugins.contract import Scene, Unsupported

Baseline = Literal["mean", "blur", "black", "uniform"]
Output = Literal["probability", "logit"]
NUMBERS = 2**24  # at most so many input numbers are built at once: 64 MiB


@dataclass(frozen=True)
class Answers:
    """The network's outputs for inputs (b, S) on the explained class."""

    logit: Tensor
    probability: Tensor
    kept: Tensor  # 1 where it is still the predicted class

    def of(self, output: Output) -> Tensor:
        """The answer by its name."""
        return self.logit if output == "logit" else self.probability


class Forwards:
    """The network's answers for one scene, each distinct input computed once."""

    def __init__(self, scene: Scene) -> None:
        self.predict, self.target, self.baselines, self.x = scene.predict, scene.target, scene.baselines, scene.x
        self.known: dict[bytes, int] = {}  # the row of `answered` with an input's outputs
        self.answered = torch.zeros(0, 3, dtype=torch.float64)  # logit, probability, kept
        self.asked = 0

    @property
    def run(self) -> int:
        """How many inputs went through the network."""
        return len(self.answered)

    def replaced(self, part: slice, masks: Tensor, baseline: str) -> Answers:
        """Answers for the samples of `part` with the pixels of each of their masks (b, S, F) replaced."""
        if baseline not in self.baselines:
            raise Unsupported(f"no baseline {baseline!r} for these data, only {', '.join(self.baselines)}")
        x, other = pixels(self.x[part]), pixels(self.baselines[baseline][part])  # (b, C, F)
        changed = masks & (x != other).any(1)[:, None]  # (b, S, F): an equal value is not a change
        owner = torch.arange(len(x)).repeat_interleave(masks.shape[1])  # (b S,)
        flat = changed.flatten(0, 1)  # (b S, F)

        def build(chosen: Tensor) -> Tensor:
            return torch.where(flat[chosen][:, None], other[owner[chosen]], x[owner[chosen]])  # (n, C, F)

        bits = np.packbits(flat.numpy(), axis=-1)  # (b S, F / 8)
        return self._answers(part, changed.shape[:2], np.where(flat.any(1), baseline, "nothing"), bits, build)

    def removed(self, when: Tensor, steps: int, baseline: str, *, alone: bool = False) -> Answers:
        """Answers (B, S) for all samples as their pixels go: `when` (B, F) is the step of each pixel."""
        step = torch.arange(steps)[:, None]  # (S, 1)
        answers = []
        for part in parts(self.x, steps):
            here = when[part, None]  # (b, 1, F)
            answers.append(self.replaced(part, here == step if alone else here <= step, baseline))
        return join(answers)

    def shown(self, part: slice, inputs: Tensor) -> Answers:
        """Answers for inputs (b, S, C, H, W) made of the samples of `part`."""
        flat = inputs.flatten(0, 1)
        kinds = np.full(len(flat), "shown")
        return self._answers(part, inputs.shape[:2], kinds, flat.flatten(1).numpy(), lambda chosen: flat[chosen])

    def unperturbed(self) -> Answers:
        """Answers (B, 1) for the samples as they are."""
        nothing = torch.full((len(self.x), pixels(self.x).shape[2]), 1)
        return self.removed(nothing, 1, "mean")

    def _answers(
        self,
        part: slice,
        shape: Sequence[int],
        kinds: np.ndarray[Any, Any],
        contents: np.ndarray[Any, Any],
        build: Callable[[Tensor], Tensor],
    ) -> Answers:
        """Run what is not known yet; an input is known by its sample, the kind of change and the change itself."""
        samples = np.arange(part.start, part.stop).repeat(shape[1])  # (b S,)
        keys = [_key(*identity) for identity in zip(samples, kinds, contents, strict=True)]
        new: dict[bytes, int] = {}
        for index, key in enumerate(keys):
            if key not in self.known:
                new.setdefault(key, index)
        self.asked += len(keys)
        if new:
            chosen = torch.tensor(list(new.values()))
            logits = self.predict(build(chosen).reshape(len(chosen), *self.x.shape[1:])).double()
            target = self.target[torch.from_numpy(samples)[chosen]][:, None]  # (n, 1)
            kept = logits.argmax(1, keepdim=True) == target
            said = [logits.gather(1, target), logits.softmax(1).gather(1, target), kept]
            self.known.update({key: self.run + number for number, key in enumerate(new)})
            self.answered = torch.cat([self.answered, torch.cat(said, 1)])
        table = self.answered[[self.known[key] for key in keys]].reshape(*shape, 3)
        return Answers(*table.unbind(-1))


@once
def forwards(scene: Scene) -> Forwards:
    """The scene's one and only set of answers."""
    return Forwards(scene)


def pixels(x: Tensor) -> Tensor:
    """(B, C, F): an image's pixels or a table's columns, F of them."""
    return x.flatten(2) if x.dim() == 4 else x[:, None]


def parts(x: Tensor, steps: int) -> Iterator[slice]:
    """Runs of samples with `steps` perturbed inputs each, as many at once as memory should hold."""
    size = max(1, NUMBERS // (steps * x[0].numel()))
    return (slice(start, min(start + size, len(x))) for start in range(0, len(x), size))


def join(answers: Sequence[Answers]) -> Answers:
    """Answers of consecutive runs of samples as one."""
    return Answers(*(torch.cat([getattr(part, name) for part in answers]) for name in ("logit", "probability", "kept")))


def descending(scene: Scene, values: Tensor) -> Tensor:
    """The place (B, n) of each value from the highest, 0; equal values in a random order that is the sample's own."""
    shuffle = torch.stack([torch.randperm(values.shape[1], generator=drawing(seed, "ties")) for seed in scene.seeds])
    order = shuffle.gather(1, values.gather(1, shuffle).argsort(dim=1, descending=True, stable=True))  # (B, n)
    return torch.empty_like(order).scatter_(1, order, torch.arange(values.shape[1]).expand_as(order))


def in_steps(places: Tensor, steps: int) -> tuple[Tensor, int]:
    """The step of each place (B, F) and the number of steps: as many places in each, the last may have fewer."""
    features = places.shape[1]
    size = -(-features // steps)
    return places // size, -(-features // size)


def tiles(scene: Scene, side: int) -> Tensor:
    """(F,) the tile of each pixel, row by row: squares of ceil(height / side) pixels, laid centrally."""
    height, width = image(scene)
    size = -(-height // side)
    down, right = ((torch.arange(n) + (-n % size) // 2) // size for n in (height, width))
    return (down[:, None] * (int(right[-1]) + 1) + right).flatten()


def total_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Sums (B, groups) of values (B, F) over the groups that `group` (B, F) gives."""
    return torch.zeros(len(values), groups, dtype=values.dtype).scatter_add(1, group, values)


def _key(sample: int, kind: str, content: np.ndarray[Any, Any]) -> bytes:
    digest = hashlib.blake2b(f"{sample} {kind}".encode(), digest_size=16)
    digest.update(content.data)
    return digest.digest()
