"""The rules for explainers, one function each, which raises `Broken` with what is wrong."""

from __future__ import annotations

import inspect
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mibench.conformance.bench import CLASSES, COUNT, Bench, ready, truth_of
from mibench.conformance.rules import Broken, Rules
from mibench.network.untouched import left_as_found
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, Explanation, FittedExplainer, Known, State
from mibench.plugins.registry import Method
from mibench.record import maps
from mibench.run.explaining import checked, copied, in_batches, sample_seeds

CLOSE = 1e-4  # of a map's largest value


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
            raise Broken(f"the map {name!r} differs {what} (by {error:.1%} of its largest value)")


def says_what_it_is(explainer: Explainer, _bench: Bench) -> None:
    """Title, documentation, and maps with unique names."""
    if not explainer.title or not inspect.getdoc(type(explainer)):
        raise Broken("it has no title or no docstring")
    names = [spec.name for spec in explainer.maps]
    if not names or len(set(names)) < len(names):
        raise Broken(f"its maps need unique names, not {names}")


def gives_the_maps_it_promises(explainer: Explainer, bench: Bench) -> None:
    """Every map that it declares, (B, H, W), finite, and without negative values unless declared signed."""
    explanation = _once(ready(explainer, bench), bench)
    _look(explainer, bench, explanation)


def shows_the_maps_it_promises(control: Known, bench: Bench) -> None:
    """The same of a control that shows what is known."""
    samples = bench.samples if bench.samples.mask is None else replace(bench.samples, truth=truth_of(bench))
    _look(control, bench, control.show(bench.probe, copied(samples), bench.target[: len(samples)]))


def _look(explainer: Explainer, bench: Bench, explanation: Explanation) -> None:
    explanation = checked(explainer, bench.probe, explanation, COUNT)
    for spec in explainer.maps:
        each = explanation.maps[spec.name]
        if not each.isfinite().all():
            raise Broken(f"the map {spec.name!r} holds NaN or infinite values")
        if not spec.signed and each.min() < 0:
            raise Broken(
                f"the map {spec.name!r} is declared signed=False but has negative values (min {float(each.min()):g})"
            )


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
    """The seed and the class change nothing where the explainer declares that they do not."""
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
        raise Broken("it changes its input samples in place")


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


METHOD_RULES: Rules = {
    "has a title and named maps": says_what_it_is,
    "gives the maps it promises": gives_the_maps_it_promises,
    "repeats itself": repeats_itself,
    "does not depend on the batch": does_not_depend_on_the_batch,
    "depends on the seed and the class as declared": heeds_what_it_says,
    "leaves its input alone": leaves_its_input_alone,
    "cleans up after an error": cleans_up_after_an_error,
}
KNOWN_RULES: Rules = {
    "has a title and named maps": says_what_it_is,
    "gives the maps it promises": shows_the_maps_it_promises,
}
FIT_RULES: Rules = {"fits once": fits_once, "learns what its learner learns": learns_what_its_learner_learns}
WRAPPER_RULES: Rules = {"keeps name and shape": keeps_name_and_shape}
