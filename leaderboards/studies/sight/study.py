"""Which scores see, and what fixed tables know of them: the panel by which boards order methods.

The suite `panel` runs every explainer on planted tasks and on digits, on three networks with two fits each. A score has
sight where truth, truth with more and more noise, and random maps come in this order, and no explainer is significantly
above the truth. Scores of whole pixels and the same scores on cells (`@cells`) are judged alike. `sides.toml`, written
before anything was scored, names the tasks that judge (A) and those that validate (B). From the same run come the
constants of the order, the scatter of fits and of networks, and the limit of the class check.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from leaderboards.studies.lines import Line, publish
from leaderboards.studies.sight import page, scatter
from leaderboards.studies.sight.judging import TRUTHS, VERDICTS, Judged, judged, write_verdicts
from mibench.leaderboard import reporting
from mibench.leaderboard.panels import Panel as Judgement
from mibench.leaderboard.tables import Board, board
from mibench.record.panel import FILE, Entry, Limit, Panel
from mibench.record.store import Store
from mibench.run.run import Options, run
from mibench.suites import suite as suites

COMMAND = "python -m mibench study sight"
RUNS = Path("runs")  # what is there is not computed again
CLASS_CHECK, NOISE = "random-logit", 0.02
REACT = ("gradcam", "ig", "input-x-gradient", "occlusion", "saliency")  # maps that are known to react to the class
DIGITS = 6


def write(folder: Path, *, quick: bool, say: Callable[[str], None]) -> list[Path]:
    """Run both suites, judge their scores, and write the panel, the table and the page."""
    suite, more = suites.load("panel"), suites.load("panel-images")
    if quick:
        few = {"methods": ("saliency", "occlusion", "ig"), "samples": 8, "calibration": 64}
        suite = suite.model_copy(update={**few, "seeds": 2, "tasks": suite.tasks[:2]})
        more = more.model_copy(update={**few, "tasks": more.tasks[:1]})
    places = [RUNS / f"{each.name}{'-quick' * quick}" for each in (suite, more)]
    for each, place in zip((suite, more), places, strict=True):
        run(each, Options(out=place))
    return judge(places, folder, say, quick=quick)


def judge(places: Sequence[Path], folder: Path, say: Callable[[str], None], *, quick: bool = False) -> list[Path]:
    """The panel, the table and the page of finished runs of both suites."""
    boards: list[Board] = []
    alike: dict[str, list[float]] = {}
    for place in places:
        with Store(place) as store:
            results = reporting.results_of(store)
            boards.append(board(results, with_priors(board(results, Panel()))))
            alike |= {name: blind(store, name) for name in store.about().tasks}
    files = measured(boards[0], folder, say)
    if not quick:
        write_panel(boards, folder, alike)
        files.append(FILE)
    return files


def with_priors(made: Board) -> Panel:
    """A panel that knows nothing but how fits and networks scatter: with it the run's own scores are compared."""
    found, kinds = scatter.priors(made), {(card.truth, card.network) for card in made.results.tasks}
    versions = {card.name: card.version for card in made.results.metrics}
    return Panel(
        entries=tuple(
            Entry(
                metric=name, version=version, truth=truth, network=network, random=0.0, top=1.0, top_is="nothing yet",
                prior_fits=found.get(("fits", truth, name)), prior_networks=found.get(("networks", truth, name)),
            )
            for name, version in versions.items() for truth, network in sorted(kinds)
        )
    )  # fmt: skip


def blind(store: Store, task: str) -> list[float]:
    """The mean similarity of maps that do not react to the class: a map twice, with other noise of 2 %."""
    rng, found = np.random.default_rng(0), []
    maps = reporting.row_maps(store, task)
    for row in (row for row in REACT if row in maps):
        flat = maps[row].reshape(len(maps[row]), -1).astype(float)
        flat = flat[flat.std(1) > 0]  # a constant map correlates with nothing
        if not len(flat):
            continue
        twice = [flat + NOISE * np.abs(flat).max(1, keepdims=True) * rng.normal(size=flat.shape) for _ in range(2)]
        found.append(float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*twice, strict=True)])))
    return found


def sides(folder: Path) -> dict[str, str]:
    """The side of each network."""
    written = tomllib.loads((folder / "sides.toml").read_text(encoding="utf-8"))
    return {model: side for side, models in written.items() for model in models}


def measured(made: Board, folder: Path, say: Callable[[str], None]) -> list[Path]:
    """The verdicts, the table and the page."""
    write_verdicts(every(made), folder / VERDICTS)
    lines = [*verdict_lines(made), *order_lines(made), *scatter.lines(made)]
    lines += [*page.together(lines), *scatter.medians(lines)]
    return [folder / VERDICTS, *publish(folder, lines, lambda found: page.describe(found, folder), say)]


def explainers(made: Board) -> list[str]:
    """The first map of each method."""
    origins = made.results.origins
    rows = {row.method for row in made.rows} - made.results.controls
    return sorted(row for row in rows if origins.get(row, (row, ""))[0] == row)


def planted(made: Board) -> dict[tuple[str, str], tuple[Judgement, ...]]:
    """The tasks whose truth is known."""
    known = {(card.data, card.model) for card in made.results.tasks if card.truth == "planted"}
    return {task: panels for task, panels in made.panels.items() if task in known}


def every(made: Board) -> Iterator[Judged]:
    """Each score on each task whose truth is known."""
    rows = explainers(made)
    for (_, model), panels in planted(made).items():
        for panel in panels:
            if not panel.card.gate and panel.card.family != "complexity":
                yield judged(panel, model, rows)


def verdict_lines(made: Board) -> Iterator[Line]:
    """Whether each score sees on each task, and what truth and random have."""
    for each in every(made):
        if each.sees is not None:
            for figure, value in (
                ("sees", each.sees),
                ("truth", each.truth),
                ("random", each.random),
                ("above", len(each.above)),
            ):
                yield Line(f"sight: {each.task}", each.metric, figure, float(value), float("nan"), 1)


def order_lines(made: Board) -> Iterator[Line]:
    """Kendall's tau between each score's order of the explainers and that of the additive rank's."""
    from scipy.stats import kendalltau

    rows = explainers(made)
    for (_, model), panels in planted(made).items():
        truth = next((panel for panel in panels if panel.card.name == "information-rank-additive"), None)
        for panel in panels:
            some = [row for row in rows if truth and panel.samples(row) and truth.samples(row)]
            if truth and len(some) > 2 and not panel.card.gate:
                tau = kendalltau([panel.mean(row) for row in some], [truth.mean(row) for row in some]).statistic
                yield Line(
                    f"order: {model}",
                    panel.card.name,
                    "tau with the truth's order",
                    float(tau),
                    float("nan"),
                    len(some),
                )


def verdicts(made: Board, folder: Path) -> dict[tuple[str, str], tuple[bool | None, str]]:
    """Sight by metric and kind of network: on all of A, and on all of B's tasks of that kind.

    A task on which the truth has no such score (no cell holds anything given the others, say) judges nothing.
    """
    side, kinds = sides(folder), {card.model: card.network for card in made.results.tasks}
    found: dict[tuple[str, str], tuple[bool | None, str]] = {}
    all_of = [*every(made)]
    for metric in dict.fromkeys(each.metric for each in all_of):
        mine = {each.task: each for each in all_of if each.metric == metric}
        judging = [each for each in mine.values() if side.get(each.task) == "A"]
        for kind in dict.fromkeys(kinds[task] for task in mine):
            validating = [each for each in mine.values() if side.get(each.task) == "B" and kinds[each.task] == kind]
            some = [each for each in (*judging, *validating) if each.sees is not None]
            if not any(each in judging for each in some):
                found[metric, kind] = None, "not judged: the truth with noise has no such score"
                continue
            wrong = next((each for each in some if not each.sees), None)
            if wrong is None:
                found[metric, kind] = True, f"on {', '.join(each.task for each in some)}: {some[-1].why}"[:500]
            else:
                lost = "lost in validation " if wrong in validating else ""
                found[metric, kind] = False, f"{lost}on {wrong.task}: {wrong.why}"[:500]
    return found


def write_panel(boards: Sequence[Board], folder: Path, alike: Mapping[str, Sequence[float]]) -> None:
    """What boards read."""
    seen, priors = verdicts(boards[0], folder), scatter.priors(boards[0])
    cards = {(card.data, card.model): card for made in boards for card in made.results.tasks}
    groups: dict[tuple[str, str], list[tuple[Judgement, ...]]] = {}
    for task, panels in ((task, panels) for made in boards for task, panels in made.panels.items()):
        groups.setdefault((cards[task].truth, cards[task].network), []).append(panels)
    entries = []
    for (truth, network), tasks in sorted(groups.items()):
        for name in sorted({panel.card.name for panels in tasks for panel in panels if not panel.card.gate}):
            found = [panel for panels in tasks for panel in panels if panel.card.name == name]
            ends = [ends_of(panel, truth) for panel in found]
            ends = [each for each in ends if each is not None]
            if not ends:
                continue
            random, top = (float(f"{np.mean(each):.{DIGITS}g}") for each in zip(*ends, strict=True))
            sight, why = seen.get((name, network), (None, "")) if truth == "planted" else (None, "")
            fits, networks = (priors.get((which, truth, name)) for which in ("fits", "networks"))
            entries.append(
                Entry(
                    metric=name, version=found[0].card.version, truth=truth, network=network, sight=sight, reason=why,
                    random=random, top=top, top_is="truth" if truth == "planted" else "occlusion",
                    prior_fits=fits, prior_networks=networks,
                )
            )  # fmt: skip
    panel = Panel(entries=tuple(entries), limits=tuple(limits(boards, folder, alike)))
    FILE.write_text(json.dumps(panel.model_dump(), indent=1) + "\n", encoding="utf-8")


def ends_of(panel: Judgement, truth: str) -> tuple[float, float] | None:
    """What random maps and the truth score, or occlusion where the truth is not known."""
    good = [row for row in (TRUTHS if truth == "planted" else ("occlusion",)) if panel.samples(row)]
    if not panel.samples("random") or not good:
        return None
    sign = panel.card.sign
    return sign * panel.mean("random"), sign * max(map(panel.mean, good))


def limits(boards: Sequence[Board], folder: Path, alike: Mapping[str, Sequence[float]]) -> Iterator[Limit]:
    """The class check's: halfway between the maps that react most alike and those that do not; errors are B's."""
    side, cards = sides(folder), {(card.data, card.model): card for made in boards for card in made.results.tasks}
    groups: dict[tuple[str, str], dict[str, tuple[list[float], list[float]]]] = {}
    for task, panels in ((task, panels) for made in boards for task, panels in made.panels.items()):
        check = next((panel for panel in panels if panel.card.name == CLASS_CHECK), None)
        kind = groups.setdefault((cards[task].truth, cards[task].network), {"A": ([], []), "B": ([], [])})
        reacting, unmoved = kind[side.get(task[1], "A")]
        reacting += [-check.mean(row) for row in REACT if check.samples(row)] if check else []
        unmoved += alike["/".join(task)]
    for (truth, network), kind in sorted(groups.items()):
        reacting, unmoved = kind["A"] if kind["A"][0] else kind["B"]
        if reacting and unmoved:
            limit = round((max(reacting) + min(unmoved)) / 2, 3)
            fails, passes = kind["B"] if kind["B"][0] else kind["A"]
            wrong = {
                "false_fail": float(np.mean([value >= limit for value in fails])),
                "false_pass": float(np.mean([value < limit for value in passes])),
            }
            yield Limit(check=CLASS_CHECK, truth=truth, network=network, limit=limit, **wrong)


def figures(lines: Sequence[Line]) -> Mapping[tuple[str, str, str], Line]:
    """The lines by question, subject and figure."""
    return {(line.question, line.subject, line.figure): line for line in lines}
