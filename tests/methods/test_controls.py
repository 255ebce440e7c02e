"""Controls know nothing, or the opposite; and every baseline leaves the network alone and each sample to itself."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mibench.information.pointwise import FLOOR
from mibench.methods import (
    constant,
    deconvnet,
    gradcam,
    gradient_shap,
    guided_backprop,
    guided_gradcam,
    input_x_gradient,
    integrated_gradients,
    inverted,
    occlusion,
    random,
    region,
    saliency,
    smoothgrad,
    truth,
)
from mibench.metrics.information import on_cells
from mibench.plugins.contract import Explainer, Explanation, Known, MapSpec, Samples, Unsupported
from mibench.record.cells import TaskSpec
from mibench.run.explaining import task_of
from mibench.run.scoring import scene_of
from tests.methods.small_networks import Functional, convolutional, explained, ready, some

MODULES = [
    constant, deconvnet, gradcam, gradient_shap, guided_backprop, guided_gradcam, input_x_gradient,
    integrated_gradients, occlusion, random, saliency, smoothgrad,
]  # fmt: skip


def explainers() -> Iterator[type[Explainer]]:
    for module in MODULES:
        for cls in vars(module).values():
            if inspect.isclass(cls) and issubclass(cls, Explainer) and cls.__module__ == module.__name__:
                yield cls


each = pytest.mark.parametrize("method", list(explainers()), ids=lambda cls: cls.name)


@each
def test_a_samples_map_does_not_depend_on_its_batch(method: type[Explainer]) -> None:
    probe = convolutional()
    explainer = ready(method(), probe)
    x, target, seeds = some(probe, 5)
    together = explainer.explain(probe, x, target, seeds).maps["map"]
    alone = explainer.explain(probe, x[3:4], target[3:4], seeds[3:4]).maps["map"]
    assert torch.allclose(together[3], alone[0], atol=1e-5)


@each
def test_a_map_is_negative_only_where_its_claim_allows_it(method: type[Explainer]) -> None:
    found = explained(method(), convolutional(), 8).maps["map"]
    assert not found.requires_grad
    assert bool((found < 0).any()) == method.maps[0].signed


class Breaks(Functional):
    """A network that breaks when it is run the third time."""

    runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Breaks.runs += 1
        if Breaks.runs == 9:
            raise RuntimeError("broken")
        return super().forward(x)


@each
@pytest.mark.parametrize("broken", [False, True])
def test_the_network_is_left_as_it_was_found_even_after_an_error(method: type[Explainer], broken: bool) -> None:
    Breaks.runs = 100
    probe = convolutional(Breaks)
    explainer = ready(method(), probe)
    before = copy.deepcopy(probe.model.state_dict())
    generator = torch.get_rng_state()
    Breaks.runs = 8 if broken else 100
    try:
        explainer.explain(probe, *some(probe))
    except RuntimeError:
        assert broken
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in probe.model.state_dict().items():
        assert torch.equal(value, before[name])
    for module in probe.model.modules():
        assert not module.training
        assert not any([module._forward_hooks, module._forward_pre_hooks, module._backward_hooks])
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in probe.model.parameters())
    assert isinstance(torch.relu(torch.ones(1)), torch.Tensor)
    assert torch.is_grad_enabled()


@each
def test_nothing_of_the_callers_is_changed(method: type[Explainer]) -> None:
    probe = convolutional()
    explainer = ready(method(), probe)
    x, target, seeds = some(probe)
    before = x.clone()
    explainer.explain(probe, x, target, seeds)
    assert torch.equal(x, before)
    assert not x.requires_grad


def test_random_maps_differ_with_the_seed_alone() -> None:
    probe = convolutional()
    x, target, seeds = some(probe, 2)
    first = random.Random().explain(probe, x, target, seeds).maps["map"]
    again = random.Random().explain(probe, -x, target, seeds).maps["map"]
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_the_inverted_map_orders_pixels_the_other_way_round() -> None:
    plain = torch.tensor([[[0.0, 2.0], [5.0, 2.0]]])
    turned = inverted.Inverted().wrap(Explanation({"map": plain}), MapSpec("map")).maps["map"]
    assert torch.equal(turned, torch.tensor([[[5.0, 3.0], [0.0, 3.0]]]))
    signed = inverted.Inverted().wrap(Explanation({"map": plain - 1}), MapSpec("map", signed=True)).maps["map"]
    assert torch.equal(signed, 1 - plain)


def test_controls_are_not_ranked() -> None:
    assert random.Random.control
    assert constant.Constant.control
    assert inverted.Inverted.control
    assert explained(constant.Constant(), convolutional()).maps["map"].unique().tolist() == [1.0]
    assert not any(isinstance(module, nn.Dropout) for module in convolutional().model.modules())


def test_what_is_known_is_shown_as_it_is_known() -> None:
    spec = TaskSpec("planted", "planted", 8, 8)
    task, scene = task_of(spec, "cpu", "fp32"), scene_of(spec, "cpu", "fp32", 0, 0)
    samples = dataclasses.replace(task.scoring, truth=task.truth)
    shown = truth.Truth().show(task.probe, samples, task.target)
    assert samples.truth is not None
    for name, nats in shown.maps.items():
        wanted = samples.truth.information[name].flatten(1).double()
        assert torch.allclose(on_cells(scene, nats.double()), wanted, atol=1e-5), name
    assert torch.equal(region.Region().show(task.probe, samples, task.target).maps["map"].bool(), task.scoring.mask)


def test_the_truth_answers_for_the_class_that_is_asked() -> None:
    spec = TaskSpec("planted", "planted", 8, 8)
    task, scene = task_of(spec, "cpu", "fp32"), scene_of(spec, "cpu", "fp32", 0, 0)
    other = (task.target + 1) % 6
    samples = dataclasses.replace(task.scoring, truth=task.truth)
    shown = truth.Truth().show(task.probe, samples, other)
    assert samples.truth is not None
    signal = samples.truth.cells["signal"].flatten(1)
    against = on_cells(scene, shown.maps["decision"].double())
    assert against[signal].tolist() == pytest.approx([math.log(FLOOR) + math.log(6)] * 8, abs=1e-3)
    assert against[~signal].abs().max() < 1e-3


@pytest.mark.parametrize("control", [truth.Truth(), region.Region()], ids=lambda control: control.name)
def test_where_nothing_is_known_nothing_is_shown_and_nothing_is_explained(control: Known) -> None:
    probe = convolutional()
    x, target, seeds = some(probe, 2)
    with pytest.raises(Unsupported, match="these data"):
        control.show(probe, Samples(x, target, ("a", "b")), target)
    with pytest.raises(Unsupported, match="explains nothing"):
        control.explain(probe, x, target, seeds)
