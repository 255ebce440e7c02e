"""Bayes' rule for an observer who must find the cells first: the upper limit of any network that sees the image alone.

The exact posteriors of `mibench.data.planted` take the places as known, which the truth of a *cell* needs. A network is
not given them. At the default noise colour gives every cell away; under loud pixels it does not, and what can be known
of the label falls below what an observer of known cells has. All places being equally likely,

    p(y, r | x)  ~  sum over places c_1 … c_K, c of different cells  product over k of  w_k(c_k | y)  times  w(c | r)

with w_k(c | y) = sum over glyphs g of p(g | y) p(x_c | source k shows g), over p(x_c | a distractor), and w(c | r) the
same for the second label's cell. The sum has G! / (G - K - 1)! terms; over the *sets* of cells that are taken it needs
2^G, filled source by source. Sources must show their glyphs independently, given the label.
"""

from __future__ import annotations

import itertools
from functools import cache

import torch
from torch import Tensor

from mibench.data import planted
from mibench.data.planted import COLOURS, ROLES, Parameters, Plan
from mibench.errors import DataError

CHUNK = 32  # images at once


def can_search(parameters: Parameters) -> bool:
    """Whether the sum has the form above, and few enough sets."""
    independent = parameters.variant in ("base", "partial", "graded")
    return independent and parameters.noise > 0 and parameters.grid <= 4


def posterior(parameters: Parameters, plan: Plan, x: Tensor) -> Tensor:
    """p(label, second label | image), (N, A, A)."""
    if not can_search(parameters):
        raise DataError(f"planted[variant={parameters.variant}] has no search that is exact: choose base or graded")
    spans = [slice(start, start + CHUNK) for start in range(0, len(plan), CHUNK)]
    return torch.cat([_searched(parameters, plan[span], x[span]) for span in spans])


def accuracies(parameters: Parameters, plan: Plan) -> tuple[float, float]:
    """How often Bayes' rule is right about the label and about the second label: a searching observer's, if possible.

    Where the sum is not of its form, the observer is given the places: a limit that may be too high, never too low.
    """
    if not can_search(parameters):
        return planted.ideal_accuracies(parameters, plan)
    joint = posterior(parameters, plan, planted.render(parameters, plan))
    answers = ((joint.sum(2), plan.label), (joint.sum(1), plan.second))
    first, second = (float((belief.argmax(1) == truth).float().mean()) for belief, truth in answers)
    return first, second


def _searched(parameters: Parameters, plan: Plan, x: Tensor) -> Tensor:
    """`posterior` of some images."""
    background = plan.background if plan.background.numel() else 0.0
    cells = planted.patches(x - background, parameters.grid)  # (N, G, 3, 8, 8)
    size, contrast = parameters.alphabet, parameters.contrast

    def seen(colour: int, ink: float, first: int, count: int) -> Tensor:
        """log p(cell | glyph) as if all cells had this colour, (N, G, count)."""
        return planted.glyph_likelihood(
            parameters, cells, COLOURS[colour].expand(*cells.shape[:2], 3), ink, first, count
        )

    idle = seen(0, parameters.distractors, 0, 2 * size).logsumexp(2, keepdim=True)  # (N, G, 1) up to a constant
    sources = []
    for colour, table in zip(planted.source_colours(parameters), parameters.distribution.groups, strict=True):
        shown = seen(int(colour), contrast, 0, size)  # (N, G, A) of its glyph
        sources.append((shown[:, :, None] + table.log()).logsumexp(3) - idle)  # (N, G, A) of the label
    second = seen(ROLES.index("redundant"), contrast, size, size) - idle  # (N, G, A) of the second label
    filled = torch.ones(len(plan), 1, size, dtype=torch.float64)  # (N, sets, A): one set, the empty one
    for taken, weights in enumerate(sources):
        without, cell = _steps(parameters.grid**2, taken)  # (sets', taken + 1) each
        filled = (filled[:, without] * _scaled(weights)[:, cell]).sum(2)
    free = _free(parameters.grid**2, len(sources)).double()  # (sets, G)
    joint: Tensor = filled.transpose(1, 2) @ (free @ _scaled(second))  # (N, A, A)
    return joint / joint.sum((1, 2), keepdim=True)


def _scaled(logarithms: Tensor) -> Tensor:
    """Likelihoods (N, G, A) whose largest is 1."""
    return (logarithms - logarithms.amax((1, 2), keepdim=True)).exp()


@cache
def _sets(cells: int, size: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations(range(cells), size))


@cache
def _steps(cells: int, taken: int) -> tuple[Tensor, Tensor]:
    """For every set of `taken` + 1 cells and each cell of it: the number of the set without it, and the cell."""
    number = {each: index for index, each in enumerate(_sets(cells, taken))}
    larger = _sets(cells, taken + 1)
    without = [[number[each[:k] + each[k + 1 :]] for k in range(taken + 1)] for each in larger]
    return torch.tensor(without), torch.tensor(larger)


@cache
def _free(cells: int, size: int) -> Tensor:
    """Which cells each set leaves, (sets, G)."""
    taken = torch.zeros(len(_sets(cells, size)), cells, dtype=torch.bool)
    taken.scatter_(1, torch.tensor(_sets(cells, size)).reshape(len(taken), size), value=True)
    return ~taken
