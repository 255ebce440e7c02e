"""What the explained network makes of an image of which it sees some sources only: its own p_net(c | x_S).

Explainers explain the network and not the data, so that they are judged by what the network knows. For a subset S of
the sources, p_net(c | x_S) is the mean of the network's *probability* of class c (not of its logits) over the contents
of the hidden sources, drawn from their exact conditional given what is seen, while all else in the image stays as it
is: places, colours, distractors, pixel noise. For a network that is itself the ideal observer this is p(c | x_S), by
the law of total probability.

The A^K contents of discrete sources are enumerated where that is possible: one table of the network's answers serves
all subsets. It is quick where the network's cut tiles the image, one local feature a cell, because then the layers
after the cut alone run again. Otherwise contents are drawn, stratified by label: p_net = sum_y p(y | x_S) E[p_net | y],
each mean from the same number of draws; their standard error is stated with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mibench.data.sources import Sources
from mibench.plugins.contract import Probe

ENUMERATED = 6**6  # tables of so many answers are made where the cut tiles the image …
ENUMERATED_WHOLE = 6**4  # … and of so many where every answer costs a whole forward pass
DRAWN = 2**13  # images of one sample, over all subsets and labels, where contents are drawn
CHUNK = 2**12  # images at once
CLOSE = 1e-4  # two ways to one local feature


@dataclass(frozen=True)
class Shown:
    """One image and how its sources' cells look with other contents."""

    x: Tensor  # (3, H, W)
    places: Tensor  # (K,) the sources' cells, row by row
    pictures: Tensor  # (K, A, 3, s, s) each with each glyph


@dataclass(frozen=True)
class Asked:
    """A network as probabilities of raw images."""

    probe: Probe
    normalise: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        """(n, C) on the CPU."""
        parts = [self.probe.logits(self._ready(part)).float().softmax(1).cpu() for part in torch.split(images, CHUNK)]
        return torch.cat(parts)

    def local(self, images: Tensor) -> Tensor:
        """The features at the cut."""
        return self.probe.features(self._ready(images)).local

    def _ready(self, images: Tensor) -> Tensor:
        return self.normalise(images).to(self.probe.device)


def enumerated(distribution: Sources, likelihood: Tensor, glyphs: Tensor, answers: Tensor) -> Tensor:
    """p_net(c | x_S) for every subset S, (2^K, C).

    `likelihood` (K, A) is log p(x_k | g) of the image's own sources, `glyphs` (K,) what they show, and `answers`
    (A, …, A, C) the network's probabilities with each content.
    """
    seen = (likelihood - likelihood.amax(1, keepdim=True)).exp()  # (K, A)
    found: list[Tensor] = []

    def visit(source: int, weights: Tensor, left: Tensor) -> None:
        """Decide source by source, the last first, whether it is seen: bit k of the result's number."""
        if source < 0:
            found.append((weights.flatten() / weights.sum()) @ left.reshape(weights.numel(), -1))
            return
        hidden = weights.dim() - 1 - source  # axes after this one that stay
        visit(source - 1, weights, left)
        shape = (-1, *[1] * hidden)
        visit(source - 1, (weights * seen[source].reshape(shape)).sum(source), left.select(source, int(glyphs[source])))

    visit(len(glyphs) - 1, distribution.joint.sum(0), answers.double())
    return torch.stack(found)


def every_answer(network: Asked, shown: Shown) -> Tensor | None:
    """The network's probabilities for every content, (A, …, A, C); None where there are too many to evaluate."""
    sources, size = shown.pictures.shape[:2]
    count = size**sources
    if count > ENUMERATED:
        return None
    contents = torch.cartesian_prod(*[torch.arange(size)] * sources).reshape(count, sources)
    whole = network(_with(shown, contents)) if count <= ENUMERATED_WHOLE else _tiled(network, shown, contents)
    return None if whole is None else whole.reshape(*[size] * sources, -1)


def _tiled(network: Asked, shown: Shown, contents: Tensor) -> Tensor | None:
    """Answers (n, C) to contents (n, K) from local features alone; None where a feature sees more than its cell."""
    probe, (sources, size) = network.probe, shown.pictures.shape[:2]
    local = network.local(_with(shown, torch.arange(size)[:, None].expand(-1, sources)))  # (A, …) all alike
    cells = probe.cells(local)  # (A, G, D)
    if math.prod(probe.grid) * shown.pictures[0, 0, 0].numel() != shown.x[0].numel():
        return None
    table = cells[:, shown.places.to(cells.device)]  # (A, K, D)

    def put(some: Tensor) -> Tensor:
        """The local features of images with these contents, by their cells."""
        parts = cells[:1].repeat(len(some), 1, 1)  # (n, G, D)
        parts[:, shown.places] = table[some, torch.arange(sources)]
        return probe.replace(local[:1].expand(len(some), *local.shape[1:]), parts)

    few = contents[:: max(1, len(contents) // 5)]
    wanted = network.local(_with(shown, few))
    if (put(few) - wanted).abs().max() > CLOSE * wanted.abs().max():
        return None
    return torch.cat([probe.resume(put(some)).logits.float().softmax(1).cpu() for some in torch.split(contents, CHUNK)])


def _with(shown: Shown, contents: Tensor) -> Tensor:
    """Images (n, 3, H, W) whose sources show these glyphs (n, K)."""
    return pasted(shown.x, shown.places, shown.pictures[torch.arange(contents.shape[1]), contents])


def pasted(x: Tensor, places: Tensor, cells: Tensor) -> Tensor:
    """One image (3, H, W) with other cells (n, K, 3, s, s) at some places, (n, 3, H, W)."""
    side = cells.shape[-1]
    images = x.repeat(len(cells), 1, 1, 1)
    for number, place in enumerate(places.tolist()):
        row, column = (side * each for each in divmod(place, x.shape[-1] // side))
        images[:, :, row : row + side, column : column + side] = cells[:, number]
    return images


def draws(sources: int, labels: int) -> int:
    """How many contents are drawn for each subset and label."""
    return max(2, DRAWN // (1 << sources) // labels)


def drawn_cells(
    distribution: Sources, likelihood: Tensor, glyphs: Tensor, pictures: Tensor, random: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """For every subset: p(y | x_S) (A,), and cells (A, n, K, 3, s, s), the hidden ones drawn given y and x_S."""
    beliefs = distribution.beliefs(likelihood[None])[0]  # (2^K, A)
    seen = (likelihood - likelihood.amax(1, keepdim=True)).exp()  # (K, A)
    (sources, size), count = likelihood.shape, draws(*likelihood.shape)
    for number, belief in enumerate(beliefs):
        contents = glyphs.repeat(size, count, 1)  # (A, n, K)
        first = 0
        for table in distribution.groups:
            members = range(first, first + table.dim() - 1)
            weights = table
            for axis, source in enumerate(members, start=1):
                if number >> source & 1:
                    weights = weights * seen[source].reshape(-1, *[1] * (table.dim() - 1 - axis))
            possible = weights.flatten(1) + (weights.flatten(1).sum(1, keepdim=True) == 0)  # of a label ruled out: any
            joint = torch.multinomial(possible, count, replacement=True, generator=random)  # (A, n)
            for axis, each in enumerate(torch.unravel_index(joint, table.shape[1:])):
                if not number >> members[axis] & 1:
                    contents[..., members[axis]] = each
            first += len(members)
        yield belief, pictures[torch.arange(sources), contents]


def drawn(network: Asked, x: Tensor, places: Tensor, strata: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """p_net(c | x_S) for every subset and its standard error, (2^K, C) each, from draws a label."""
    means, errors = [], []
    for belief, cells in strata:
        asked = belief > 1e-6  # (A,) no other label is worth a forward pass
        answers = network(pasted(x, places, cells[asked].flatten(0, 1))).double()
        answers = answers.reshape(int(asked.sum()), -1, answers.shape[1])  # (A', n, C)
        weights = (belief[asked] / belief[asked].sum())[:, None]  # (A', 1)
        means.append((weights * answers.mean(1)).sum(0))
        errors.append((weights.square() * answers.var(1) / answers.shape[1]).sum(0).sqrt())
    return torch.stack(means), torch.stack(errors)
