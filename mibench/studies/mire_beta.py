"""What beta does to MIRE: separation, claimed nats and decisions kept, where the truth is known.

Each fit is one seed of one kind of mask at one beta on the planted images; its maps of images that it never saw are
read cell by cell and held against the truth. Intervals are Student's over seeds.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import t as student
from torch import Tensor

from mibench import registry
from mibench.contract import FittedExplainer
from mibench.task import Task, TaskSpec, make_task

NAME = "mire-beta"
COMMAND = f"python -m mibench study {NAME}"
QUANTITIES = ("total", "decision", "redundant")
CELLS = ("signal", "redundant", "others")
BETAS = (0.05, 0.2, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 50.0)
FEW_BETAS = (0.5, 2.0, 6.0)
SEEDS = 5
TRAINING = "epochs=6"  # of 4,000 images in batches of 64: the maps change little after


@dataclass(frozen=True)
class Kind:
    """One way to mask, with the betas at which it is tried."""

    title: str
    spec: str  # of the method, to which beta and the length of training are added
    betas: Sequence[float]


KINDS = (
    Kind("multiply, as published", "mire", BETAS),
    Kind("noise (`mire-noise`)", "mire-noise", BETAS),
    Kind("multiply, critic of its own, no reward", "mire[separate_critic=true,reward=none]", FEW_BETAS),
    Kind("noise, one critic, with reward", "mire[mask=noise,noise=0.5]", FEW_BETAS),
    Kind("noise of full deviation", "mire-noise[noise=1]", FEW_BETAS),
)


@dataclass(frozen=True)
class Fit:
    """The figures of one fit, by name."""

    kind: str
    beta: float
    seed: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """A mean over seeds with its interval."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half:.2f}" if math.isfinite(self.half) else f"{self.mean:.2f}"


def write(folder: Path, *, quick: bool, say: Callable[[str], None]) -> list[Path]:
    """Fit, measure, write the CSV and the page."""
    size, seeds = ((512, 128), range(1)) if quick else ((4000, 1000), range(SEEDS))
    task = make_task(TaskSpec("planted", "planted", samples=size[1], calibration=size[0]))
    fits = []
    for kind in KINDS:
        for beta in FEW_BETAS[1:2] if quick else kind.betas:
            for seed in seeds:
                fits.append(measure(task, kind, beta, seed))
                say(f"{kind.title}, beta {beta:g}, seed {seed}: {_short(fits[-1])}")
    table, page = folder / f"{NAME}.csv", folder / f"{NAME}.md"
    write_table(fits, table)
    page.write_text(describe(fits, task), encoding="utf-8")
    return [table, page]


def measure(task: Task, kind: Kind, beta: float, seed: int) -> Fit:
    """Fit once and read the maps of the scoring images."""
    name, _, given = kind.spec.partition("[")
    parameters = ",".join(part for part in (given.rstrip("]"), f"beta={beta:g}", TRAINING) if part)
    explainer = registry.method(f"{name}[{parameters}]").explainer
    assert isinstance(explainer, FittedExplainer)
    explainer.restore(task.probe, explainer.fit(task.probe, task.calibration, seed))
    scoring, truth = task.scoring, task.scoring.truth
    assert truth is not None
    shown = explainer.explain(task.probe, scoring.x, task.target, range(len(scoring)))
    where = {name: truth.cells[name] for name in ("signal", "redundant")}
    where["others"] = ~(where["signal"] | where["redundant"])
    grids = {name: on_grid(task, map_, truth.grid) for name, map_ in shown.maps.items()}  # (N, h, w)
    figures = {f"{name} at {cell}": float(grid[where[cell]].mean()) for name, grid in grids.items() for cell in CELLS}
    for name in QUANTITIES:
        above = grids[name][where["signal"]] > grids[name][where["redundant"]]
        figures[f"{name}: signal above redundant"] = float(above.double().mean())
    figures["decisions kept"] = float(shown.facts["kept"].mean())
    return Fit(kind.title, beta, seed, figures)


def on_grid(task: Task, map_: Tensor, grid: tuple[int, int]) -> Tensor:
    """The grid (N, h, w) of which a map (N, H, W) is the upsampling."""
    each = torch.eye(grid[0] * grid[1]).reshape(-1, *grid)
    forth = task.probe.upsample(each).flatten(1).double()  # (K, H W)
    back: Tensor = torch.linalg.pinv(forth)
    return (map_.flatten(1).double() @ back).reshape(-1, *grid)


def write_table(fits: Iterable[Fit], file: Path) -> None:
    """One line a figure of a fit."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("mask", "beta", "seed", "figure", "value"))
        for fit in fits:
            for figure, value in fit.figures.items():
                writer.writerow((fit.kind, f"{fit.beta:g}", fit.seed, figure, f"{value:.6g}"))


def summarise(fits: Sequence[Fit], figure: str) -> Summary:
    """Mean and half the 95 % interval over seeds."""
    values = torch.tensor([fit.figures[figure] for fit in fits], dtype=torch.float64)
    if len(values) < 2:
        return Summary(float(values.mean()), math.nan)
    quantile = float(student.ppf(0.975, len(values) - 1))
    return Summary(float(values.mean()), quantile * float(values.std()) / math.sqrt(len(values)))


@dataclass(frozen=True)
class Claim:
    """Something that must hold of a figure, with a bound that it must keep."""

    figure: str
    low: float = -math.inf
    high: float = math.inf

    def holds(self, fits: Sequence[Fit]) -> bool:
        """Whether the mean over seeds keeps the bound."""
        return self.low <= summarise(fits, self.figure).mean <= self.high

    def __str__(self) -> str:
        if self.low == -math.inf:
            return f"{self.figure} at most {self.high:g}"
        return f"{self.figure} at least {self.low:g}" + (f" and at most {self.high:g}" if self.high < math.inf else "")


NATS = math.log(6)
TOTAL_CLAIMS = (
    *(Claim(f"total at {cell}", round(0.88 * NATS, 3), round(1.12 * NATS, 3)) for cell in ("signal", "redundant")),
    Claim("total at others", -0.05, 0.05),
)
NOISE_CLAIMS = (
    Claim("decision at signal", low=1.4),
    Claim("decision at redundant", -0.1, 0.1),
    Claim("decision at others", -0.1, 0.1),
    Claim("redundant at redundant", low=1.4),
    Claim("redundant at signal", high=0.15),
    Claim("decision: signal above redundant", low=0.99),
    Claim("redundant: signal above redundant", high=0.01),
    Claim("decisions kept", low=0.98),
)
PLATEAU = (1.0, 6.0)  # the betas for all of which the noisy mask must keep its claims


def chosen(fits: Iterable[Fit], kind: Kind, low: float = 0.0, high: float = math.inf) -> dict[float, list[Fit]]:
    """The fits of one kind by beta, from `low` to `high`."""
    found: dict[float, list[Fit]] = {}
    for fit in fits:
        if fit.kind == kind.title and low <= fit.beta <= high:
            found.setdefault(fit.beta, []).append(fit)
    return found


def results(by_beta: Mapping[float, Sequence[Fit]]) -> Iterable[str]:
    """A table: one line a beta."""
    yield "| beta | total | decision | redundant | mask | signal above redundant | decisions kept |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for beta, fits in sorted(by_beta.items()):
        cells = [
            " / ".join(str(summarise(fits, f"{name} at {cell}")) for cell in CELLS) for name in (*QUANTITIES, "mask")
        ]
        order = ", ".join(f"{summarise(fits, f'{name}: signal above redundant').mean:.1%}" for name in QUANTITIES)
        kept = summarise(fits, "decisions kept")
        yield f"| {beta:g} | {' | '.join(cells)} | {order} | {kept.mean:.3f} |"


def verdicts(claims: Iterable[Claim], by_beta: Mapping[float, Sequence[Fit]]) -> Iterable[str]:
    """A list: each claim, and the betas at which it fails."""
    for claim in claims:
        failing = {beta: fits for beta, fits in sorted(by_beta.items()) if not claim.holds(fits)}
        where = ", ".join(f"{beta:g} ({summarise(fits, claim.figure).mean:.3g})" for beta, fits in failing.items())
        yield f"- {claim}: " + (f"**missed** at beta {where}" if failing else "met")


def describe(fits: Sequence[Fit], task: Task) -> str:
    """The page."""
    published, noisy, *ablations = KINDS
    seeds = len({fit.seed for fit in fits})
    plateau = chosen(fits, noisy, *PLATEAU)
    default = min(chosen(fits, published), key=lambda beta: abs(beta - 0.5))
    here = chosen(fits, published)[default]
    settings = [
        "# What beta does to MIRE",
        f"Made by `{COMMAND}`; every number is in [{NAME}.csv]({NAME}.csv), one line a figure of a fit.",
        f"Planted images (`planted`, base): the signal cell and the redundant cell hold log 6 = {NATS:.2f} nats each, "
        "the others none. The decision needs the signal alone. So the truth is, at signal / redundant / others: total "
        f"{NATS:.2f} / {NATS:.2f} / 0, decision {NATS:.2f} / 0 / 0, redundant 0 / {NATS:.2f} / 0. Each fit learns from "
        f"{len(task.calibration):,} images ({TRAINING}) and is read on {len(task.scoring):,} others; figures are means "
        f"over {seeds} seed{'s' * (seeds != 1)}" + (" ± half a 95 % interval." if seeds > 1 else "."),
        "`mask_cost=sum` with beta is, to the letter, `mask_cost=mean` with K beta; here K = 16, so the paper's 0.5 "
        "read as a sum is beta 8, between the lines of 6 and 10.",
    ]
    planned = sum(len(kind.betas) for kind in KINDS) * SEEDS
    if len(fits) < planned:
        settings.insert(2, f"This page shows {len(fits)} of the study's {planned} fits; the command does them all.")
    reading = [
        "## As published",
        *_block(results(chosen(fits, published))),
        _published(here, default),
        "## With noise",
        *_block(results(chosen(fits, noisy))),
        "Noise takes information away where dimming only makes it unfamiliar; a critic of its own learns what is left, "
        "and a mask that the critic does not pay has no reason to keep what the decision does not need. Noise of "
        "half the features' own deviation is enough to hide a cell and disturbs the network less than all of it.",
        f"For every beta from {PLATEAU[0]:g} to {PLATEAU[1]:g}:",
        *_block(verdicts(NOISE_CLAIMS, plateau)),
        "Both masks leave the total alone. For every beta:",
        *_block(f"{line} ({published.title})" for line in verdicts(TOTAL_CLAIMS, chosen(fits, published))),
        *_block(f"{line} ({noisy.title})" for line in verdicts(TOTAL_CLAIMS, chosen(fits, noisy))),
        "## Which part does it",
        *_block(leftovers(fits)),
    ]
    for kind in ablations:
        reading += [f"{kind.title} (`{kind.spec}`):", *_block(results(chosen(fits, kind)))]
    return "\n\n".join([*settings, *reading]) + "\n"


def leftovers(fits: Sequence[Fit]) -> Iterable[str]:
    """A list: the nats that each kind of mask leaves at the redundant cell, where the decision needs none."""
    yield "The decision map at the redundant cell, where the truth is 0:\n"
    for kind in KINDS:
        found = [(beta, each) for beta, each in sorted(chosen(fits, kind).items()) if beta in FEW_BETAS]
        nats = (f"{summarise(each, 'decision at redundant').mean:.2f} at beta {beta:g}" for beta, each in found)
        yield f"- {kind.title}: {', '.join(nats) or 'not tried here'}"


def _published(fits: Sequence[Fit], beta: float) -> str:
    signal, redundant = (summarise(fits, f"decision at {cell}").mean for cell in ("signal", "redundant"))
    above = summarise(fits, "decision: signal above redundant").mean
    return (
        f"At beta {beta:g} the decision map claims {signal:.2f} nats at the signal and {redundant:.2f} at the "
        f"redundant cell, and puts the signal higher in {above:.0%} of the images. The reason is the objective: its "
        "second InfoNCE term pays the mask for whatever the critic still recognises, decisive or not. A larger beta "
        "separates the two, because the cost then outweighs that pay where the decision adds nothing to it; but "
        "multiplying by a small lambda hides from the critic what it takes from no one, so the decision's nats fall "
        "with beta as well."
    )


def _block(lines: Iterable[str]) -> list[str]:
    return ["\n".join(lines)]


def _short(fit: Fit) -> str:
    decision = " / ".join(f"{fit.figures[f'decision at {cell}']:.2f}" for cell in CELLS)
    return f"decision {decision}, kept {fit.figures['decisions kept']:.3f}"
