"""Patterns written out neuron by neuron, and what they must do on linear networks and to the sum of relevance."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mibench.methods.patternattribution import PatternAttribution
from mibench.methods.patternnet import PatternNet
from mibench.network.chain import walk
from mibench.network.patterns import learn_patterns
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins.contract import Explanation, FittedExplainer, Samples, State, Unsupported
from tests.methods.small_networks import CLASSES, Residual, calibration, convolutional, frozen, some, table


def small() -> OpenProbe:
    layers = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten()
    model = frozen(nn.Sequential(*layers, nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)))
    return open_probe(model, kind="grid", local="input", representation="5", shape=(2, 8, 8), classes=CLASSES)


def explained(explainer: FittedExplainer, probe: OpenProbe, samples: Samples) -> Explanation:
    state = explainer.learn(probe, samples, seed=0)
    explainer.restore(probe, State(load(save(dict(state.tensors)))))
    return explainer.explain(probe, *some(probe, 6))


def naive_pattern(inputs: Tensor, weight: Tensor, bias: float, rectified: bool) -> Tensor:
    """One neuron's pattern from all its inputs (n, F), windows of a convolution included."""
    inputs, weight = inputs.double(), weight.double()
    y = inputs @ weight
    chosen = y + bias > 0 if rectified else torch.ones_like(y, dtype=torch.bool)
    covariance = (inputs[chosen] * y[chosen, None]).mean(0) - inputs[chosen].mean(0) * y.mean()
    return (covariance / (weight @ covariance)).nan_to_num()  # a neuron that is never open has none


def naive_patterns(probe: OpenProbe, x: Tensor) -> dict[int, Tensor]:
    layers, found = list(probe.model), {}
    windows = nn.functional.unfold(x, 3, padding=1, stride=2).transpose(1, 2).flatten(0, 1)  # (n, 18)
    hidden = probe.model[:4](x)
    for place, inputs, rectified in ((0, windows, True), (4, hidden, True), (6, probe.model[:6](x), False)):
        layer = layers[place]
        rows = zip(layer.weight.flatten(1), layer.bias, strict=True)
        each = [naive_pattern(inputs, weight, float(bias), rectified) for weight, bias in rows]
        found[place] = torch.stack(each).reshape(layer.weight.shape).float()
    return found


def test_patterns_are_each_neurons_over_the_samples_that_activate_it() -> None:
    probe = small()
    x = calibration(probe, 150).x
    with torch.no_grad():
        found = learn_patterns(walk(probe.model, probe.shape, "input"), x)
    for place, expected in naive_patterns(probe, x).items():
        assert torch.allclose(found[place], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("explainer", [PatternNet(), PatternAttribution()], ids=lambda e: e.name)
def test_the_backward_pass_is_the_gradient_of_a_network_with_other_weights(explainer: FittedExplainer) -> None:
    """The rectifiers and switches of the real forward, the linear layers' weights replaced."""
    probe = small()
    samples = calibration(probe, 150)
    maps = explained(explainer, probe, samples).maps["map"]
    x, target, _ = some(probe, 6)
    layers, patterns = list(probe.model), naive_patterns(probe, samples.x)
    for n, c in enumerate(target.tolist()):
        weights = {p: a if explainer.name == "patternnet" else a * layers[p].weight for p, a in patterns.items()}
        image = x[[n]].clone().requires_grad_()
        conv = nn.functional.conv2d(image, weights[0], None, 2, 1)
        opened = layers[0](x[[n]]) > 0
        pooled, switches = nn.functional.max_pool2d(layers[0](x[[n]]).relu(), 2, return_indices=True)
        chosen = (conv * opened).flatten(2).gather(2, switches.flatten(2)).flatten(1)
        hidden = (chosen @ weights[4].T) * (layers[4](pooled.flatten(1)) > 0)
        (gradient,) = torch.autograd.grad((hidden @ weights[6].T)[0, c], image)
        expected = float(probe.logits(x[[n]])[0, c]) * gradient[0].sum(0)
        assert torch.allclose(maps[n], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()) + 1e-6)


def test_a_linear_neurons_pattern_finds_the_signal_behind_a_distractor() -> None:
    """Kindermans' example: x = s (1, 0) + d (1, 1), w = (1, -1) reads s alone; the signal's direction is (1, 0)."""
    generator = torch.Generator().manual_seed(0)
    s, d = torch.randn((2, 20_000), generator=generator)
    x = s[:, None] * torch.tensor([1.0, 0.0]) + d[:, None] * torch.tensor([1.0, 1.0])
    probe = table(nn.Linear(2, 2), nn.Linear(2, 3), features=2)
    probe.model[0].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 1.0]]))
    with torch.no_grad():
        pattern = learn_patterns(walk(probe.model, probe.shape, "input"), x)[0][0]
    assert torch.allclose(pattern, torch.tensor([1.0, 0.0]), atol=0.03)


def test_relevance_sums_to_the_logit_without_a_rectifier() -> None:
    probe = table(nn.Linear(5, 3), nn.Identity())
    relevance = explained(PatternAttribution(), probe, calibration(probe, 100)).maps["map"].sum((1, 2))
    x, target, _ = some(probe, 6)
    assert torch.allclose(relevance, probe.logits(x).gather(1, target[:, None])[:, 0], atol=1e-4)


def test_a_neuron_that_is_never_open_has_no_pattern() -> None:
    probe = small()
    probe.model[4].bias[2] = -1e4
    with torch.no_grad():
        patterns = learn_patterns(walk(probe.model, probe.shape, "input"), calibration(probe, 60).x)
    assert float(patterns[4][2].abs().max()) == 0
    assert all(bool(pattern.isfinite().all()) for pattern in patterns.values())


def test_a_network_with_a_residual_sum_is_refused() -> None:
    with pytest.raises(Unsupported, match="values meet"):
        explained(PatternNet(), convolutional(Residual), calibration(convolutional(Residual), 20))
