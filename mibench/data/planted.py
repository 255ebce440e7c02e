"""Planted information: images whose every cell's information about a representation is known exactly.

An image is a grid of cells. The *signal* cell shows the glyph of alphabet A that is the label, the *redundant* cell
a glyph of alphabet B, independent of the label, which a second head must report; all other cells show distractors.
Positions are random and colour tells the roles. A representation that keeps exactly what the two heads need is
z = (label y, second label r), and the truth stated with each sample is, with x_k the cell's symbol (colour and glyph)
and p(x) pooled over cells and images as InfoNCE's negatives are,

    total      i(z; x_k) = log p(x_k | y, r) / p(x_k)
    decision   i(y; x_k) = log p(x_k | y) / p(x_k)
    redundant  i(r; x_k | y) = total - decision                                                    (in nats)

Variants, all with the redundant cell beside what is said here:

    base     one signal cell: log|A| nats
    shared   the signal cell twice: log|A| nats at each, because each alone tells the label
    partial  beside the signal cell, a hint of another colour whose glyph is the label's with probability p and any
             other one otherwise: log p|A| nats where it is right, log (1-p)|A|/(|A|-1) where it is wrong, whose mean
             is log|A| - H. (Were the signal cell itself unreliable, z could not know the label, only the glyph.)
    xor      two signal cells whose glyphs add up to the label modulo |A|: synergy, 0 nats at each cell alone
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mibench.errors import DataError
from mibench.plugins import contract
from mibench.plugins.contract import Samples, Split, Truth

CELL = 8  # pixels along a cell's side; a glyph has 6, so that a margin of one pixel parts the cells
LARGEST_ALPHABET = 12
ROLES = ("distractor", "signal", "redundant", "hint")
COLOURS = torch.tensor([[0.2, 0.8, 0.2], [1.0, 0.2, 0.2], [0.3, 0.4, 1.0], [1.0, 0.9, 0.1]])  # one a role
BACKGROUND = 0.1
SIZES = {"training": 8_000, "calibration": 8_000, "scoring": 2_000}  # what "all" means; more can be asked for


class Parameters(contract.Parameters):
    """What is planted, and how hard it is to see."""

    variant: Literal["base", "xor", "shared", "partial"] = "base"
    grid: int = Field(default=4, ge=2, le=16)  # cells along the image's side
    alphabet: int = Field(default=6, ge=2, le=LARGEST_ALPHABET)  # |A| = |B|
    noise: float = Field(default=0.1, ge=0.0, le=1.0)  # standard deviation of each pixel's noise
    distractors: float = Field(default=1.0, ge=0.0, le=1.0)  # their brightness beside the other glyphs'
    p: float = Field(default=0.8, gt=0.0, lt=1.0)  # of `partial`: how often the hint is right


@dataclass(frozen=True)
class Plan:
    """What each cell of each image shows, before it is drawn; K = grid * grid cells in row-major order."""

    label: Tensor  # (N,)
    second: Tensor  # (N,) the label of the second head
    role: Tensor  # (N, K) index into ROLES
    glyph: Tensor  # (N, K) index into `glyphs()`: alphabet A, then B
    noise: Tensor  # (N, 3, H, W)


class Planted(contract.Data):
    """Glyphs in a grid of cells, with the information of each cell."""

    name = "planted"
    title = "Planted information"
    targets = "label"

    class Parameters(Parameters):
        pass

    @property
    def classes(self) -> tuple[str, ...]:
        """One class a glyph of alphabet A."""
        return tuple(f"glyph {index}" for index in range(self.parameters.alphabet))

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first samples of a split; sample i is the same whatever the count."""
        side = CELL * self.parameters.grid
        if tuple(shape) != (3, side, side):
            wanted = "x".join(map(str, shape))
            raise DataError(f"planted[grid={self.parameters.grid}] makes images of 3x{side}x{side}, not {wanted}")
        count = SIZES[split] if count is None else count
        plan = draw_plan(self.parameters, split, count)
        truth = state_truth(self.parameters, plan)
        ids = tuple(f"{split}-{index:05d}" for index in range(count))
        return Samples(render(self.parameters, plan), plan.label, ids, _pixels(truth.cells["signal"]), truth)


def draw_plan(parameters: Parameters, split: Split, count: int) -> Plan:
    """Draw labels, positions, glyphs and noise, each sample from a generator of its own."""
    samples = [_draw_sample(parameters, _seed(split, index)) for index in range(count)]
    return Plan(*(torch.stack(column) for column in zip(*samples, strict=True)))


def _seed(split: Split, index: int) -> int:
    digest = hashlib.blake2b(f"planted/{split}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _draw_sample(parameters: Parameters, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One sample's label, second label, roles, glyphs and noise."""
    generator = torch.Generator().manual_seed(seed)
    size, cells, side = parameters.alphabet, parameters.grid**2, CELL * parameters.grid
    place = torch.randperm(cells, generator=generator)  # (K,)
    label, second, free = torch.randint(size, (3,), generator=generator)
    role = torch.zeros(cells, dtype=torch.int64)  # (K,)
    glyph = torch.randint(2 * size, (cells,), generator=generator)  # (K,) distractors come from both alphabets
    role[place[0]], glyph[place[0]] = ROLES.index("redundant"), size + second
    role[place[1]], glyph[place[1]] = ROLES.index("signal"), label
    if parameters.variant == "shared":
        role[place[2]], glyph[place[2]] = ROLES.index("signal"), label
    elif parameters.variant == "xor":
        role[place[2]] = ROLES.index("signal")
        glyph[place[1]], glyph[place[2]] = free, (label - free) % size
    elif parameters.variant == "partial":
        right = torch.rand((), generator=generator) < parameters.p
        wrong = (label + 1 + torch.randint(size - 1, (), generator=generator)) % size
        role[place[2]], glyph[place[2]] = ROLES.index("hint"), torch.where(right, label, wrong)
    return label, second, role, glyph, torch.randn((3, side, side), generator=generator)


def state_truth(parameters: Parameters, plan: Plan) -> Truth:
    """Which cells hold what, and the pointwise information of each in nats."""
    grid = parameters.grid
    cells = {name: (plan.role == index).reshape(-1, grid, grid) for index, name in enumerate(ROLES) if index}
    whole = math.log(parameters.alphabet)
    hint = torch.where(
        plan.glyph == plan.label[:, None],
        whole + math.log(parameters.p),
        whole + math.log((1 - parameters.p) / (parameters.alphabet - 1)),
    ).reshape(-1, grid, grid)  # (N, h, w) only the hint's cell counts
    signal = 0.0 if parameters.variant == "xor" else whole
    decision = signal * cells["signal"].float() + torch.where(cells["hint"], hint, 0.0)  # (N, h, w)
    redundant = whole * cells["redundant"].float()  # (N, h, w)
    if parameters.variant != "partial":
        del cells["hint"]
    return Truth((grid, grid), cells, {"total": decision + redundant, "decision": decision, "redundant": redundant})


def render(parameters: Parameters, plan: Plan) -> Tensor:
    """Draw a plan: glyphs in their role's colour on a dark ground, with noise, within [0, 1]."""
    count, grid = len(plan.role), parameters.grid
    strength = torch.tensor([parameters.distractors, 1.0, 1.0, 1.0])[plan.role]  # (N, K)
    ink = glyphs(parameters.alphabet)[plan.glyph] * strength[..., None, None]  # (N, K, 8, 8)
    colour = COLOURS[plan.role] - BACKGROUND  # (N, K, 3)
    cells = BACKGROUND + colour[..., None, None] * ink[:, :, None]  # (N, K, 3, 8, 8)
    image = cells.reshape(count, grid, grid, 3, CELL, CELL).permute(0, 3, 1, 4, 2, 5)  # (N, 3, h, 8, w, 8)
    side = CELL * grid
    return (image.reshape(count, 3, side, side) + parameters.noise * plan.noise).clamp(0.0, 1.0)


@cache
def glyphs(alphabet: int) -> Tensor:
    """Alphabet A, then B, as (2 * alphabet, 8, 8) in {0, 1}: mirrored, equal in ink, any two 12 pixels apart."""
    generator = torch.Generator().manual_seed(0)
    halves: list[Tensor] = []
    while len(halves) < 2 * LARGEST_ALPHABET:
        half = torch.zeros(18)
        half[torch.randperm(18, generator=generator)[:9]] = 1.0
        if all((half != other).sum() >= 6 for other in halves):
            halves.append(half)
    left = torch.stack(halves).reshape(-1, 6, 3)  # (24, 6, 3)
    every = torch.nn.functional.pad(torch.cat([left, left.flip(2)], 2), (1, 1, 1, 1))  # (24, 8, 8)
    return torch.cat([every[:alphabet], every[LARGEST_ALPHABET : LARGEST_ALPHABET + alphabet]])


def _pixels(cells: Tensor) -> Tensor:
    """A mask of cells (N, h, w) as a mask of pixels (N, H, W)."""
    return cells.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
