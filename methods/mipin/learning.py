"""Learning the way down a chain, class by class and layer by layer from the top (Deng et al. 2021, Algorithm 1).

Each layer is one pass over the samples: they go up the network in batches, the sources of every class come down through
the layers already learned, and the sums for the next one grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mibench.methods.mipin.filters import Windows, descended
from mibench.methods.mipin.inversion import descend, is_learned, spreads, sums_for
from mibench.methods.mipin.ridge import Inverse, Penalty
from mibench.network.chain import Chain, Convolution, Dense
from mibench.plugins.contract import Unsupported

BATCH = 128
STEP = 32  # samples in one step of gradient descent
AT_ONCE = 16  # classes whose sums are in memory
Inverses = dict[int, Inverse]  # by place in the chain


class Settings(Protocol):
    """How to learn."""

    @property
    def penalty(self) -> Penalty: ...
    @property
    def solver(self) -> str: ...
    @property
    def epochs(self) -> int: ...
    @property
    def forward_relu(self) -> bool: ...


def members_of(label: Tensor, classes: int, everyone: bool) -> dict[int, Tensor]:
    """Which samples (N) each class learns from: all, or its own; a class with fewer than two of its own is left out."""
    if everyone:
        return dict.fromkeys(range(classes), torch.ones_like(label, dtype=torch.bool))
    own = {c: label == c for c in range(classes)}
    members = {c: rows for c, rows in own.items() if int(rows.sum()) > 1}
    if not members:
        raise Unsupported("no class has two calibration samples of its own; give more, or set fit_on=all")
    return members


def size(chain: Chain, x: Tensor) -> int:
    """Bytes of one class's maps, for a network that sees inputs like x."""
    values = chain.activations(x[:1])
    numbers = 0
    for place, layer in enumerate(chain.layers):
        below, above = values[place], values[place + 1]
        if isinstance(layer, Dense):
            numbers += below.numel() * (1 if place == len(chain.layers) - 1 else above.numel())
        elif is_learned(layer) and spreads(layer, above, below):
            numbers += below.numel()
        elif is_learned(layer):
            windows = Windows.of(layer.run, above, below)
            numbers += above.shape[1] * below.shape[1] * windows.kernel[0] * windows.kernel[1] // windows.groups
    return 4 * numbers


@dataclass(frozen=True)
class Lesson:
    """What is learned from: a chain, samples x, and how."""

    chain: Chain
    x: Tensor
    settings: Settings
    seed: int

    def learn(self, members: Mapping[int, Tensor]) -> dict[int, Inverses]:
        """The inverses of each class in `members`, a mask (N) of the samples from which it learns."""
        learned: dict[int, Inverses] = {c: {} for c in members}
        classes = list(members)
        for start in range(0, len(classes), AT_ONCE):
            group = {c: members[c] for c in classes[start : start + AT_ONCE]}
            for place, layer in reversed(list(enumerate(self.chain.layers))):
                if is_learned(layer):
                    by_steps = self.settings.solver == "sgd" and isinstance(layer, Convolution)
                    found = (self._descended if by_steps else self._solved)(place, group, learned)
                    for c, inverse in found.items():
                        learned[c][place] = inverse
        return learned

    def _solved(self, place: int, members: Mapping[int, Tensor], learned: Mapping[int, Inverses]) -> Inverses:
        """One layer in closed form, by class."""
        layer, sums, alive = self.chain.layers[place], {}, set()
        for c, s, below in self._sources(place, members, learned, BATCH):
            if c not in sums:
                sums[c] = sums_for(layer, s, below, self.settings.penalty)
            sums[c].add(s, below)
            if c not in alive and bool(below.any()):
                alive.add(c)
        if dead := members.keys() - alive:
            name = self.chain.layers[place - 1].name if place else self.chain.base
            raise Unsupported(f"layer {name!r} gives only zeros on the calibration samples of class {min(dead)}")
        return {c: sums.pop(c).solve() for c in members}

    def _descended(self, place: int, members: Mapping[int, Tensor], learned: Mapping[int, Inverses]) -> Inverses:
        """One convolution by gradient descent, by class."""
        return {c: self._by_steps(place, c, rows, learned) for c, rows in members.items()}

    def _by_steps(self, place: int, c: int, rows: Tensor, learned: Mapping[int, Inverses]) -> Inverse:
        generator = torch.Generator().manual_seed(self.seed + c)
        own = self.x[rows]

        def epoch() -> Iterator[tuple[Tensor, Tensor]]:
            order = torch.randperm(len(own), generator=generator)
            everyone = torch.ones_like(order, dtype=torch.bool)
            for _, s, below in replace(self, x=own[order])._sources(place, {c: everyone}, learned, STEP):
                yield s, below

        s, below = next(epoch())
        windows = Windows.of(self.chain.layers[place].run, s, below)
        return descended(windows, epoch, self.settings.epochs, generator)

    def _sources(
        self, place: int, members: Mapping[int, Tensor], learned: Mapping[int, Inverses], batch: int
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each batch and class: the class, the sources above the layer at this place, the activations below it."""
        relu = self.settings.forward_relu
        chosen = torch.stack(list(members.values()))  # (classes, N)
        rows = chosen.any(0).nonzero()[:, 0]
        rows = rows[chosen[:, rows].int().argmax(0).argsort(stable=True)]  # a class's own samples come together
        for index in torch.split(rows, batch):
            values = self.chain.activations(self.x[index])
            for c, mine in zip(members, chosen[:, index], strict=True):
                if bool(mine.any()):
                    own = values if bool(mine.all()) else [value[mine] for value in values]
                    start = own[-1][:, [c]]
                    yield (
                        c,
                        descend(self.chain, own, start, learned[c], down_to=place + 1, forward_relu=relu),
                        own[place],
                    )


def stacked(learned: Mapping[int, Inverses], with_base: bool) -> Inverses:
    """The maps of all classes in one, by place, a first dimension for the class; with or without the base's biases."""
    everything: Inverses = {}
    for place in next(iter(learned.values())):
        maps = [inverses[place].multiplied_out() for inverses in learned.values()]
        biases = [m.bias for m in maps if m.bias is not None and (place > 0 or with_base)]
        everything[place] = Inverse(torch.stack([m.weight for m in maps]), torch.stack(biases) if biases else None)
    return everything
