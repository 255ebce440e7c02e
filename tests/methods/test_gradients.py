"""The gradient explainers give what a loop over samples, written out, gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mibench.methods.gradient_shap import GradientShap
from mibench.methods.input_x_gradient import InputXGradient
from mibench.methods.integrated_gradients import IntegratedGradients
from mibench.methods.saliency import Saliency
from mibench.methods.smoothgrad import SmoothGrad
from mibench.network.probe import OpenProbe
from tests.methods.small_networks import calibration, convolutional, explained, ready, some, table, transformer

PROBES = [convolutional, transformer, table]
probes = pytest.mark.parametrize("opened", PROBES, ids=["grid", "tokens", "columns"])


def one_slope(probe: OpenProbe, x: Tensor, target: int) -> Tensor:
    """The gradient of one sample's logit, alone."""
    x = x.clone().requires_grad_()
    probe.model(x[None])[0, target].backward()
    assert x.grad is not None
    return x.grad


def flat(attribution: Tensor) -> Tensor:
    return attribution.sum(0) if attribution.dim() == 3 else attribution[None]


def naively(probe: OpenProbe, one: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    return torch.stack([flat(one(x, int(c), seed)) for x, c, seed in zip(*some(probe), strict=True)])


@probes
def test_saliency_is_the_gradients_magnitude(opened: Callable[[], OpenProbe]) -> None:
    probe = opened()
    expected = naively(probe, lambda x, c, _: one_slope(probe, x, c).abs())
    assert torch.allclose(explained(Saliency(), probe).maps["map"], expected, atol=1e-5)


@probes
def test_input_x_gradient_is_their_product(opened: Callable[[], OpenProbe]) -> None:
    probe = opened()
    expected = naively(probe, lambda x, c, _: x * one_slope(probe, x, c))
    assert torch.allclose(explained(InputXGradient(), probe).maps["map"], expected, atol=1e-5)


@probes
def test_integrated_gradients_are_a_sum_over_the_quadratures_points(opened: Callable[[], OpenProbe]) -> None:
    probe = opened()
    points, weights = np.polynomial.legendre.leggauss(50)

    def integral(x: Tensor, c: int, _: int) -> Tensor:
        terms = [0.5 * w * one_slope(probe, 0.5 * (1 + a) * x, c) for a, w in zip(points, weights, strict=True)]
        return x * torch.stack(terms).sum(0)

    explanation = explained(IntegratedGradients(), probe)
    assert torch.allclose(explanation.maps["map"], naively(probe, integral), atol=1e-5)


@probes
def test_integrated_gradients_add_up_to_the_logits_rise_up_to_the_gap(opened: Callable[[], OpenProbe]) -> None:
    probe = opened()
    x, target, _ = some(probe)
    explanation = explained(IntegratedGradients(), probe)
    rise = (probe.logits(x) - probe.logits(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
    assert torch.allclose(explanation.maps["map"].sum((1, 2)), rise + explanation.facts["gap"], atol=1e-4)
    assert explanation.facts["gap"].abs().max() < 0.05 * rise.abs().max()


@probes
def test_smoothgrad_averages_the_gradients_of_noisy_copies(opened: Callable[[], OpenProbe]) -> None:
    probe = opened()

    def average(x: Tensor, c: int, seed: int) -> Tensor:
        source = torch.Generator().manual_seed(seed)
        spread = 0.2 * (x.max() - x.min())
        copies = [x + spread * torch.randn(x.shape, generator=source) for _ in range(7)]
        return torch.stack([one_slope(probe, copy, c) for copy in copies]).mean(0).abs()

    explainer = SmoothGrad(SmoothGrad.Parameters(copies=7, noise=0.2))
    assert torch.allclose(explained(explainer, probe).maps["map"], naively(probe, average), atol=1e-5)


@probes
def test_gradient_shap_averages_over_baselines_from_the_data(opened: Callable[[], OpenProbe]) -> None:
    probe = opened()
    explainer = GradientShap(GradientShap.Parameters(draws=6, baselines=9))
    state = explainer.learn(probe, calibration(probe), 3)
    baselines = state.tensors["baselines"]
    assert all((calibration(probe).x == one).flatten(1).all(1).any() for one in baselines)
    assert len(baselines) == 9

    def average(x: Tensor, c: int, seed: int) -> Tensor:
        source, terms = torch.Generator().manual_seed(seed), []
        for _ in range(6):
            start = baselines[torch.randint(9, (1,), generator=source)][0]
            share = torch.rand(1, generator=source)
            terms.append((x - start) * one_slope(probe, start + share * (x - start), c))
        return torch.stack(terms).mean(0)

    explainer.restore(probe, state)
    assert torch.allclose(explainer.explain(probe, *some(probe)).maps["map"], naively(probe, average), atol=1e-5)


def test_on_a_linear_network_signed_methods_give_each_inputs_share() -> None:
    layer = nn.Linear(5, 3, bias=False)
    probe = table(layer)
    x, target, _ = some(probe)
    expected = (layer.weight[target] * x)[:, None]
    assert torch.allclose(explained(InputXGradient(), probe).maps["map"], expected, atol=1e-5)
    assert torch.allclose(explained(IntegratedGradients(), probe).maps["map"], expected, atol=1e-5)
    many = GradientShap(GradientShap.Parameters(draws=2, baselines=1))  # one baseline: the draws cannot differ
    start = many.learn(probe, calibration(probe), 0).tensors["baselines"]
    ours = ready(many, probe).explain(probe, x, target, [0] * len(x)).maps["map"]
    assert torch.allclose(ours, (layer.weight[target] * (x - start))[:, None], atol=1e-5)
