"""Planted information: images whose every cell's information about a representation is known exactly.

An image is a grid of cells. The *signal* cell shows the glyph of alphabet A that is the label, the *redundant* cell
a glyph of alphabet B, independent of the label, which a second head must report; all other cells show distractors.
Positions are random and colour marks the roles. A representation that keeps exactly what the two heads need is
z = (label y, second label r), and the truth stated with each sample is, with x_k the cell's symbol (colour and glyph)
and p(x) pooled over cells and images as InfoNCE's negatives are,

    total      i(z; x_k) = log p(x_k | y, r) / p(x_k)
    decision   i(y; x_k) = log p(x_k | y) / p(x_k)
    redundant  i(r; x_k | y) = total - decision                                                    (in nats)

Of the label, `beliefs` state p(label | x_S) for every subset of the sources (`mibench.data.sources`), and with them
each cell's information alone, given the others, and its share (`mibench.information.pointwise`). Variants, all with
the redundant cell in addition to the cells listed; (marginal, conditional, additive) nats are those of each source:

    base        one signal cell: log|A| of all three
    shared      the signal cell twice: (log|A|, 0, log|A| / 2) at each, because each alone determines the label
    partial     besides the signal cell, a hint of another colour whose glyph is the label's with probability p and any
                other one otherwise: log p|A| nats where it is right, log (1-p)|A|/(|A|-1) where it is wrong, whose mean
                is log|A| - H; nothing given the signal
    xor         two signal cells whose glyphs add up to the label modulo |A|: synergy, (0, log|A|, log|A| / 2)
    graded      `cells` cells of as many colours whose glyphs are the label's with probabilities from 1/|A| to .95: six
                amounts to be put in order; the best one is called the signal
    copies      one noisy glyph, right with probability p, shown alike in two cells
    and         two signal cells whose lesser glyph is the label
    rdnxor      two signal cells with glyphs 2 part + bit of the same part, which is the label's, as is the sum of bits:
                information that both have and information that neither has alone
    suppressor  the signal cell shows glyph + n and the cell to its right n alone, n being `common` times as strong as
                the glyph: alone the suppressor has no information, and the signal almost none

"Redundant" above is MIRE's word: what the representation knows and the decision does not need. In partial information
decomposition it is information that two cells share, as in `shared`: there the conditional information is 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mibench.data import asked
from mibench.data.backgrounds import Background, background
from mibench.data.sources import Sources, Suppressed, certain, log_normal, sources
from mibench.errors import DataError
from mibench.information.pointwise import MAX_SOURCES, ROUNDING, of_class
from mibench.plugins import contract
from mibench.plugins.contract import Normalise, Probe, Samples, Split, Truth

CELL = 8  # pixels along a cell's side; a glyph has 6, so that a margin of one pixel parts the cells
LARGEST_ALPHABET = 12
ROLES = ("distractor", "signal", "redundant", "hint", "source", "suppressor")
COLOURS = torch.tensor(
    [
        [0.2, 0.8, 0.2],  # distractor
        [1.0, 0.2, 0.2],  # signal
        [0.3, 0.4, 1.0],  # redundant
        [1.0, 0.9, 0.1],  # hint, suppressor and the first of `graded`, whose others follow
        [0.9, 0.2, 0.9],
        [0.1, 0.9, 0.9],
        [0.9, 0.9, 0.9],
        [1.0, 0.55, 0.1],
        [0.55, 0.3, 0.9],
        [0.9, 0.6, 0.7],
    ]
)
BACKGROUND = 0.1
SIZES = {"training": 8_000, "calibration": 8_000, "scoring": 2_000}  # what "all" means; more can be requested
ELSEWHERE = 32  # draws of the cells that are not sources
CLAMPED = ("base", "xor", "shared", "partial")  # whose images are cut to [0, 1], as they always were


class Parameters(contract.Parameters):
    """What is planted, and how hard it is to see."""

    variant: Literal["base", "xor", "shared", "partial", "graded", "suppressor", "copies", "and", "rdnxor"] = "base"
    grid: int = Field(default=4, ge=2, le=16)  # cells along the image's side
    alphabet: int = Field(default=6, ge=2, le=LARGEST_ALPHABET)  # |A| = |B|
    noise: float = Field(default=0.1, ge=0.0, le=4.0)  # standard deviation of each pixel's noise
    distractors: float = Field(default=1.0, ge=0.0, le=1.0)  # their brightness relative to the other glyphs'
    p: float = Field(default=0.8, gt=0.0, le=1.0)  # of `partial` and `copies`: how often the noisy glyph is right
    cells: int = Field(default=6, ge=1)  # of `graded`: how many cells are informative of the label
    contrast: float = Field(default=1.0, gt=0.0, le=4.0)  # of all glyphs but the distractors'
    common: float = Field(default=8.0, gt=0.0, le=64.0)  # of `suppressor`: the noise of both cells in glyphs' contrasts
    background: Background = "none"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """Refuse what cannot be planted, in one line."""
        if self.p < 1 / self.alphabet:
            raise ValueError(f"p={self.p:g} is below chance, 1/{self.alphabet}: choose {1 / self.alphabet:.3g} to 1")
        if self.variant == "graded" and self.cells > MAX_SOURCES:
            raise ValueError(
                f"cells={self.cells} have 2^{self.cells} subsets, too many for Shapley values: "
                f"choose 1 to {MAX_SOURCES}"
            )
        if self.variant == "rdnxor" and self.alphabet % 2:
            raise ValueError(f"alphabet={self.alphabet} has no halves for rdnxor: choose an even number")
        if self.variant == "suppressor" and self.noise == 0:
            raise ValueError("noise=0 leaves the suppressor's common noise no density: choose a noise above 0")
        if self.source_count + 1 > self.grid**2:
            raise ValueError(f"grid={self.grid} has no room for {self.source_count + 1} cells: choose a larger grid")
        return self

    @property
    def source_count(self) -> int:
        """How many cells are informative of the label, K."""
        return {"base": 1, "graded": self.cells}.get(self.variant, 2)

    @property
    def distribution(self) -> Sources:
        """The joint distribution of a discrete variant."""
        return sources(self.variant, self.alphabet, self.p, self.cells)


@dataclass(frozen=True)
class Plan:
    """What each cell of each image shows, before it is drawn; G = grid * grid cells in row-major order."""

    label: Tensor  # (N,)
    second: Tensor  # (N,) the label of the second head
    role: Tensor  # (N, G) index into ROLES
    colour: Tensor  # (N, G) index into COLOURS
    glyph: Tensor  # (N, G) index into `glyphs()`: alphabet A, then B
    places: Tensor  # (N, K) the sources' cells, in the order of their distribution
    noise: Tensor  # (N, 3, H, W)
    common: Tensor  # (N, 8, 8) what signal and suppressor share, 0 in all other variants
    background: Tensor  # (N, 3, H, W), or (N, 0) where there is none

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: slice) -> Plan:
        return Plan(*(getattr(self, each.name)[index] for each in fields(self)))


class Planted(contract.Data[Parameters]):
    """Glyphs in a grid of cells, with the information of each cell."""

    name = "planted"
    title = "Planted information"
    targets = "label"

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
        x = render(self.parameters, plan)
        truth = state_truth(self.parameters, plan, x)
        ids = tuple(f"{split}-{index:05d}" for index in range(count))
        return Samples(x, plan.label, ids, _pixels(truth.cells["signal"]), truth)

    def network_beliefs(self, probe: Probe, normalise: Normalise, split: Split, count: int) -> dict[str, Tensor]:
        """The network's output for each subset of the sources, and for the cells that are not sources."""
        plan = draw_plan(self.parameters, split, count)
        x, network = render(self.parameters, plan), asked.Asked(probe, normalise)
        every = [_asked(self.parameters, network, plan[index : index + 1], x[index]) for index in range(count)]
        beliefs, errors, outside = (torch.stack(column) for column in zip(*every, strict=True))
        return {"beliefs": beliefs, "errors": errors, "outside": outside}


def draw_plan(parameters: Parameters, split: Split, count: int) -> Plan:
    """Draw labels, positions, glyphs and noise, each sample from a generator of its own."""
    samples = [_draw_sample(parameters, split, index) for index in range(count)]
    return Plan(*(torch.stack(column) for column in zip(*samples, strict=True)))


def seed_of(*names: object) -> int:
    """A seed from names."""
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _draw_sample(parameters: Parameters, split: Split, index: int) -> tuple[Tensor, ...]:
    """One sample's entries of a plan."""
    generator = torch.Generator().manual_seed(seed_of("planted", split, index))
    size, cells, side = parameters.alphabet, parameters.grid**2, CELL * parameters.grid
    place = torch.randperm(cells, generator=generator)  # (G,)
    label, second, free = torch.randint(size, (3,), generator=generator)
    role = torch.zeros(cells, dtype=torch.int64)  # (G,)
    glyph = torch.randint(2 * size, (cells,), generator=generator)  # (G,) distractors come from both alphabets
    places = place[1 : 1 + parameters.source_count]
    common = torch.zeros(CELL, CELL)
    if parameters.variant == "suppressor":
        left = place[place % parameters.grid < parameters.grid - 1][0]
        places = torch.stack([left, left + 1])
        place = place[~torch.isin(place, places)]
        shown = label.expand(2)
        common = parameters.common * parameters.contrast * torch.randn(CELL, CELL, generator=generator)
    elif parameters.variant == "xor":
        shown = torch.stack([free, (label - free) % size])
    elif parameters.variant in CLAMPED:
        shown = label.repeat(len(places))
        if parameters.variant == "partial":
            right = torch.rand((), generator=generator) < parameters.p
            wrong = (label + 1 + torch.randint(size - 1, (), generator=generator)) % size
            shown[1] = torch.where(right, label, wrong)
    else:
        label, shown = _drawn(parameters.distribution, generator)
    role[place[0]], glyph[place[0]] = ROLES.index("redundant"), size + second
    role[places], glyph[places] = _roles(parameters), shown
    colour = role.clone()
    colour[places] = source_colours(parameters)
    noise = torch.randn((3, side, side), generator=generator)
    behind = background(parameters.background, side, seed_of("planted", "background", split, index))
    return label, second, role, colour, glyph, places, noise, common, behind


def _drawn(distribution: Sources, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A label and the glyphs of its sources (K,)."""
    label = torch.multinomial(distribution.prior, 1, generator=generator)[0]
    shown: list[Tensor] = []
    for table in distribution.groups:
        number = int(torch.multinomial(table[label].flatten(), 1, generator=generator))
        shown += torch.unravel_index(torch.tensor(number), table.shape[1:])
    return label, torch.stack(shown)


def _roles(parameters: Parameters) -> Tensor:
    """The sources' roles, (K,)."""
    if parameters.variant == "graded":
        names = ["source"] * (parameters.cells - 1) + ["signal"]
    else:
        names = ["signal", {"partial": "hint", "suppressor": "suppressor"}.get(parameters.variant, "signal")]
    return torch.tensor([ROLES.index(name) for name in names[: parameters.source_count]])


def source_colours(parameters: Parameters) -> Tensor:
    """The sources' colours, (K,): two signals look alike, the cells of `graded` all differ."""
    if parameters.variant == "graded":
        return torch.tensor([*range(3, 2 + parameters.cells), ROLES.index("signal")])
    return _roles(parameters).clamp_max(3)


def state_truth(parameters: Parameters, plan: Plan, x: Tensor) -> Truth:
    """Which cells hold what, and the pointwise information of each in nats, as the images x show it."""
    shape = (-1, parameters.grid, parameters.grid)
    cells = {name: (plan.role == index).reshape(shape) for index, name in enumerate(ROLES) if index}
    cells = {name: each for name, each in cells.items() if each.any()}
    beliefs = label_beliefs(parameters, plan, x)
    truth = Truth((parameters.grid, parameters.grid), cells, {}, plan.places, beliefs)
    claims = {name: truth.placed(nats) for name, nats in of_class(beliefs, plan.label).items()}
    place = (plan.role == ROLES.index("redundant")).nonzero()[:, 1:]  # (N, 1)
    size = parameters.alphabet
    found = likelihood(parameters, plan, x, place, size).log_softmax(2) + math.log(size)  # (N, 1, B) i(x_k; r)
    second = torch.zeros(len(plan), parameters.grid**2, dtype=torch.float64)
    second.scatter_(1, place, found[:, 0].gather(1, plan.second[:, None]))
    redundant = torch.where(second.abs() < ROUNDING, 0.0, second).reshape(shape)
    of_z = {"total": claims["marginal"] + redundant, "decision": claims["marginal"], "redundant": redundant}
    return replace(truth, information={name: nats.float() for name, nats in (of_z | claims).items()})


def label_beliefs(parameters: Parameters, plan: Plan, x: Tensor) -> Tensor:
    """p(label | x_S) for every subset of the sources, (N, 2^K, A): what an ideal observer of images x concludes."""
    if parameters.variant == "suppressor":
        return suppressed(parameters).beliefs(*inks(parameters, plan, x).unbind(1))
    return parameters.distribution.beliefs(likelihood(parameters, plan, x, plan.places, 0))


def likelihood(parameters: Parameters, plan: Plan, x: Tensor, places: Tensor, first: int) -> Tensor:
    """log p(cell | glyph) of some cells (N, K) for the alphabet whose glyphs begin at `first`, (N, K, A).

    Up to a constant; the colours are those that the plan gives the cells.
    """
    size = parameters.alphabet
    if parameters.noise == 0:
        return certain(plan.glyph.gather(1, places) - first, size)
    seen = patches(x - _behind(plan), parameters.grid)  # (N, G, 3, 8, 8)
    here = torch.arange(len(plan))[:, None]
    colour = COLOURS[plan.colour][here, places]  # (N, K, 3)
    return glyph_likelihood(parameters, seen[here, places], colour, parameters.contrast, first, size)


def glyph_likelihood(
    parameters: Parameters, cells: Tensor, colour: Tensor, ink: float, first: int, count: int
) -> Tensor:
    """log p(pixels | glyph) less that of a bare cell, for cells (…, 3, 8, 8) in colours (…, 3), (…, count).

    A glyph's pixels are bare or inked, so its likelihood is the sum of their ratios where it has ink.
    """
    pixels, above = cells.double(), (colour - BACKGROUND)[..., None, None].double()
    bare, inked = (
        log_normal(pixels, BACKGROUND + strength * above, parameters.noise, clamped=parameters.variant in CLAMPED)
        for strength in (0.0, ink)
    )
    shapes = glyphs(parameters.alphabet)[first : first + count].flatten(1).double()  # (count, 64) of 0 and 1
    return (inked - bare).sum(-3).flatten(-2) @ shapes.T


def suppressed(parameters: Parameters) -> Suppressed:
    """The Gaussian pair of `suppressor`, measured along its cells' colours: in ink."""
    strength = (COLOURS[source_colours(parameters)] - BACKGROUND).double().norm(dim=1)  # (2,)
    first, second = (parameters.noise / strength).tolist()
    ink = parameters.contrast * glyphs(parameters.alphabet)[: parameters.alphabet].flatten(1).double()
    return Suppressed(ink, parameters.common * parameters.contrast, (first, second))


def inks(parameters: Parameters, plan: Plan, x: Tensor) -> Tensor:
    """How much ink the pixels of both sources show, (N, 2, 64): their colour above the ground along their role's."""
    seen = patches(x - _behind(plan), parameters.grid)  # (N, G, 3, 8, 8)
    here = torch.arange(len(plan))[:, None]
    colour = (COLOURS[plan.colour] - BACKGROUND)[here, plan.places].double()  # (N, 2, 3)
    along = ((seen[here, plan.places].double() - BACKGROUND) * colour[..., None, None]).sum(2)  # (N, 2, 8, 8)
    return along.flatten(2) / colour.square().sum(2, keepdim=True)


def ideal_accuracies(parameters: Parameters, plan: Plan) -> tuple[float, float]:
    """How often an ideal observer who knows the places is right about the label and about the second label."""
    x = render(parameters, plan)
    place = (plan.role == ROLES.index("redundant")).nonzero()[:, 1:]  # (N, 1)
    first = label_beliefs(parameters, plan, x)[:, -1].argmax(1)
    second = likelihood(parameters, plan, x, place, parameters.alphabet)[:, 0].argmax(1)
    return float((first == plan.label).float().mean()), float((second == plan.second).float().mean())


def _asked(parameters: Parameters, network: asked.Asked, plan: Plan, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of one image: p_net(c | x_S) and its standard error (2^K, C), and p_net(c | all sources, no other cell) (C,)."""
    random = torch.Generator().manual_seed(seed_of("planted", "asked", plan.glyph.tolist(), plan.role.tolist()))
    outside = network(_elsewhere(parameters, plan, random)).double().mean(0)
    places = plan.places[0]
    if parameters.variant == "suppressor":
        beliefs, errors = asked.drawn(network, x, places, _suppressor_cells(parameters, plan, x, random))
        return beliefs, errors, outside
    glyph, shown = plan.glyph[0, places], pictures(parameters, plan)
    known = likelihood(parameters, plan, x[None], plan.places, 0)[0]  # (K, A)
    answers = asked.every_answer(network, asked.Shown(x, places, shown))
    if answers is not None:
        beliefs = asked.enumerated(parameters.distribution, known, glyph, answers)
        return beliefs, torch.zeros_like(beliefs), outside
    strata = asked.drawn_cells(parameters.distribution, known, glyph, shown, random)
    beliefs, errors = asked.drawn(network, x, places, strata)
    return beliefs, errors, outside


def pictures(parameters: Parameters, plan: Plan) -> Tensor:
    """How the sources' cells of one image look with each glyph, (K, A, 3, 8, 8)."""
    size, places = parameters.alphabet, plan.places[0]
    alike = plan.glyph.repeat(size, 1)
    alike[:, places] = torch.arange(size)[:, None]  # image a shows glyph a in all sources
    return patches(render(parameters, replace(plan, glyph=alike)), parameters.grid)[:, places].transpose(0, 1)


def _elsewhere(parameters: Parameters, plan: Plan, random: torch.Generator) -> Tensor:
    """One image with other glyphs in all cells that are not sources, (ELSEWHERE, 3, H, W)."""
    size, shape = parameters.alphabet, (ELSEWHERE, parameters.grid**2)
    glyph = torch.randint(2 * size, shape, generator=random)
    second = torch.randint(size, shape, generator=random) + size
    glyph = torch.where(plan.role == ROLES.index("redundant"), second, glyph)
    glyph[:, plan.places[0]] = plan.glyph[:, plan.places[0]]
    return render(parameters, replace(plan, glyph=glyph))


def _suppressor_cells(
    parameters: Parameters, plan: Plan, x: Tensor, random: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """For every subset of signal and suppressor: p(y | x_S), and both cells (A, n, 2, 3, 8, 8) given y.

    Given the label and one cell, the common noise n is Gaussian: of cell k with ink i_k, noise a_k and t that of n, its
    mean is r (i_k - c glyph_y) and its variance r a_k^2, r = t^2 / (t^2 + a_k^2), where the suppressor's glyph is 0.
    """
    pair, size = suppressed(parameters), parameters.alphabet
    seen = inks(parameters, plan, x[None])[0]  # (2, P)
    beliefs = pair.beliefs(seen[:1], seen[1:])[0]  # (4, A)
    drawn = torch.stack([pair.glyphs, torch.zeros_like(pair.glyphs)])  # (2, A, P) what is there but n
    own = patches(x[None], parameters.grid)[0, plan.places[0]]  # (2, 3, 8, 8)
    rest = own - _coloured(parameters, seen.reshape(2, CELL, CELL).float())  # pixel noise across the colour, background
    along = (seen - drawn[:, plan.label[0]] - plan.common.flatten()).reshape(2, 1, 1, -1)  # the pixel noise along it
    for number, belief in enumerate(beliefs):
        mean, variance = torch.zeros_like(pair.glyphs), torch.tensor(pair.common**2)  # of n given nothing
        for cell in range(2):
            if number == 1 << cell:
                r = pair.common**2 / (pair.common**2 + pair.noise[cell] ** 2)
                mean, variance = r * (seen[cell] - drawn[cell]), torch.tensor(r * pair.noise[cell] ** 2)
        noise = mean[:, None] + variance.sqrt() * torch.randn(
            (size, asked.draws(2, size), mean.shape[1]), generator=random, dtype=torch.float64
        )
        ink = drawn[:, :, None] + noise + along  # (2, A, n, P)
        cells = _coloured(parameters, ink.reshape(*ink.shape[:-1], CELL, CELL).float()) + rest[:, None, None]
        for cell in range(2):
            if number >> cell & 1:
                cells[cell] = own[cell]
        yield belief, cells.permute(1, 2, 0, 3, 4, 5)


def _coloured(parameters: Parameters, ink: Tensor) -> Tensor:
    """Ink (2, …, 8, 8) of signal and suppressor in their colours above the ground, (2, …, 3, 8, 8)."""
    colour = (COLOURS[source_colours(parameters)] - BACKGROUND).reshape(2, *[1] * (ink.dim() - 3), 3, 1, 1)
    return colour * ink.unsqueeze(-3)


def render(parameters: Parameters, plan: Plan) -> Tensor:
    """Draw a plan: glyphs in their cell's colour on a dark ground, with noise; some variants within [0, 1]."""
    grid = parameters.grid
    strength = torch.full((len(ROLES),), parameters.contrast)
    strength[0], strength[ROLES.index("suppressor")] = parameters.distractors, 0.0
    ink = glyphs(parameters.alphabet)[plan.glyph] * strength[plan.role][..., None, None]  # (N, G, 8, 8)
    if parameters.variant == "suppressor":
        ink[torch.arange(len(ink))[:, None], plan.places] += plan.common[:, None]
    colour = COLOURS[plan.colour] - BACKGROUND  # (N, G, 3)
    cells = BACKGROUND + colour[..., None, None] * ink[:, :, None]  # (N, G, 3, 8, 8)
    image = unpatched(cells, grid) + _behind(plan) + parameters.noise * plan.noise
    return image.clamp(0.0, 1.0) if parameters.variant in CLAMPED else image


def _behind(plan: Plan) -> Tensor | float:
    return plan.background if plan.background.numel() else 0.0


def patches(x: Tensor, grid: int) -> Tensor:
    """Images as their cells, (N, G, 3, 8, 8)."""
    return x.reshape(-1, 3, grid, CELL, grid, CELL).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def unpatched(cells: Tensor, grid: int) -> Tensor:
    """Cells (N, G, 3, 8, 8) as images, (N, 3, H, W)."""
    image = cells.reshape(-1, grid, grid, 3, CELL, CELL).permute(0, 3, 1, 4, 2, 5)  # (N, 3, h, 8, w, 8)
    return image.reshape(-1, 3, CELL * grid, CELL * grid)


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
