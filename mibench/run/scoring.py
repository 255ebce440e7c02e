"""From maps on disk to one score a sample: build what a metric may see, run it, and check its scores.

Nothing is explained here. Maps that cannot be scored (NaN, constant, zero) are replaced while the metric runs, so
that it need not handle them, and their samples get the reason instead of a score.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mibench.errors import Interrupted, MibenchError, one_line
from mibench.network import devices
from mibench.network.probe import OpenProbe
from mibench.network.untouched import Changed, Seen, left_as_found
from mibench.plugins import registry
from mibench.plugins.contract import Evidence, Explanation, MapSpec, Metric, Scene, Unsupported, Wrapper
from mibench.plugins.reasons import kind, message
from mibench.record import maps
from mibench.record.cells import Cell, Job, Outcome, RowSource, TaskSpec
from mibench.run.explaining import MOST, sample_seeds, task_of

NUMBERS = 2**17  # input numbers that go through the network at once: more of them leave a processor's cache
SLACK = 1e-6  # how far outside its range a score may be by rounding


class MetricFault(MibenchError):
    """A metric broke the contract."""


@functools.lru_cache(maxsize=4)
def scene_of(spec: TaskSpec, device: str, precision: str, seed: int, batch: int) -> Scene:
    """What all rows of a task are scored on, kept so that metrics share what they compute from it."""
    task = task_of(spec, device, precision)
    scoring = task.scoring
    return Scene(
        x=scoring.x,
        label=scoring.label,
        target=task.target,
        predict=predictor(task.probe, batch),
        probe=task.probe,
        baselines=task.baselines,
        seeds=sample_seeds(scoring.ids, seed),
        mask=scoring.mask,
        truth=task.truth,
    )


@functools.lru_cache(maxsize=4)
def seen_of(spec: TaskSpec, device: str, precision: str, seed: int, batch: int) -> Seen:
    """What a scene was like when a metric of another package last got it."""
    return Seen()


def score(job: Job) -> list[Outcome]:
    """Score rows by metrics; a metric that fails on all rows together is run on each row alone."""
    setting = job.setting
    where = (job.task, setting.device, setting.precision, job.cells[0].seed, setting.batch)
    scene, seen = scene_of(*where), seen_of(*where)
    asked = {cell.method for cell in job.cells}  # rows whose maps failed are no longer among the cells
    folder = Path(setting.folder)
    evidence = {row: gather(folder, source, job.digests) for row, source in job.rows.items() if row in asked}
    by_metric: dict[str, list[Cell]] = {}
    for cell in job.cells:
        by_metric.setdefault(cell.metric, []).append(cell)
    outcomes = []
    for name, cells in by_metric.items():
        metric = registry.metric(name)
        outcomes += judge(metric if registry.is_ours(metric) else Watched(metric, seen), scene, evidence, cells)
    return outcomes


class Watched(Metric):
    """A metric of another package: it gets copies, and must leave the samples and the network as they are."""

    def __init__(self, metric: Metric, seen: Seen) -> None:
        super().__init__(metric.parameters)
        self._metric, self._seen = metric, seen
        for name in ("name", "needs", "range", "no_score", "gate"):
            setattr(self, name, getattr(metric, name))

    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        with left_as_found(scene.probe.model, _tensors(scene), self._seen):
            scores = self._metric.score(scene, {row: _copy(evidence) for row, evidence in rows.items()})
            return {row: scores[row].detach().cpu().clone() for row in rows}


def _tensors(scene: Scene) -> dict[str, Tensor]:
    """What a scene consists of, by name."""
    found = {"x": scene.x, "label": scene.label, "target": scene.target}
    found |= {f"baseline {name}": each for name, each in scene.baselines.items()}
    found |= {} if scene.mask is None else {"mask": scene.mask}
    return found if scene.truth is None else {**found, **scene.truth.cells, **_named(scene.truth.information, "nats")}


def _named(tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    return {f"{name} ({what})": each for name, each in tensors.items()}


def _copy(evidence: Evidence) -> Evidence:
    """Evidence that shares no memory with this."""
    tables = (evidence.siblings, evidence.facts, evidence.signals, evidence.variants)
    copies = ({name: each.clone() for name, each in table.items()} for table in tables)
    return Evidence(evidence.map.clone(), evidence.raw.clone(), evidence.spec, *copies)


def gather(folder: Path, source: RowSource, digests: Mapping[str, str]) -> tuple[Evidence, list[str]]:
    """A row's evidence from its files, and why samples of it cannot be scored; variants are those of known digest."""
    spec = source.map
    wrapper = registry.wrapper(source.wrapper) if source.wrapper else None

    def look(keys: Sequence[str]) -> maps.Saved:
        saved = maps.read([maps.source(folder, key, digests) for key in keys])
        return saved if wrapper is None else maps.Saved(_wrapped(wrapper, saved, spec), saved.reasons)

    saved = look(source.maps)
    there = {name: key for name, key in source.variants.items() if digests.get(key)}
    variants = {name: look([key]).explanation.maps[spec.name] for name, key in there.items()}
    return evidence_of(saved, spec, variants), list(saved.reasons[spec.name])


def _wrapped(wrapper: Wrapper, saved: maps.Saved, spec: MapSpec) -> Explanation:
    """What a wrapper makes of a map, checked for its shape."""
    inner = saved.explanation.maps[spec.name]
    found = wrapper.wrap(Explanation({spec.name: inner.clone()}), spec).maps[spec.name]
    if not isinstance(found, Tensor) or found.shape != inner.shape:
        raise MetricFault(f"{wrapper.name} changed the shape of the map {spec.name!r}: return {tuple(inner.shape)}")
    return Explanation({spec.name: found.detach().float().cpu()})


def evidence_of(saved: maps.Saved, spec: MapSpec, variants: Mapping[str, Tensor]) -> Evidence:
    """What a metric may see of one map; a slope replaces maps that cannot be scored."""
    explanation = saved.explanation
    raw = explanation.maps[spec.name].clone()
    height, width = raw.shape[1:]
    slope = torch.linspace(0, 1, height * width).view(height, width)
    for number, reason in enumerate(saved.reasons[spec.name]):
        if reason:
            raw[number] = slope
    largest = raw.abs().amax((1, 2), keepdim=True)
    return Evidence(
        map=raw / largest,
        raw=raw,
        spec=spec,
        siblings=explanation.maps,
        facts=explanation.facts,
        signals=explanation.signals,
        variants=variants,
    )


def judge(
    metric: Metric, scene: Scene, evidence: Mapping[str, tuple[Evidence, list[str]]], cells: Sequence[Cell]
) -> list[Outcome]:
    """The outcomes of one metric's cells."""
    lacking = {cell.key: unmet(metric, scene, evidence[cell.method][0]) for cell in cells}
    outcomes = [Outcome(key, "skipped", reason) for key, reason in lacking.items() if reason]
    asked = [cell for cell in cells if not lacking[cell.key]]
    hopeless = [cell for cell in asked if all(evidence[cell.method][1])]
    outcomes += [_unscored(cell, evidence[cell.method][1]) for cell in hopeless]
    asked = [cell for cell in asked if cell not in hopeless]
    return outcomes + (_ask(metric, scene, evidence, asked) if asked else [])


def unmet(metric: Metric, scene: Scene, row: Evidence) -> str:
    """What the metric needs and does not find, in words; empty if it finds everything."""
    there = {
        "mask": scene.mask is not None,
        "truth": scene.truth is not None,
        "image": scene.x.dim() == 4,
        **{variant.partition(":")[0]: True for variant in row.variants},
        **{f"map:{name}": True for name in row.siblings},
        **{f"signals:{name}": True for name in row.signals},
    }
    lacking = sorted(need for need in metric.needs if not there.get(need, False))
    return f"needs {' and '.join(lacking)}" if lacking else ""


def _ask(
    metric: Metric, scene: Scene, evidence: Mapping[str, tuple[Evidence, list[str]]], cells: Sequence[Cell]
) -> list[Outcome]:
    rows = {cell.method: evidence[cell.method][0] for cell in cells}
    try:
        torch.manual_seed(scene.seeds[0])
        scores = metric.score(scene, rows)
        return [_scored(cell, metric, scores[cell.method], *evidence[cell.method]) for cell in cells]
    except Unsupported as refusal:
        return [Outcome(cell.key, "skipped", message(refusal)) for cell in cells]
    except (Changed, Interrupted):
        raise
    except BaseException:
        if len(cells) == 1:
            raise
        return [outcome for cell in cells for outcome in _alone(metric, scene, evidence, cell)]


def _alone(
    metric: Metric, scene: Scene, evidence: Mapping[str, tuple[Evidence, list[str]]], cell: Cell
) -> list[Outcome]:
    try:
        return _ask(metric, scene, evidence, [cell])
    except (Changed, Interrupted):
        raise
    except BaseException as error:  # the row that the metric cannot score
        return [Outcome(cell.key, "failed", kind(error))]


def _scored(cell: Cell, metric: Metric, scores: Tensor, row: Evidence, faults: Sequence[str]) -> Outcome:
    """A row's scores, checked against what the metric declares."""
    values = scores.detach().double().cpu()
    if values.shape != (len(faults),):
        raise MetricFault(f"{cell.metric} returned scores of shape {tuple(values.shape)} for {len(faults)} samples")
    low, high = metric.range
    inside = values[values.isfinite()]
    if len(inside) and (inside.min() < low - SLACK or inside.max() > high + SLACK):
        worst = float(inside.max() if inside.max() > high + SLACK else inside.min())
        raise MetricFault(f"{cell.metric} returned {worst:g}, outside its range {low:g} to {high:g}")
    nothing = one_line(metric.no_score)
    reasons = [fault or ("" if value.isfinite() else nothing) for fault, value in zip(faults, values, strict=True)]
    numbers = [float("nan") if reason else float(value) for reason, value in zip(reasons, values, strict=True)]
    broken = _broken(row, faults, metric) if metric.gate else ""
    return Outcome(cell.key, "nan" if broken else "ok", broken, scores=tuple(numbers), reasons=tuple(reasons))


def _broken(row: Evidence, faults: Sequence[str], metric: Metric) -> str:
    """Which second maps are not finite where the first is: leaving them out of the mean would make the gate easier."""
    for name in sorted(metric.needs & row.variants.keys()):
        second = row.variants[name].flatten(1).isfinite().all(1).tolist()
        sound = [finite for finite, fault in zip(second, faults, strict=False) if not fault]
        if not all(sound):
            return f"the {name} map holds NaN or infinite values ({sound.count(False)} of {len(sound)})"
    return ""


def _unscored(cell: Cell, faults: Sequence[str]) -> Outcome:
    """A row none of whose maps can be scored: NaN is a failure, a constant map an answer without a score."""
    broken = any("NaN" in fault or "infinite" in fault for fault in faults)
    nothing = (float("nan"),) * len(faults)
    return Outcome(
        cell.key, "nan" if broken else "ok", faults[0] if broken else "", scores=nothing, reasons=tuple(faults)
    )


def predictor(probe: OpenProbe, batch: int) -> Callable[[Tensor], Tensor]:
    """The network as a function of any number of inputs, without gradients, answers on the CPU."""

    def predict(x: Tensor) -> Tensor:
        size = max((batch or MOST) // 4, NUMBERS // x[0].numel())  # small images go in large batches, large in small
        return forwards(probe, x, size if batch else devices.together(probe, size))

    return predict


@torch.no_grad()
def forwards(probe: OpenProbe, x: Tensor, size: int) -> Tensor:
    """Logits of inputs (n, …), `size` at a time, or half as many where these do not fit into memory."""
    try:
        return torch.cat([probe.logits(part) for part in torch.split(x, size)]).cpu()
    except Exception as error:
        if size == 1 or not devices.short_of_memory(error):
            raise
    devices.forget_cache(probe.device)
    return forwards(probe, x, size // 2)
