"""From a suite and its prepared tasks to cells and jobs: what there is to do, each piece under its key.

    fit -> explain (plain, and the variants of the first samples) -> score          cost, where nothing else runs

Where a network has several trained weights, a run's seeds take them in turn, so that the network is one of the things
that are drawn; each is opened as a task of its own, under one name. A cell's key covers whatever goes into it, the keys
of the cells it needs among them, so an edit to one method changes the keys of that method's cells alone. Metrics of one
file, which share what they compute, run in one job. Every job names its tenant, whose code runs in it: one explainer,
this package's metrics, or one metric of another package.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mibench.errors import UsageError
from mibench.models import shipped
from mibench.plugins import catalogue
from mibench.plugins.cards import Card, ExplainerCard, MetricCard
from mibench.plugins.catalogue import MethodCards
from mibench.plugins.contract import PERTURBED, VARIANTS, MapSpec
from mibench.record import environment, fingerprint
from mibench.record.cells import TRAINED, Cell, Job, Prepared, RowSource, Setting, TaskSpec, Tenant
from mibench.suites.suite import Suite
from mibench.suites.suite import Task as DeclaredTask

RANDOM = "random-weights"


@dataclass(frozen=True)
class Plan:
    """All jobs of a run; those in `lane` are performed one at a time, after all others."""

    jobs: tuple[Job, ...]
    lane: tuple[Job, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, in the order in which it can be computed."""
        return tuple(cell for job in (*self.jobs, *self.lane) for cell in job.cells)


def specs(suite: Suite, *, retrain: bool = False) -> list[TaskSpec]:
    """The suite's tasks as data alone, one for each of a network's weights that a seed takes."""
    found = list(dict.fromkeys(_spec(suite, task) for task in suite.tasks))
    named: dict[str, TaskSpec] = {}
    for spec in found:
        if named.setdefault(spec.name, spec).model != spec.model:
            other = named[spec.name].model
            raise UsageError(f"{spec.model} and {other} have the same name: give each a name=… of its own")
    return [
        replace(spec, network=number, retrain=retrain)
        for spec in found
        for number in range(min(suite.seeds, max(1, shipped.count(spec.model))))
    ]


def asked(suite: Suite, spec: TaskSpec) -> list[MetricCard]:
    """The metrics that the suite requests for one of its tasks."""
    own = [task.metrics for task in suite.tasks if _spec(suite, task) == replace(spec, network=0, retrain=False)]
    names = {metric.label for metric in catalogue.metrics([name for some in own for name in some])}
    return [each for each in suite.chosen_metrics() if not all(own) or each.label in names]


def _spec(suite: Suite, task: DeclaredTask) -> TaskSpec:
    model = catalogue.model(task.model)
    return TaskSpec(
        model=model.label,
        data=catalogue.data(task.data or model.data).label,
        samples=task.samples or suite.samples,
        calibration=task.calibration or suite.calibration,
    )


def plan(suite: Suite, tasks: Mapping[TaskSpec, Prepared], setting: Setting, workers: int) -> Plan:
    """Everything that the suite requests for its tasks."""
    whole: dict[TaskSpec, dict[TaskSpec, Prepared]] = {}
    for spec, prepared in tasks.items():
        whole.setdefault(spec.first, {})[spec] = prepared
    parts = [_TaskPlan(suite, [*some], [*some.values()], setting) for some in whole.values()]
    jobs = [job for part in parts for job in part.explanations()]
    jobs += [job for part in parts for job in part.scorings(max(1, workers))]
    return Plan(tuple(jobs), tuple(job for part in parts for job in part.costs()))


@dataclass
class _TaskPlan:
    """The jobs of one task."""

    suite: Suite
    specs: Sequence[TaskSpec]  # with the weights that the seeds take in turn
    prepared_each: Sequence[Prepared]
    setting: Setting
    fits: dict[tuple[str, int, str], Cell] = field(default_factory=dict)  # (explainer, seed, variant)
    plain: dict[tuple[str, int], list[Cell]] = field(default_factory=dict)  # (explainer, seed)
    variants: dict[tuple[str, int], dict[str, Cell]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prepared = self.prepared_each[0]
        self.methods, self.metrics = self.suite.chosen_methods(), asked(self.suite, self.specs[0])
        self.explainers = {method.explainer.label: method.explainer for method in self.methods}
        self.contexts = [self._context(*each) for each in zip(self.specs, self.prepared_each, strict=True)]

    def _context(self, spec: TaskSpec, prepared: Prepared) -> str:
        return fingerprint.digest(
            spec.model,
            spec.data,
            spec.samples,
            spec.calibration,
            prepared.weights_hash,
            prepared.data_hash,
            _sources(catalogue.model(spec.model), catalogue.data(spec.data)),
            environment.device_class(self.setting.device),
            self.setting.precision,
        )

    def _network(self, seed: int) -> int:
        """Which of the network's weights a seed takes."""
        return seed % len(self.specs)

    def _runs(self, explainer: ExplainerCard, seed: int) -> bool:
        """Whether a seed changes an explainer's maps, by itself or by its network."""
        return seed < len(self.specs) or explainer.seeded

    def explanations(self) -> Iterator[Job]:
        """Fits and explanations of every explainer with its seeds; what gates compare, with the first."""
        for seed in range(self.suite.seeds):
            for label, explainer in self.explainers.items():
                if not self._runs(explainer, seed):
                    continue
                for variant in (TRAINED, *(() if seed else self._variants())):
                    if explainer.fitted and variant in (TRAINED, RANDOM):
                        yield from self._fit(label, explainer, seed, variant)
                    yield from self._explain(label, explainer, seed, variant)

    def _variants(self) -> tuple[str, ...]:
        """Those that a metric needs: of the sanity gates, and maps of perturbed inputs."""
        if not self.suite.gate_samples:
            return ()
        wanted = {need for metric in self.metrics for need in metric.needs}
        perturbed = range(self.suite.perturbations * (PERTURBED in wanted))
        return (*(each for each in VARIANTS if each in wanted), *(f"{PERTURBED}:{1 + number}" for number in perturbed))

    def _fit(self, label: str, explainer: ExplainerCard, seed: int, variant: str) -> Iterator[Job]:
        """One job for all explainers of the same learner, when the first of them is met: a cell for each."""
        if (label, seed, variant) in self.fits:
            return
        learner, cells = explainer.learner, []
        for each, other in self.explainers.items():
            if other.fitted and other.learner == learner:
                identity = _identity(other, "mibench.run.explaining")
                key = fingerprint.digest("fit", self.contexts[self._network(seed)], identity, seed, variant)
                cells.append(Cell(key, "fit", self.prepared.name, each, seed=seed, variant=variant))
                self.fits[each, seed, variant] = cells[-1]
        yield self._job("fit", learner, tuple(cells))

    def _explain(self, label: str, explainer: ExplainerCard, seed: int, variant: str) -> Iterator[Job]:
        fit = self.fits.get((label, seed, RANDOM if variant == RANDOM else TRAINED))
        identity = _identity(explainer, "mibench.run.explaining")
        for start, stop in self._shards() if variant == TRAINED else [(0, self.suite.gate_samples)]:
            context = self.contexts[self._network(seed)]
            key = fingerprint.digest("explain", context, identity, seed, variant, start, stop, fit and fit.key)
            needs = (fit.key,) if fit else ()
            cell = Cell(key, "explain", self.prepared.name, label, "", seed, variant, start, stop, needs)
            if variant == TRAINED:
                self.plain.setdefault((label, seed), []).append(cell)
            else:
                self.variants.setdefault((label, seed), {})[variant] = cell
            yield self._job("explain", label, (cell,), fit=fit.key if fit else "")

    def _shards(self) -> list[tuple[int, int]]:
        count, size = len(self.prepared.ids), self.suite.shard
        return [(start, min(start + size, count)) for start in range(0, count, size)]

    def scorings(self, workers: int) -> Iterator[Job]:
        """Scores of every row by every metric, with the seeds of what they are made from."""
        every = [Row(row, spec, method) for method in self.methods for row, spec in method.rows.items()]
        for seed in range(self.suite.seeds):
            rows = [each for each in every if self._runs(each.method.explainer, seed)]
            families: dict[str, list[MetricCard]] = {}
            for metric in self.metrics:
                if not seed or not metric.needs & {*VARIANTS, PERTURBED}:
                    families.setdefault(_author(metric), []).append(metric)
            pieces = min(len(rows), math.ceil(2 * workers / max(1, len(families))))  # enough jobs for all workers
            for metrics in families.values():
                for wrapper in dict.fromkeys(_foreign_wrapper(each.method) for each in rows):
                    some = [each for each in rows if _foreign_wrapper(each.method) == wrapper]
                    for piece in range(min(pieces, len(some))):
                        yield self._score(metrics, wrapper, some[piece::pieces], seed)

    def _score(self, metrics: Sequence[MetricCard], wrapper: str, rows: Sequence[Row], seed: int) -> Job:
        sources, cells = {}, []
        wanted = {need for metric in metrics for need in metric.needs}
        identities = [(metric, metric.label, _identity(metric, "mibench.run.scoring")) for metric in metrics]
        for row, spec, method in rows:
            label = method.explainer.label
            plain = tuple(cell.key for cell in self.plain[label, seed])
            variants = {each: cell.key for each, cell in self.variants.get((label, seed), {}).items()}
            kept = {each: key for each, key in variants.items() if _need(each) in wanted}
            sources[row] = RowSource(spec, plain, kept, method.wrapper.name if method.wrapper else "")
            code = _sources(method.wrapper) if method.wrapper else ""
            for metric, name, identity in identities:
                needs = (*plain, *(variants[each] for each in sorted(variants) if _need(each) in metric.needs))
                context = self.contexts[self._network(seed)]
                key = fingerprint.digest("score", context, identity, metric.version, row, spec.name, code, seed, needs)
                cells.append(Cell(key, "score", self.prepared.name, row, name, seed, needs=needs))
        ours = metrics[0].place.ours
        code = " ".join(filter(None, ("metrics" if ours else f"metric {metrics[0].label}", wrapper)))
        return self._job("score", code, tuple(cells), lasting=ours and not wrapper, rows=sources)

    def costs(self) -> Iterator[Job]:
        """What every explainer costs, measured with the first seed."""
        machine = environment.processor()
        for label in self.explainers:
            fit = self.fits.get((label, 0, TRAINED))
            explained = [cell.key for cell in self.plain[label, 0]]
            own = fingerprint.sources(["mibench.run.costs"])
            key = fingerprint.digest("cost", explained, own, self.suite.timed_samples, machine)
            cell = Cell(key, "cost", self.prepared.name, label, needs=tuple(explained))
            yield self._job("cost", label, (cell,), fit=fit.key if fit else "", samples=self.suite.timed_samples)

    def _job(self, stage: Any, code: str, cells: tuple[Cell, ...], *, lasting: bool = False, **more: Any) -> Job:
        number = self._network(cells[0].seed)
        task = f"{self.prepared.name} {number}" if number else self.prepared.name
        return Job(stage, self.setting, self.specs[number], cells, tenant=Tenant(task, code, lasting), **more)


class Row(NamedTuple):
    """A row of the board, the map that it shows, and whose it is."""

    name: str
    spec: MapSpec
    method: MethodCards


def _author(metric: MetricCard) -> str:
    """What is the same for metrics that share a job: this package's of one file; each of another package is alone."""
    module = metric.modules[0]
    return module if metric.place.ours else f"{module} {metric.label}"


def _foreign_wrapper(method: MethodCards) -> str:
    """The wrapper of another package, whose code runs where its rows are scored; empty for all other rows."""
    return "" if method.wrapper is None or method.wrapper.place.ours else f"wrapper {method.wrapper.name}"


def _need(variant: str) -> str:
    """What a metric must declare in `needs` to get a variant."""
    return variant.partition(":")[0]


def _identity(plugin: ExplainerCard | MetricCard, harness: str) -> str:
    """A plug-in with its parameters, and the harness's part in what it does."""
    argument = [plugin.argument] if plugin.argument else []
    return fingerprint.digest(
        plugin.name, plugin.parameters, *argument, _sources(plugin), fingerprint.sources([harness])
    )


def _sources(*plugins: Card) -> str:
    """The source of plug-ins."""
    return fingerprint.sources([plugin.modules[0] for plugin in plugins])
