"""What NIF is worth: its estimators where the truth is known, its pruning, its table 1, its ways to compose a path.

Every figure comes with half a 95 % interval (Student's) over what varies: pairs of variables, seeds of a network's
training and folds of a table (whose networks share most of what they learned from, so that these intervals are somewhat
narrow), or samples. Banknote joins in where banknote.csv lies in the working folder.
"""

from __future__ import annotations

import csv
import itertools
import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.stats import t as student
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from mibench.data.tables import Table
from mibench.information.exact import gaussian_pair
from mibench.information.flow import Correction, Flow, Neurons, PairEstimator, estimator
from mibench.information.pairwise import KSG
from mibench.methods.nif.neurons import choose, read
from mibench.models.mlp import RECIPE
from mibench.models.training import accuracy, descend, frozen
from mibench.plugins import registry
from mibench.plugins.contract import FittedExplainer, Samples
from mibench.record import maps
from mibench.record.cells import TaskSpec
from mibench.run import scoring
from mibench.run.task import make_task
from mibench.studies import pruning

NAME = "nif"
COMMAND = f"python -m mibench study {NAME}"
TABLES = ("iris", "wine", "breast-cancer", "csv:banknote.csv")
HIDDEN = (10, 5)
GRAINS: tuple[pruning.Grain, ...] = ("weights", "neurons")
FOLDS = 5  # of a table; ten networks are two rounds of cross-validation
ROWS = ("nif", "nif-min", "nif[k=3]", "nif[estimator=edge]", "nif[estimator=binning]", "nif-min[estimator=edge]",
        "nif[correction=none]", "nif[beta=0]", "gradient-shap", "ig", "occlusion", "random")  # fmt: skip
TABLE_1 = ("nif", "nif-min", "gradient-shap", "ig", "random")
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
    "cost": "All pairs of MLP-M on one core",
}


@dataclass(frozen=True)
class Line:
    """One figure: which question, of what, measured how, mean and half the interval over `count` repetitions."""

    question: str
    subject: str
    figure: str
    mean: float
    half: float
    count: int

    @staticmethod
    def of(question: str, subject: str, figure: str, values: Sequence[float] | Tensor) -> Line:
        """Mean and interval of repetitions; NaN is no repetition."""
        every = torch.as_tensor(values, dtype=torch.float64)
        known = every[~every.isnan()]
        count = len(known)
        return Line(question, subject, figure, float(known.mean()), float(half_interval(known)), count)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if math.isnan(self.half) else f" ± {self.half:.3f}")


def half_interval(values: Tensor) -> Tensor:
    """Half the 95 % interval (Student's) of the mean of repetitions (R, ...); NaN where there is but one."""
    count = len(values)
    if count < 2:
        return torch.full(values.shape[1:], math.nan)
    return float(student.ppf(0.975, count - 1)) * values.std(0) / math.sqrt(count)


def write(folder: Path, *, quick: bool, say: Callable[[str], None]) -> list[Path]:
    """Measure everything, write the CSV and the page."""
    lines: list[Line] = []
    for part in (estimators, nulls, known, prune, table_1, compare, cost):
        for line in part(quick):
            lines.append(line)
            say(f"{line.question}: {line.subject}, {line.figure}: {line}")
    table, page = folder / f"{NAME}.csv", folder / f"{NAME}.md"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("question", "subject", "figure", "mean", "half_interval", "repetitions"))
        for line in lines:
            writer.writerow(
                (line.question, line.subject, line.figure, f"{line.mean:.6g}", f"{line.half:.6g}", line.count)
            )
    page.write_text(describe(read_table(table)), encoding="utf-8")  # no digit that the table has not
    return [table, page]


def read_table(file: Path) -> list[Line]:
    """The lines of a table."""
    with file.open(newline="", encoding="utf-8") as stream:
        _, *rows = csv.reader(stream)
    return [Line(asked, of, how, float(mean), float(half), int(count)) for asked, of, how, mean, half, count in rows]


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


def scored(question: str, spec: TaskSpec, rows: Sequence[str], metrics: Sequence[str]) -> Iterator[Line]:
    """Explain a task by some methods and score their main maps."""
    task, scene = make_task(spec), scoring.scene_of(spec, "cpu", "fp32", 0, 0)
    evidence = {}
    for row in rows:
        explainer = registry.method(row).explainer
        if isinstance(explainer, FittedExplainer):
            explainer.restore(task.probe, explainer.fit(task.probe, task.calibration, 0))
        shown = explainer.explain(task.probe, scene.x, scene.target, scene.seeds)
        spared = {name: [""] * len(scene.x) for name in shown.maps}
        evidence[row] = scoring.evidence_of(maps.Saved(shown, spared), explainer.maps[0], {})
    for metric in metrics:
        for row, scores in registry.metric(metric).score(scene, evidence).items():
            yield Line.of(question, f"{task.name}, {row}", metric, scores)


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
    """The page: a table for each question, with what it says."""
    parts = ["# What NIF is worth", f"Made by `{COMMAND}`; every number is in [{NAME}.csv]({NAME}.csv)."]
    parts.append(" ".join((__doc__ or "").split("\n\n")[1].split()))
    for question, title in QUESTIONS.items():
        asked = [line for line in lines if line.question == question]
        if asked:
            parts += [f"## {title}", "\n".join(pivoted(asked)), *reading(question, asked)]
    return "\n\n".join(parts) + "\n"


def pivoted(lines: Sequence[Line]) -> Iterable[str]:
    """A table: one row a subject, one column a figure."""
    figures = list(dict.fromkeys(line.figure for line in lines))
    found = {(line.subject, line.figure): str(line) for line in lines}
    yield f"| | {' | '.join(figures)} |"
    yield f"| --- |{' ---: |' * len(figures)}"
    for subject in dict.fromkeys(line.subject for line in lines):
        yield f"| {subject} | {' | '.join(found.get((subject, figure), '') for figure in figures)} |"


def decided(line: Line) -> int:
    """The sign of a mean whose interval leaves out zero; otherwise 0."""
    return 0 if not abs(line.mean) > line.half else (1 if line.mean > 0 else -1)


def reading(question: str, lines: Sequence[Line]) -> Iterator[str]:
    """What the numbers of a question say, decided by the numbers."""
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
    if question == "maps":
        best = {metric: [line for line in lines if line.figure == metric] for metric in {line.figure for line in lines}}
        for metric, asked in sorted(best.items()):
            lower = registry.metric(metric).direction == "lower"
            first = sorted(asked, key=_mean, reverse=not lower)[0]
            yield f"- {metric}: best is {first.subject} at {first}"
