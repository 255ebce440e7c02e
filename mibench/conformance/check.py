"""What every plug-in must keep to, asked of one plug-in on tiny networks: `check NAME`, and a test for every one found.

The networks are made on the spot with random weights, one for each kind of local features; a plug-in may refuse some
of them, but not all.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mibench.errors import Interrupted, UsageError, interrupts_told_apart
from mibench.network.probe import OpenProbe, open_probe
from mibench.network.untouched import left_as_found
from mibench.plugins import registry
from mibench.plugins.contract import (
    CLAIMS,
    PERTURBED,
    VARIANTS,
    Evidence,
    Explainer,
    Explanation,
    FittedExplainer,
    Known,
    MapSpec,
    Metric,
    Samples,
    Scene,
    State,
    Truth,
    Unsupported,
)
from mibench.plugins.reasons import kind, message
from mibench.plugins.registry import Method
from mibench.record import maps
from mibench.run.explaining import checked, copied, in_batches, sample_seeds

COUNT = 5  # samples explained
FITTED = 64  # samples fitted on
CLASSES = ("one", "two", "three")
CLOSE = 1e-4  # of a map's largest value


class Broken(Exception):
    """The plug-in breaks a rule; the message says how."""


@dataclass(frozen=True)
class Finding:
    """One rule asked of one plug-in on one network."""

    rule: str
    network: str
    verdict: Literal["kept", "broken", "skipped"]
    reason: str = ""


@dataclass(frozen=True)
class Bench:
    """A tiny network with samples to explain and to fit on."""

    name: str
    probe: OpenProbe
    samples: Samples
    calibration: Samples
    target: Tensor
    seeds: tuple[int, ...]
    fits: dict[str, State] = field(default_factory=dict)  # what was learned here, so that each rule need not fit again


class Tokens(nn.Module):
    """A transformer of one block over 4 x 4 patches and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.first = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)  # (B, 16, 8)
        tokens = torch.cat([self.first.expand(x.shape[0], -1, -1), patches], 1)  # (B, 17, 8)
        logits: Tensor = self.head(self.norm(self.block(tokens))[:, 0])
        return logits


def benches() -> Iterator[Bench]:
    """A convolutional network on images, a transformer on images, a network on tables."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        grid = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, len(CLASSES)),
        )  # fmt: skip
        tokens = Tokens()
        columns = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, len(CLASSES)))
    yield _bench("grid", grid, (1, 16, 16), kind="grid", local="4", representation="6")
    yield _bench("tokens", tokens, (1, 16, 16), kind="tokens", local="block", representation="norm")
    yield _bench("columns", columns, (6,), kind="columns", local="input", representation="3")


def _bench(name: str, network: nn.Module, shape: tuple[int, ...], **cuts: Any) -> Bench:
    probe = open_probe(network.eval().requires_grad_(False), shape=shape, classes=CLASSES, **cuts)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((COUNT + FITTED, *shape), generator=generator)
    with torch.no_grad():
        target = probe.logits(x).argmax(1)
    ids = tuple(f"sample-{number}" for number in range(len(x)))
    everything = Samples(x, target, ids, _mask(x) if len(shape) == 3 else None)
    samples, calibration = everything[slice(COUNT)], everything[slice(COUNT, None)]
    return Bench(name, probe, samples, calibration, target[:COUNT], sample_seeds(samples.ids, 0))


def _mask(x: Tensor) -> Tensor:
    mask = torch.zeros(x.shape[0], *x.shape[2:], dtype=torch.bool)
    mask[:, :8, :8] = True
    return mask


def check(plugin: Method | Metric) -> list[Finding]:
    """Ask every rule of a method or a metric on every tiny network."""
    subject: Any = plugin if isinstance(plugin, Metric) or plugin.wrapper else plugin.explainer
    if isinstance(subject, Metric):
        rules = METRIC_RULES
    elif isinstance(subject, Method):
        rules = WRAPPER_RULES
    elif isinstance(subject, Known):
        rules = KNOWN_RULES
    else:
        rules = METHOD_RULES | (FIT_RULES if isinstance(subject, FittedExplainer) else {})
    findings = [_ask(rule, ask, subject, bench) for bench in benches() for rule, ask in rules.items()]
    refused = [finding.verdict == "skipped" for finding in findings if finding.rule not in SAYINGS]
    if all(refused):
        findings.append(Finding("treats at least one kind of network", "any", "broken", "every network was refused"))
    return findings


def _ask(rule: str, ask: Callable[[Any, Bench], None], subject: Any, bench: Bench) -> Finding:
    try:
        with interrupts_told_apart(), left_as_found(bench.probe.model):
            ask(subject, bench)
    except Unsupported as refusal:
        return Finding(rule, bench.name, "skipped", message(refusal))
    except Interrupted:
        raise  # the user's own Ctrl-C
    except BaseException as error:  # whatever a plug-in raises breaks the rule that was asked
        return Finding(rule, bench.name, "broken", message(error) if isinstance(error, Broken) else kind(error))
    return Finding(rule, bench.name, "kept")


def ready(explainer: Explainer, bench: Bench) -> Explainer:
    """A new explainer of the same parameters, fitted if it is one that is."""
    fresh = type(explainer)(explainer.parameters)
    if isinstance(fresh, FittedExplainer):
        label = registry.label(fresh)
        if label not in bench.fits:
            bench.fits[label] = fresh.learn(bench.probe, copied(bench.calibration), 0)
        fresh.restore(bench.probe, bench.fits[label])
    return fresh


def _explained(explainer: Explainer, bench: Bench, batch: int = COUNT) -> Explanation:
    return in_batches(explainer, bench.probe, bench.samples.x, bench.target, bench.seeds, batch)


def _once(explainer: Explainer, bench: Bench) -> Explanation:
    """All samples explained at once, from copies."""
    return explainer.explain(bench.probe, bench.samples.x.clone(), bench.target.clone(), bench.seeds)


def _same(first: Explanation, second: Explanation, what: str) -> None:
    for name, each in first.maps.items():
        other = second.maps[name]
        scale = float(each.nan_to_num().abs().max()) or 1.0
        error = float((each - other).nan_to_num().abs().max()) / scale
        if error > CLOSE or not torch.equal(each.isnan(), other.isnan()):
            raise Broken(f"the map {name!r} is another one {what} (by {error:.1%} of its largest value)")


def says_what_it_is(explainer: Explainer, _bench: Bench) -> None:
    """Title, documentation, and maps with names of their own."""
    if not explainer.title or not inspect.getdoc(type(explainer)):
        raise Broken("it has no title or no docstring")
    names = [spec.name for spec in explainer.maps]
    if not names or len(set(names)) < len(names):
        raise Broken(f"its maps need names of their own, not {names}")


def gives_the_maps_it_promises(explainer: Explainer, bench: Bench) -> None:
    """Every map it names, (B, H, W), finite, and negative only where it says so."""
    explanation = _once(ready(explainer, bench), bench)
    _look(explainer, bench, explanation)


def shows_the_maps_it_promises(control: Known, bench: Bench) -> None:
    """The same of a control that shows what is known."""
    samples = bench.samples if bench.samples.mask is None else replace(bench.samples, truth=_truth(bench))
    _look(control, bench, control.show(bench.probe, copied(samples), bench.target[: len(samples)]))


def _look(explainer: Explainer, bench: Bench, explanation: Explanation) -> None:
    explanation = checked(explainer, bench.probe, explanation, COUNT)
    for spec in explainer.maps:
        each = explanation.maps[spec.name]
        if not each.isfinite().all():
            raise Broken(f"the map {spec.name!r} holds NaN or infinite values")
        if not spec.signed and each.min() < 0:
            raise Broken(f"the map {spec.name!r} is said to be never negative and is {float(each.min()):g} somewhere")


def repeats_itself(explainer: Explainer, bench: Bench) -> None:
    """The same seeds give the same maps, whatever state the global generators are in."""
    explainer = ready(explainer, bench)
    first = _once(explainer, bench)
    torch.rand(3)
    _same(first, _once(explainer, bench), "the second time")


def does_not_depend_on_the_batch(explainer: Explainer, bench: Bench) -> None:
    """A sample alone has the map that it has among others."""
    explainer = ready(explainer, bench)
    _same(_explained(explainer, bench), _explained(explainer, bench, batch=2), "in another batch")


def heeds_what_it_says(explainer: Explainer, bench: Bench) -> None:
    """If it says that the seed, or the class, changes nothing, it changes nothing."""
    first = _explained(ready(explainer, bench), bench)
    if not explainer.seeded:
        other = type(explainer)(explainer.parameters)
        if isinstance(other, FittedExplainer):
            other.restore(bench.probe, other.learn(bench.probe, copied(bench.calibration), 1))
        seeds = sample_seeds(bench.samples.ids, 1)
        _same(first, in_batches(other, bench.probe, bench.samples.x, bench.target, seeds, COUNT), "with another seed")
    if not explainer.of_class:
        target = (bench.target + 1) % len(CLASSES)
        other = ready(explainer, bench)
        _same(first, in_batches(other, bench.probe, bench.samples.x, target, bench.seeds, COUNT), "for another class")


def fits_once(explainer: FittedExplainer, bench: Bench) -> None:
    """What fitting learned survives being saved, and fitting again with the same seed learns the same."""
    state = explainer.learn(bench.probe, copied(bench.calibration), 0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.safetensors"
        digest = maps.write_state(file, State(state.tensors, json.loads(json.dumps(dict(state.facts)))))
        other = type(explainer)(explainer.parameters)
        other.restore(bench.probe, maps.read_state(maps.Source(file, digest)))
    _same(_explained(ready(explainer, bench), bench), _explained(other, bench), "after being saved")


def learns_what_its_learner_learns(explainer: FittedExplainer, bench: Bench) -> None:
    """The state of the explainer that it names as its learner is the state that its own `learn` returns."""
    if explainer.learner is explainer:
        return
    own, learned = (each.learn(bench.probe, bench.calibration, 0) for each in (explainer, explainer.learner))
    different = {name for name in own.tensors.keys() | learned.tensors.keys() if not _equal(own, learned, name)}
    if different or own.facts != learned.facts:
        raise Broken(f"its learner {registry.label(explainer.learner)!r} learns other {sorted(different) or 'facts'}")


def _equal(first: State, second: State, name: str) -> bool:
    if not (name in first.tensors and name in second.tensors):
        return False
    return torch.equal(first.tensors[name].nan_to_num(), second.tensors[name].nan_to_num())


def leaves_its_input_alone(explainer: Explainer, bench: Bench) -> None:
    """Neither the samples nor the classes are changed in place."""
    explainer = ready(explainer, bench)
    x, target = bench.samples.x.clone(), bench.target.clone()
    explainer.explain(bench.probe, x, target, bench.seeds)
    if not torch.equal(x, bench.samples.x) or not torch.equal(target, bench.target) or x.requires_grad:
        raise Broken("it changes the samples that it is given")


def cleans_up_after_an_error(explainer: Explainer, bench: Bench) -> None:
    """A network that fails half-way is left as it was found, too."""
    explainer = ready(explainer, bench)
    last = [module for module in bench.probe.model.modules() if not list(module.children())][-1]

    def fail(*_arguments: Any) -> None:
        raise ArithmeticError("the network fails")

    handle = last.register_forward_hook(fail)
    try:
        with left_as_found(bench.probe.model):
            _once(explainer, bench)
    except ArithmeticError:
        pass
    finally:
        handle.remove()


def keeps_name_and_shape(method: Method, bench: Bench) -> None:
    """A wrapped map has the inner map's name and shape."""
    assert method.wrapper is not None
    explainer, spec = ready(method.explainer, bench), method.explainer.maps[0]
    inner = _explained(explainer, bench).maps[spec.name]
    wrapped = method.wrapper.wrap(Explanation({spec.name: inner}), spec)
    if set(wrapped.maps) != {spec.name} or wrapped.maps[spec.name].shape != inner.shape:
        raise Broken("it changes the map's name or shape")


def declares_direction_and_range(metric: Metric, _bench: Bench) -> None:
    """Direction, range and title are data."""
    low, high = metric.range
    if metric.direction not in ("higher", "lower") or not low < high or not metric.title:
        raise Broken("direction must be higher or lower, the range must grow, and there must be a title")
    try:
        registry.refuse_unknown_needs(metric)
    except UsageError as error:
        raise Broken(str(error)) from error


def scores_inside_its_range(metric: Metric, bench: Bench) -> None:
    """One score a sample for each row, all of them inside of the range."""
    scene, rows = scene_of(bench), rows_of(bench)
    low, high = metric.range
    scores = scored(metric, scene, rows)
    if set(scores) != set(rows):
        raise Broken(f"it scored the rows {sorted(scores)} of {sorted(rows)}")
    for row, values in scores.items():
        if values.shape != (COUNT,):
            raise Broken(f"it gave scores of shape {tuple(values.shape)} for {COUNT} samples")
        known = values[values.isfinite()]
        if len(known) and (known.min() < low - 1e-6 or known.max() > high + 1e-6):
            raise Broken(f"{row} has a score outside of {low:g} to {high:g}: {known.tolist()}")


def does_not_mix_rows(metric: Metric, bench: Bench) -> None:
    """A row alone has the scores that it has among others."""
    rows = rows_of(bench)
    together = scored(metric, scene_of(bench), rows)
    for row in rows:
        alone = scored(metric, scene_of(bench), {row: rows[row]})[row]
        if not torch.allclose(alone.double(), together[row].double(), atol=1e-6, equal_nan=True):
            raise Broken(f"{row} has other scores when it is alone")


def leaves_the_evidence_alone(metric: Metric, bench: Bench) -> None:
    """Maps and samples are not changed in place."""
    scene, rows = scene_of(bench), rows_of(bench)
    before = {row: evidence.map.clone() for row, evidence in rows.items()}
    x = scene.x.clone()
    scored(metric, scene, rows)
    if not torch.equal(x, scene.x) or any(not torch.equal(before[row], rows[row].map) for row in rows):
        raise Broken("it changes what it is given")


def scored(metric: Metric, scene: Scene, rows: Mapping[str, Evidence]) -> dict[str, Tensor]:
    """A metric's scores of rows, or `Unsupported` where the scene lacks what it needs."""
    lacking = {
        need
        for need in metric.needs
        if (need in ("mask", "truth") and getattr(scene, need) is None) or (need == "image" and scene.x.dim() != 4)
    }
    if lacking:
        raise Unsupported(f"needs {' and '.join(sorted(lacking))}")
    return dict(metric.score(scene, rows))


def scene_of(bench: Bench) -> Scene:
    """The samples as a metric sees them."""
    samples = bench.samples
    x = samples.x
    baselines = {
        "mean": x.mean(0, keepdim=True).expand_as(x).clone(),
        "blur": x.roll(1, -1),
        "black": torch.zeros_like(x),
    }
    baselines["uniform"] = torch.rand(x.shape, generator=torch.Generator().manual_seed(3))
    truth = _truth(bench) if samples.mask is not None else None

    def predict(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return bench.probe.logits(inputs)

    return Scene(x, samples.label, bench.target, predict, bench.probe, baselines, bench.seeds, samples.mask, truth)


def _truth(bench: Bench) -> Truth:
    """A signal and a redundant cell, each with the information that the three quantities have there."""
    height, width = bench.probe.grid
    signal = torch.zeros(COUNT, height, width, dtype=torch.bool)
    redundant = signal.clone()
    signal[:, 0, 0], redundant[:, -1, -1] = True, True
    nats = torch.tensor(3.0).log()
    roles = {"total": (signal | redundant) * nats, "decision": signal * nats, "redundant": redundant * nats}
    roles |= dict.fromkeys(CLAIMS, roles["decision"])  # of one source the three are the same
    information = _Any(0.5 * bench.samples.x, roles)  # of whatever else an explainer may state
    known = nn.functional.one_hot(bench.target, len(CLASSES)).double()  # (N, C)
    beliefs = torch.stack([torch.full_like(known, 1 / len(CLASSES)), known], 1)  # (N, 2, C)
    source = torch.zeros(COUNT, 1, dtype=torch.int64)
    return Truth((height, width), {"signal": signal, "redundant": redundant}, information, source, beliefs)


def rows_of(bench: Bench) -> dict[str, Evidence]:
    """Random maps that claim each of the roles, a signed one, and whatever a metric may need beside a map."""
    generator = torch.Generator().manual_seed(5)

    def draw(*more: int) -> Tensor:
        return torch.rand((COUNT, *(more or bench.probe.pixels)), generator=generator)

    claims = (
        MapSpec("decision", "decision", "nats"),
        MapSpec("total", "total", "nats"),
        MapSpec("redundant", "redundant", "nats"),
        MapSpec("bits", "decision", "bits"),
        MapSpec("signed", "decision", signed=True),
        MapSpec("plain"),
    )
    raw = {spec.name: draw() - 0.5 * spec.signed for spec in claims}
    few = {name: draw()[:2] for name in (*VARIANTS, f"{PERTURBED}:1", f"{PERTURBED}:2")}
    signals = _Any(bench.samples.x)
    return {
        f"row {spec.name}": Evidence(
            raw[spec.name] / raw[spec.name].abs().amax((1, 2), keepdim=True),
            raw[spec.name],
            spec,
            raw,
            _Any(draw(1)[:, 0]),
            signals,
            few,
        )
        for spec in claims
    }


class _Any(dict[str, Tensor]):
    """Answers to every name: with the same tensor, but for those that it is given."""

    def __init__(self, tensor: Tensor, known: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(known or {})
        self.tensor = tensor

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Tensor:
        return self.tensor


SAYINGS = ("says what it is", "declares direction and range")  # rules that need no network
Rules = dict[str, Callable[[Any, Bench], None]]
METHOD_RULES: Rules = {
    "says what it is": says_what_it_is,
    "gives the maps it promises": gives_the_maps_it_promises,
    "repeats itself": repeats_itself,
    "does not depend on the batch": does_not_depend_on_the_batch,
    "heeds the seed and the class as it says": heeds_what_it_says,
    "leaves its input alone": leaves_its_input_alone,
    "cleans up after an error": cleans_up_after_an_error,
}
KNOWN_RULES: Rules = {
    "says what it is": says_what_it_is,
    "gives the maps it promises": shows_the_maps_it_promises,
}
FIT_RULES: Rules = {"fits once": fits_once, "learns what its learner learns": learns_what_its_learner_learns}
WRAPPER_RULES: Rules = {"keeps name and shape": keeps_name_and_shape}
METRIC_RULES: Rules = {
    "declares direction and range": declares_direction_and_range,
    "scores inside its range": scores_inside_its_range,
    "does not mix rows": does_not_mix_rows,
    "leaves the evidence alone": leaves_the_evidence_alone,
}
