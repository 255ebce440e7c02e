"""Which truth does each explainer come closest to, whom does loud noise stop, and how sure are the yardsticks?

Planted images with one network each, one seed for what is fitted, each explainer with its defaults (docs/methods.md).
The truth is the explained network's own: what it makes of hidden cells. Intervals are Student's over samples: they say
how another draw of images would move a figure, and nothing of other networks or fits. *Share* is a role's part of a
map's positive values, read on the grid of cells.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from scipy.stats import kendalltau
from torch import Tensor

from leaderboards.studies.lines import Line, publish
from leaderboards.studies.measuring import evidence_of
from leaderboards.studies.truth import atoms, page
from mibench.data import planted, searching
from mibench.errors import ModelError
from mibench.metrics import claims, information
from mibench.metrics.claims import RESOLUTION, shares, tau, true
from mibench.plugins import registry
from mibench.plugins.contract import CLAIMS, Claim, Evidence, Metric, Scene
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task
from mibench.statistics import ladder

NAME = "truth"
COMMAND = f"python -m mibench study {NAME}"
SAMPLES, CALIBRATION = 32, 512
VARIANTS = ("base", "xor", "shared", "partial", "graded", "suppressor", "copies", "and", "rdnxor")
FAMILY = tuple("planted" if variant == "base" else f"planted[variant={variant}]" for variant in VARIANTS)
NETWORKS = tuple(
    f"{network}[variant={variant}]" if variant != "base" else network
    for network in ("planted-residual", "planted-vgg", "planted-vit")
    for variant in ("base", "xor", "graded", "suppressor")
)
RUNGS = (0.5, 0.8, 1.1, 1.4)
NOTHING_TO_SHOW = ("constant", "inverted", "region", "truth")  # controls that need another row, or what is to be found
SEARCHED = 1000  # images that estimate what an ideal observer of a rung knows
RESOLUTIONS = (0.02, RESOLUTION, 0.1)
RANKS: Mapping[Claim, type[claims.InformationRank]] = {
    "marginal": claims.RankMarginal,
    "conditional": claims.RankConditional,
    "additive": claims.RankAdditive,
}
PROFILES: Mapping[Claim, type[claims.Profile]] = {
    "marginal": claims.ProfileMarginal,
    "conditional": claims.ProfileConditional,
    "additive": claims.ProfileAdditive,
}
ERRORS = ("information-error-2", "information-error", "estimator-error")


def write(folder: Path, *, quick: bool, say: Callable[[str], None]) -> list[Path]:
    """Measure all tasks and the atoms, write both tables and the page."""
    if not quick:
        atoms.write(folder / atoms.FILE)
    return [*publish(folder, measure(quick), lambda lines: page.describe(lines, folder), say), folder / atoms.FILE]


def measure(quick: bool) -> Iterator[Line]:
    """Every line of the table."""
    rows = rows_of(("random", "encoder", "occlusion", "ig")) if quick else rows_of()
    samples = 4 if quick else SAMPLES
    for spec in ("planted[variant=graded]", "planted[variant=suppressor]") if quick else (*FAMILY, *NETWORKS):
        yield from of_task(TaskSpec(spec, "", samples=samples, calibration=CALIBRATION), rows)
    if not quick:
        yield from climb(RUNGS, TaskSpec("", "", samples=samples, calibration=CALIBRATION), rows)


def rows_of(methods: Sequence[str] = ()) -> tuple[str, ...]:
    """The explainers, all where none is named, with the controls whose maps are of the image or the class."""
    return tuple(methods or (name for name in registry.names("methods") if name not in NOTHING_TO_SHOW))


def of_task(spec: TaskSpec, rows: Sequence[str]) -> Iterator[Line]:
    """One network: its own truth, and what each explainer's main map makes of it."""
    try:
        task = make_task(spec)
    except ModelError as error:  # a network below its bar is left out by name
        yield Line(f"left out: {spec.model}", "the network", type(error).__name__, math.nan, math.nan, 0)
        return
    for figure, value in task.truth_figures.items():
        yield Line(f"network: {spec.model}", "nats", figure, value, math.nan, spec.samples)
    for row in rows:
        try:
            scene, evidence = evidence_of(spec, (row,))
        except Exception as error:  # an explainer that cannot explain this network is left out by name
            yield Line(f"left out: {spec.model}", row, type(error).__name__, math.nan, math.nan, 0)
            continue
        yield from of_row(spec.model, scene, row, evidence[row])


def of_row(task: str, scene: Scene, row: str, evidence: Evidence) -> Iterator[Line]:
    """One explainer on one network."""
    for role, share in roles(scene, evidence).items():
        yield from known(f"shares: {task}", row, role, share)
    yield from (each for claim, rank in RANKS.items() for each in scored(f"rank: {task}", scene, row, evidence, rank()))
    profiles = {claim: one(profile(), scene, evidence) for claim, profile in PROFILES.items()}
    for claim, profile in profiles.items():
        yield from known(f"profile: {task}", row, claim, profile)
    for first, second in itertools.combinations(CLAIMS, 2):
        difference = profiles[first] - profiles[second]
        yield from known(f"closeness: {task}", row, f"{first} less {second}", difference)
    for name in ERRORS:
        metric = registry.metric(name)
        if all(need in ("truth", *(f"map:{each}" for each in evidence.siblings)) for need in metric.needs):
            yield from known(f"errors: {task}", row, name, one(metric, scene, evidence))
    yield from scored(f"auc: {task}", scene, row, evidence, information.DecisionAUC())
    if task == "planted[variant=graded]":
        values, truth = information.on_cells(scene, evidence.raw.double()), true(scene, evidence, "additive")
        for resolution in RESOLUTIONS:
            yield from known("resolution", row, f"{resolution:g} nats", tau(values, truth, resolution))


def known(question: str, row: str, figure: str, values: Tensor) -> Iterator[Line]:
    """A line, unless no sample has a value."""
    if not values.isnan().all():
        yield Line.of(question, row, figure, values)


def scored(question: str, scene: Scene, row: str, evidence: Evidence, metric: Metric) -> Iterator[Line]:
    """A line of one metric."""
    yield from known(question, row, metric.name, one(metric, scene, evidence))


def one(metric: Metric, scene: Scene, evidence: Evidence) -> Tensor:
    """A metric's score of each sample, (N,)."""
    return metric.score(scene, {"row": evidence})["row"].double()


def roles(scene: Scene, evidence: Evidence) -> dict[str, Tensor]:
    """The share of each role of cells in a map, (N,) each."""
    truth = information.known(scene)
    found = shares(truth, information.on_cells(scene, evidence.raw.double()))
    return dict(zip([*truth.cells, "distractors"], found.unbind(1), strict=True))


def climb(rungs: Sequence[float], spec: TaskSpec, rows: Sequence[str]) -> Iterator[Line]:
    """Decision AUC on every rung, the ideal observer's too, and the threshold of each explainer."""
    knows, scores = [], dict[str, list[Tensor]]()
    for noise in rungs:
        on = TaskSpec(rung(noise), "", samples=spec.samples, calibration=spec.calibration)
        knowledge = ideal(noise)
        for figure, values in knowledge.items():
            yield Line.of("rungs", f"noise {noise:g}", figure, values)
        try:
            yield Line.of("rungs", f"noise {noise:g}", "network, accuracy", [make_task(on).accuracy])
        except ModelError:  # below its bar: the rung is left out
            continue
        knows.append(float(knowledge["searching, nats"].mean()))
        for row in rows:
            try:
                scene, evidence = evidence_of(on, (row,))
            except Exception:
                continue
            values = one(information.DecisionAUC(), scene, evidence[row])
            scores.setdefault(row, []).append(values)
            yield from known("ladder", row, f"noise {noise:g}", values)
    for row, found in scores.items():
        if len(found) == len(knows) > 2 and torch.stack(found).nanmean(1).isfinite().all():
            yield from readout(row, knows, torch.stack(found))


def rung(noise: float) -> str:
    """The network of a rung: one cell is informative of the label, and right in 95 %."""
    return f"planted[cells=1,grid=3,noise={noise:g},variant=graded]"


def readout(row: str, knows: Sequence[float], samples: Tensor) -> Iterator[Line]:
    """An explainer's threshold: its line's half is half of the percentile interval; `censored` is -1, 0 or 1."""
    found = ladder.threshold(knows, samples.nanmean(1).numpy())
    low, high = ladder.interval(knows, samples.numpy())
    side = {"below": -1.0, "": 0.0, "above": 1.0}[found.censored]
    yield Line("threshold", row, "nats", found.x, (high - low) / 2, samples.shape[1])
    yield Line("threshold", row, "censored", side, math.nan, samples.shape[1])


def ideal(noise: float) -> dict[str, Tensor]:
    """What is known of the label by Bayes' rule from the image alone, and by an observer who is given the places."""
    parameters = planted.Parameters(variant="graded", cells=1, grid=3, noise=noise)
    plan = planted.draw_plan(parameters, "scoring", SEARCHED)
    x = planted.render(parameters, plan)
    searched = searching.posterior(parameters, plan, x).sum(2)
    given = planted.label_beliefs(parameters, plan, x)[:, -1]
    found = {}
    for name, belief in (("searching", searched), ("given the places", given)):
        chosen = belief.gather(1, plan.label[:, None])[:, 0].clamp_min(1e-12)
        found[f"{name}, nats"] = chosen.log() + math.log(parameters.alphabet)
        found[f"{name}, accuracy"] = (belief.argmax(1) == plan.label).double()
    return found


def orders(lines: Sequence[Line]) -> dict[str, float]:
    """Kendall's tau between the orders of explainers at one resolution and at the default."""
    asked = [line for line in lines if line.question == "resolution"]
    by: dict[str, dict[str, float]] = {}
    for line in asked:
        by.setdefault(line.figure, {})[line.subject] = line.mean
    default = by[f"{RESOLUTION:g} nats"]
    return {
        figure: float(kendalltau([default[row] for row in default], [means[row] for row in default]).statistic)
        for figure, means in by.items()
    }
