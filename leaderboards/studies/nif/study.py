"""What NIF is worth: its estimators where the truth is known, its pruning, its table 1, its ways to compose a path.

Every figure comes with half a 95 % interval (Student's) over what varies: pairs of variables, seeds of a network's
training and folds of a table (whose networks share most of what they learned from, so that these intervals are somewhat
narrow), or samples. Banknote joins in where banknote.csv lies in the working folder.
"""

from __future__ import annotations

import itertools
import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr, ttest_1samp, ttest_rel
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from leaderboards.studies.lines import TABLE, Line, pivoted, publish
from leaderboards.studies.measuring import fitted, scored, scores_of
from leaderboards.studies.nif import pruning
from mibench.data.tables import Table
from mibench.information.exact import gaussian_pair
from mibench.information.flow import Correction, Flow, Neurons, PairEstimator, estimator
from mibench.information.pairwise import KSG
from mibench.methods.nif.neurons import choose, read
from mibench.models.mlp import RECIPE
from mibench.models.training import accuracy, descend, frozen
from mibench.plugins import registry
from mibench.plugins.contract import FittedExplainer, Probe, Samples
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task

NAME = "nif"
COMMAND = f"python -m mibench study {NAME}"
TABLES = ("iris", "wine", "breast-cancer", "csv:banknote.csv")
HIDDEN = (10, 5)
GRAINS: tuple[pruning.Grain, ...] = ("weights", "neurons")
FOLDS = 5  # of a table; ten networks are two rounds of cross-validation
WITH_REDUNDANCY = "beta=0.0005,order=index"  # equation (3) to the letter
ROWS = ("nif", "nif-min", "nif[estimator=mixed]", "nif-min[estimator=mixed]", "nif[estimator=binning]",
        f"nif[{WITH_REDUNDANCY}]", f"nif[estimator=mixed,{WITH_REDUNDANCY}]",
        f"nif[estimator=mixed,correction=none,{WITH_REDUNDANCY}]",
        "gradient-shap", "ig", "occlusion", "random")  # fmt: skip
TABLE_1 = ("nif", "nif-min", "nif[estimator=mixed]", "gradient-shap", "ig", "random")
ESTIMATORS = ("nif", "nif[estimator=mixed]", "nif-min", "nif-min[estimator=mixed]")  # EDGE is the default
REPEATED = (("planted", "planted"), ("cnn-m", "mnist"), ("mlp[data=breast-cancer]", "breast-cancer"))
REFERENCE, SHOWN = 512, 32  # samples of one half, at most, and those whose maps are compared
QUESTIONS = {
    "estimator": "Error of the estimators on Gaussians, N = 2000 (nats; the truth of a correlation is "
    "-1/2 log(1 - rho^2))",
    "null": "What they find in shuffled ReLUs, N = 512 (nats; the truth is 0)",
    "known": "Edges of networks that are written down against theory, N = 1000 (nats, mean absolute error)",
    "accuracy": "Accuracy of the networks that are pruned, on the fold of the table that each has not learned",
    "pruning": "Pruning: area under the accuracy curve",
    "pruning difference": "Pruning: area of NIF less that of another order, network by network",
    "table 1": "Table 1: Kolmogorov-Smirnov test between each map and the raw information",
    "maps": "Maps: planted truth (AUC, higher is better) and digits (pixel flipping, lower is better)",
    "repeat": "Repeatability of maps without truth: rank correlation between the maps of two fits, each on its own "
    "half of the calibration data, of samples that belong to neither",
    "chance": "Decision AUC on planted images against chance (.5) and against a random map of the same images",
    "redundancy": "The redundancy term of equation (3): what it can change, and what it costs (one core, 512 samples)",
    "cost": "All pairs of MLP-M on one core",
}


def write(folder: Path, *, quick: bool, say: Callable[[str], None]) -> list[Path]:
    """Measure everything, write the CSV and the page."""
    parts = (estimators, nulls, known, prune, table_1, compare, repeat, chance, redundancy, cost)
    return publish(folder, itertools.chain.from_iterable(part(quick) for part in parts), describe, say)


def estimators(quick: bool) -> Iterator[Line]:
    """Pairs of Gaussians of known information, the pairs as repetitions."""
    pairs = torch.arange(5 if quick else 40)[:, None].repeat(1, 2)
    kinds: dict[str, PairEstimator] = {
        "KSG, k=3": KSG(3, "ksg"),
        "KSG, k=10": KSG(10, "ksg"),
        "mixed, k=10, psi": KSG(10, "mixed"),
        "mixed, k=10, log": KSG(10, "mixed", "log"),
        "EDGE": estimator("edge"),
        "24 bins": estimator("binning"),
    }
    for rho in (0.0, 0.5, 0.9, 0.99):
        x, noise = torch.randn(2, 2000, len(pairs), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        z = rho * x + math.sqrt(1 - rho**2) * noise
        for name, kind in kinds.items():
            error = kind.information(x, z, pairs) - gaussian_pair(rho)
            yield Line.of("estimator", name, f"rho = {rho:g}", error)


def nulls(quick: bool) -> Iterator[Line]:
    """Independent ReLUs, the neurons of the first layer as repetitions."""
    size = 6 if quick else 24
    both = torch.randn(2, 512, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).relu()
    layers = [Neurons(str(number), (), layer) for number, layer in enumerate(both)]
    corrections: tuple[Correction, ...] = ("none", "jitter", "permutation")
    for name in ("mixed", "ksg", "edge", "binning"):
        for correction in corrections:
            [edges] = Flow(layers, estimator(name), correction).edges()
            yield Line.of("null", name, correction, edges.mean(1))


def known(quick: bool) -> Iterator[Line]:
    """Networks that are written down, whose edges have closed forms; samples of their own are the repetitions."""
    kinds: dict[str, tuple[PairEstimator, Correction]] = {
        "mixed, k=3": (estimator("mixed", 3), "jitter"),
        "mixed, k=10": (estimator("mixed", 10), "jitter"),
        "mixed, k=10, without jitter": (estimator("mixed", 10), "none"),
        "edge": (estimator("edge"), "none"),
        "24 bins": (estimator("binning"), "none"),
    }
    for name in ("linear-gaussian", "planted-table"):
        task = make_task(TaskSpec(name, "", samples=1000 * (2 if quick else 10), calibration=8))
        names = choose(task.probe, task.scoring.x[:2])
        assert task.scoring.truth is not None
        truth = task.scoring.truth.information["edges"][0]  # (E,)
        for subject, kind in kinds.items():
            errors = []
            for x in torch.split(task.scoring.x, 1000):
                edges = Flow(read(task.probe, x, 1, names), *kind).edges()
                errors.append(float((torch.cat([edge.flatten() for edge in edges]) - truth).abs().mean()))
            yield Line.of("known", subject, name, errors)


def prune(quick: bool) -> Iterator[Line]:
    """Small perceptrons, cross-validated: a fold and a seed of training are a repetition."""
    for table in TABLES[:1] if quick else TABLES:
        if table.startswith("csv:") and not Path(table.removeprefix("csv:")).exists():
            continue
        right: dict[str, list[float]] = {"perceptron": [], "linear discriminant": []}
        areas: dict[tuple[str, str], list[float]] = {}
        for seed in range(2 if quick else 10):
            network, seen, held_out = perceptron(table, seed)
            right["perceptron"].append(accuracy(network, held_out.x, held_out.label))
            plain = LinearDiscriminantAnalysis().fit(seen.x, seen.label)
            right["linear discriminant"].append(float(plain.score(held_out.x, held_out.label)))
            edges = links(network, seen.x)
            for grain in GRAINS:
                for order in pruning.ORDERS:
                    random = torch.Generator().manual_seed(seed)
                    draws = [
                        pruning.scores(network, edges, order, grain, random)
                        for _ in range(5 if order == "random" else 1)
                    ]
                    curves = [pruning.curve(network, scores, held_out.x, held_out.label) for scores in draws]
                    area = sum(map(pruning.area, curves)) / len(curves)
                    areas.setdefault((grain, order), []).append(area)
        for who, shares in right.items():
            yield Line.of("accuracy", table, who, shares)
        for (part, kind), found in areas.items():
            yield Line.of("pruning", f"{table}, {part}", kind, found)
            if kind != "nif":
                gain = torch.tensor(areas[part, "nif"]) - torch.tensor(found)
                yield Line.of("pruning difference", f"{table}, {part}", f"nif - {kind}", gain)


def links(network: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The information of every link of a chain of layers, in nats."""
    shown = list(pruning.chain(network).values())[:-1]
    layers = [x, *(network[: _place(network, name) + 1](x) for name in shown), network(x)]
    return Flow([Neurons(str(n), (), layer) for n, layer in enumerate(layers)], estimator("mixed", 3)).edges()


def perceptron(table: str, seed: int, hidden: Sequence[int] = HIDDEN) -> tuple[nn.Sequential, Samples, Samples]:
    """A perceptron as in the zoo, trained on all folds of a table but one, those rows, and the fold that is left."""
    rows = table_of(table).rows()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed // FOLDS).split(rows.x, rows.label)
    learned, left = (torch.from_numpy(part) for part in list(folds)[seed % FOLDS])
    mean, deviation = rows.x[learned].mean(0), rows.x[learned].std(0)
    seen, held_out = (
        Samples((rows.x[part] - mean) / deviation, rows.label[part], tuple(map(str, part.tolist())))
        for part in (learned, left)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (rows.x.shape[1], *hidden)
        layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        network = nn.Sequential(*layers, nn.Linear(sizes[-1], len(rows.classes)))
        recipe = replace(RECIPE, seed=seed)
        descend(network, lambda batch: F.cross_entropy(network(seen.x[batch]), seen.label[batch]), len(seen), recipe)
    return frozen(network), seen, held_out


def table_of(name: str) -> Table:
    """A table of the data zoo."""
    source = registry.data(name)
    assert isinstance(source, Table)
    return source


def table_1(quick: bool) -> Iterator[Line]:
    """The metrics ks and ks-p, samples as repetitions."""
    for model, data, count in (("mlp", "iris", 30), ("cnn-m", "mnist", 64))[: 1 if quick else 2]:
        yield from scored("table 1", TaskSpec(model, data, samples=count, calibration=512), TABLE_1, ("ks", "ks-p"))


def compare(quick: bool) -> Iterator[Line]:
    """Estimators, k and ways to compose, by metrics of the board; samples as repetitions."""
    tasks = [("planted", ("decision-auc",)), ("cnn-m", ("pixel-flipping",))]
    for model, metrics in tasks:
        data = registry.model(model).data
        rows = ROWS[:2] if quick else ROWS
        yield from scored("maps", TaskSpec(model, data, samples=16 if quick else 64, calibration=512), rows, metrics)


def repeat(quick: bool) -> Iterator[Line]:
    """Which estimator gives a sample one result whatever half of the calibration data it learned from; no truth."""
    for model, data in REPEATED[:1] if quick else REPEATED:
        size, shown = (64, 8) if quick else (REFERENCE, SHOWN)
        task = make_task(TaskSpec(model, data, samples=4, calibration=2 * size + shown))
        for row in ESTIMATORS:
            yield Line.of("repeat", task.name, row, repeatability(row, task.probe, task.calibration, shown))


def repeatability(row: str, probe: Probe, calibration: Samples, shown: int) -> Tensor:
    """Spearman's correlation between a sample's maps by two fits on disjoint halves, for the last `shown` samples."""
    size = (len(calibration) - shown) // 2
    asked = calibration[slice(len(calibration) - shown, None)]
    target = probe.logits(asked.x).argmax(1)
    found = []
    for start in (0, size):
        explainer = fitted(row, probe, calibration[slice(start, start + size)])
        shown_maps = explainer.explain(probe, asked.x, target, range(len(asked))).maps
        found.append(shown_maps[explainer.maps[0].name].flatten(1).double())
    return torch.tensor([spearmanr(first, second).statistic for first, second in zip(*found, strict=True)])


def chance(quick: bool) -> Iterator[Line]:
    """Whether NIF's maps of planted images are better than no knowledge at all; images as repetitions."""
    spec = TaskSpec("planted", "planted", samples=16 if quick else 128, calibration=512)
    scores = scores_of(spec, (*ESTIMATORS, "random"), "decision-auc")
    random = scores["random"].double()
    for row, each in scores.items():
        value = each.double()
        yield Line.of("chance", row, "decision-auc", value)
        yield Line.of("chance", row, "p against .5", [float(ttest_1samp(value, 0.5).pvalue)])
        if row != "random":
            yield Line.of("chance", row, "less random's", value - random)
            yield Line.of("chance", row, "p against random", [float(ttest_rel(value, random).pvalue)])


def redundancy(quick: bool) -> Iterator[Line]:
    """The term that the default leaves out: its largest value, its ramp, and the processor seconds of a fit."""
    task = make_task(TaskSpec("planted", "planted", samples=4, calibration=64 if quick else 512))
    for name in ("edge", "mixed"):
        for order in ("none", "any", "index"):
            given = f"estimator={name}" + ("" if order == "none" else f",beta=0.0005,order={order}")
            explainer = registry.method(f"nif[{given}]").explainer
            assert isinstance(explainer, FittedExplainer)
            started = time.process_time()
            state = explainer.learn(task.probe, task.calibration, 0)
            yield Line.of("redundancy", f"nif[{given}]", "seconds of a fit", [time.process_time() - started])
            if order != "none":
                term = state.tensors["redundancy"].double()
                ramp = torch.corrcoef(torch.stack([torch.arange(len(term), dtype=torch.float64), term]))[0, 1]
                yield Line.of("redundancy", f"nif[{given}]", "beta x largest, nats", [5e-4 * float(term.max())])
                yield Line.of("redundancy", f"nif[{given}]", "correlation with the index", [float(ramp)])


def cost(quick: bool) -> Iterator[Line]:
    """Processor seconds and peak memory of every edge of MLP-M; quick: of its last two links."""
    task = make_task(TaskSpec("mlp-m", "mnist", samples=8, calibration=1000))
    x = task.calibration.x
    layers = read(task.probe, x, 28, choose(task.probe, x[:2]))
    flow = Flow(layers[-2:] if quick else layers, estimator("mixed", 3), "none")
    varying = [int((layer.activations != layer.activations[:1]).any(0).sum()) for layer in flow.layers]
    pairs = sum(a * b for a, b in itertools.pairwise(varying))
    threads, started = torch.get_num_threads(), time.process_time()
    torch.set_num_threads(1)
    try:
        flow.edges()
    finally:
        torch.set_num_threads(threads)
    yield Line.of(
        "cost", f"{pairs:,} non-constant pairs, N = {len(x)}", "processor seconds", [time.process_time() - started]
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield Line.of("cost", f"{pairs:,} non-constant pairs, N = {len(x)}", "peak GiB of the whole process", [memory])


def _mean(line: Line) -> float:
    return line.mean


def _place(network: nn.Sequential, name: str) -> int:
    return [child for child, _ in network.named_children()].index(name)


def describe(lines: Sequence[Line]) -> str:
    """The page: a table for each question, with its conclusion."""
    parts = ["# What NIF is worth", f"Made by `{COMMAND}`; every number is in [{TABLE}]({TABLE})."]
    parts.append(" ".join((__doc__ or "").split("\n\n")[1].split()))
    for question, title in QUESTIONS.items():
        asked = [line for line in lines if line.question == question]
        if asked:
            parts += [f"## {title}", "\n".join(pivoted(asked)), *reading(question, asked)]
    return "\n\n".join(parts) + "\n"


def chosen(lines: Sequence[Line]) -> Iterator[str]:
    """The estimator whose maps repeat best on average over the tasks, which is the default, and where another does."""
    edge, ksg = ({line.subject: line.mean for line in lines if line.figure == row} for row in ESTIMATORS[:2])
    means = {"EDGE": sum(edge.values()) / len(edge), "KSG": sum(ksg.values()) / len(ksg)}
    best = max(means, key=lambda name: means[name])
    other = [task for task in edge if (edge[task] < ksg[task]) == (best == "EDGE")]
    shown = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    yield (
        f"The rule is the higher mean over the tasks ({shown}): it says {best}. "
        + (f"The other repeats better on {', '.join(other)}." if other else "The other repeats better nowhere.")
        + " A map that is wrong in the same way every time repeats, too: what repeats is not shown to be right."
    )


def decided(line: Line) -> int:
    """The sign of a mean whose interval leaves out zero; otherwise 0."""
    return 0 if not abs(line.mean) > line.half else (1 if line.mean > 0 else -1)


def reading(question: str, lines: Sequence[Line]) -> Iterator[str]:
    """The conclusion of a question, derived from its numbers."""
    if question == "null":
        small = [f"{line.subject} with {line.figure}" for line in lines if abs(line.mean) < 0.005]
        yield f"Below 0.005 nats: {', '.join(small) or 'none'}."
    if question == "pruning difference":
        words = {1: "NIF is better", -1: "NIF is worse", 0: "the interval holds zero"}
        for sign, verdict in words.items():
            where = [f"{line.subject} ({line.figure})" for line in lines if decided(line) == sign]
            yield f"{verdict}: {'; '.join(where) or 'nowhere'}."
    if question == "table 1":
        yield (
            "A low statistic and a high p agree with the raw information. The paper's three p-values (0.011, 0.107 and "
            "0.996 at D = 1, 0.75 and 0.25) are the asymptotic ones of four values against four, and D = 1 for NIF "
            "says that the two did not overlap at all, the opposite of what is read there. Four columns (iris) can "
            "hardly reject anything; and the test forgets which value belongs to which place, so it cannot tell a good "
            "map from a shuffled one."
        )
    if question == "repeat":
        yield from chosen(lines)
    if question == "chance":
        better = [line.subject for line in lines if line.figure == "less random's" and decided(line) > 0]
        yield f"Surely better than a random map of the same images: {', '.join(better) or 'none'}."
    if question == "maps":
        best = {metric: [line for line in lines if line.figure == metric] for metric in {line.figure for line in lines}}
        for metric, asked in sorted(best.items()):
            lower = registry.metric(metric).direction == "lower"
            first = sorted(asked, key=_mean, reverse=not lower)[0]
            yield f"- {metric}: best is {first.subject} at {first}"
