"""Guided backpropagation and DeconvNet rule every rectifier, however it is written, and say so where there is none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.methods.deconvnet import DeconvNet
from mibench.methods.gradcam import GradCam
from mibench.methods.guided_backprop import GuidedBackprop
from mibench.methods.guided_gradcam import GuidedGradCam
from mibench.network.rectifiers import rectified_slope
from mibench.plugins.contract import Explainer, Unsupported
from tests.methods.small_networks import Functional, Residual, convolutional, explained, some, table, transformer

METHODS = [(GuidedBackprop, True), (DeconvNet, False)]


def backwards(model: Residual, x: Tensor, target: int, closed_blocks: bool, ceiling: float) -> Tensor:
    """One sample's way back through `Residual`, layer by layer."""

    def normed(z: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        return F.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    def scaled(gradient: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        return gradient * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]

    def rule(gradient: Tensor, z: Tensor, ceiling: float) -> Tensor:
        gradient = gradient.clamp(min=0)
        return gradient * ((z > 0) & (z < ceiling)) if closed_blocks else gradient

    first = normed(F.conv2d(x[None], model.conv1.weight, padding=1), model.norm1)
    pooled, index = F.max_pool2d(first.relu(), 2, return_indices=True)
    second = pooled + normed(F.conv2d(pooled, model.conv2.weight, padding=1), model.norm2)
    gradient = model.head.weight[target][:, None, None].expand_as(second[0])[None] / second[0, 0].numel()
    gradient = rule(gradient, second, ceiling)
    gradient = gradient + F.conv_transpose2d(scaled(gradient, model.norm2), model.conv2.weight, padding=1)
    gradient = F.max_unpool2d(gradient, index, 2)
    gradient = rule(gradient, first, float("inf"))
    return F.conv_transpose2d(scaled(gradient, model.norm1), model.conv1.weight, padding=1)[0].sum(0)


@pytest.mark.parametrize(("method", "closed_blocks"), METHODS)
@pytest.mark.parametrize(("network", "ceiling"), [(Residual, float("inf")), (Functional, 6.0)])
def test_the_way_back_is_the_one_written_out(
    method: type[Explainer], closed_blocks: bool, network: type[Residual], ceiling: float
) -> None:
    probe = convolutional(network)
    x, target, _ = some(probe)
    expected = [backwards(probe.model, each, int(c), closed_blocks, ceiling) for each, c in zip(x, target, strict=True)]
    assert torch.allclose(explained(method(), probe).maps["map"], torch.stack(expected), atol=1e-5)


class Spelled(nn.Module):
    """One rectifier, spelled in one of many ways."""

    def __init__(self, rectify: object) -> None:
        super().__init__()
        self.first, self.last, self.rectify = nn.Linear(5, 8), nn.Linear(8, 3), rectify

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rectify(self.first(x)))  # type: ignore[no-any-return,operator]


def in_place(z: Tensor) -> Tensor:
    z.relu_()
    return z


SPELLINGS = [
    nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, Tensor.relu, in_place, F.relu_,
    nn.Hardtanh(0, 1e9), lambda z: F.hardtanh(z, 0.0, 1e9), lambda z: F.hardtanh(z, max_val=1e9, min_val=0),
]  # fmt: skip


@pytest.mark.parametrize("rectify", SPELLINGS)
def test_every_spelling_of_a_rectifier_is_guided(rectify: object) -> None:
    probe = table(Spelled(rectify))
    expected = explained(GuidedBackprop(), table(Spelled(nn.ReLU()))).maps["map"]
    assert torch.allclose(explained(GuidedBackprop(), probe).maps["map"], expected, atol=1e-6)
    assert not torch.allclose(
        rectified_slope(probe, *some(probe)[:2], lambda is_open, g: g * is_open)[:, None], expected
    )


def test_a_plain_rule_gives_the_plain_gradient() -> None:
    probe = convolutional(Functional)
    x, target, _ = some(probe)
    ours = rectified_slope(probe, x, target, lambda is_open, gradient: gradient * is_open)
    x.requires_grad_()
    plain = torch.autograd.grad(probe.logits(x).gather(1, target[:, None]).sum(), x)[0]
    assert torch.allclose(ours, plain, atol=1e-6)


@pytest.mark.parametrize("method", [GuidedBackprop, DeconvNet])
def test_a_network_without_rectifiers_is_refused(method: type[Explainer]) -> None:
    with pytest.raises(Unsupported, match="no rectifiers"):
        explained(method(), transformer())
    with pytest.raises(Unsupported, match="no rectifiers"):
        explained(method(), table(nn.Linear(5, 8), nn.Hardtanh(), nn.Linear(8, 3)))


def test_a_compiled_network_is_refused() -> None:
    probe = table(torch.jit.script(nn.ReLU()), nn.Linear(5, 8), nn.Linear(8, 3))
    with pytest.raises(Unsupported, match="TorchScript"):
        explained(GuidedBackprop(), probe)


def test_guided_gradcam_is_the_product_of_both_maps() -> None:
    probe = convolutional()
    both = explained(GradCam(), probe).maps["map"] * explained(GuidedBackprop(), probe).maps["map"]
    assert torch.allclose(explained(GuidedGradCam(), probe).maps["map"], both)
