"""LRP hands the logit down by its rule on any network that can be traced, and refuses what it has no rule for."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from mibench.methods.deep_taylor import DeepTaylor
from mibench.methods.input_x_gradient import InputXGradient
from mibench.methods.lrp import LrpEpsilon
from mibench.network.probe import open_probe
from mibench.network.relevance import canonical
from mibench.plugins.contract import Explainer, Unsupported
from tests.methods.small_networks import Functional, Residual, convolutional, explained, some, table, transformer

tiny = LrpEpsilon.Parameters(epsilon=1e-7)
both = pytest.mark.parametrize("method", [LrpEpsilon, DeepTaylor])


def mlp(bias: bool = True) -> list[nn.Module]:
    sizes = [5, 8, 6, 3]
    layers = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(sizes)]
    return [layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]]


def neuron_by_neuron(model: nn.Sequential, x: Tensor, target: int, epsilon: float | None) -> Tensor:
    """One sample's relevance through an MLP, sum by sum; without epsilon by the z+ rule, from 1."""
    activations, linear = [x], [layer for layer in model if isinstance(layer, nn.Linear)]
    for index, layer in enumerate(linear):
        z = layer(activations[-1])
        activations.append(z.relu() if index < len(linear) - 1 else z)
    relevance = torch.zeros(len(activations[-1]))
    relevance[target] = 1.0 if epsilon is None else activations[-1][target]
    for layer, a in zip(reversed(linear), reversed(activations[:-1]), strict=True):
        lower, z = torch.zeros_like(a), layer(a)
        for j in range(len(z)):
            parts = a * layer.weight[j]
            if epsilon is None:
                parts = parts.clamp(min=0)
                whole = parts.sum() + 1e-9
            else:
                whole = z[j] + epsilon * z.square().mean().sqrt() * (1 if z[j] >= 0 else -1)
            lower += parts / whole * relevance[j]
        relevance = lower
    return relevance


@pytest.mark.parametrize(("method", "epsilon"), [(LrpEpsilon, 0.25), (DeepTaylor, None)])
def test_every_neuron_hands_down_its_shares(method: type[Explainer], epsilon: float | None) -> None:
    probe = table(*mlp())
    expected = [neuron_by_neuron(probe.model, x, int(c), epsilon) for x, c, _ in zip(*some(probe), strict=True)]
    assert torch.allclose(explained(method(), probe).maps["map"][:, 0], torch.stack(expected), atol=1e-4)


def test_with_a_vanishing_epsilon_a_relu_networks_map_is_input_x_gradient() -> None:
    for probe in (table(*mlp(bias=False)), table(*mlp()), convolutional()):
        ours, product = (explained(each, probe).maps["map"] for each in (LrpEpsilon(tiny), InputXGradient()))
        assert torch.allclose(ours, product, atol=1e-4 * float(product.abs().max()) + 1e-5)


def test_without_biases_the_map_adds_up_to_the_logit() -> None:
    probe = table(*mlp(bias=False))
    x, target, _ = some(probe)
    total = explained(LrpEpsilon(tiny), probe).maps["map"].sum((1, 2))
    assert torch.allclose(total, probe.logits(x).gather(1, target[:, None])[:, 0], atol=1e-4)


@pytest.mark.parametrize("network", [Residual, Functional])
def test_deep_taylors_shares_add_up_to_one_through_every_kind_of_layer(network: type[nn.Module]) -> None:
    shares = explained(DeepTaylor(), convolutional(network)).maps["map"]
    assert (shares >= 0).all()
    assert torch.allclose(shares.sum((1, 2)), torch.ones(len(shares)), atol=1e-3)


def test_a_linear_layers_evidence_is_its_positive_terms() -> None:
    layer = nn.Linear(5, 3, bias=False)
    x, target, _ = some(table(layer))
    terms = (layer.weight[target] * x).clamp(min=0)
    assert torch.allclose(explained(DeepTaylor(), table(layer)).maps["map"][:, 0], terms / terms.sum(1, keepdim=True))


@pytest.mark.parametrize("build", [torchvision.models.resnet18, torchvision.models.vgg11_bn])
def test_torchvisions_networks_keep_their_answer_in_canonical_form(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = build().eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 64, 64)
    network = canonical(model, (3, 64, 64))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(network(x), model(x), atol=1e-3)


class Odd(Residual):
    """A residual network with one thing that has no rule."""

    def __init__(self, odd: str) -> None:
        super().__init__()
        self.odd = odd

    def forward(self, x: Tensor) -> Tensor:
        if self.odd == "branches on data" and float(x.sum()) > 1e9:
            x = x * 0
        if self.odd == "multiplies":
            x = x * torch.sigmoid(x)
        if self.odd == "adds a constant":
            x = x + 1
        if self.odd == "norms first":
            x = F.relu(self.norm1(self.conv2(F.relu(self.conv1(x)))))
            return self.head(self.average(self.norm2(F.relu(x))).flatten(1))  # type: ignore[no-any-return]
        return super().forward(x)


@both
@pytest.mark.parametrize("odd", ["branches on data", "multiplies", "adds a constant", "norms first"])
def test_what_has_no_rule_is_refused_with_its_name(method: type[Explainer], odd: str) -> None:
    model = Odd(odd).eval().requires_grad_(False)
    probe = open_probe(
        model, kind="grid", local="average", representation="average", shape=(3, 8, 8), classes=("a", "b", "c")
    )
    with pytest.raises(Unsupported, match=r"no relevance rule|cannot be traced"):
        explained(method(), probe)


@both
def test_transformers_are_refused(method: type[Explainer]) -> None:
    with pytest.raises(Unsupported, match=r"rule|traced"):
        explained(method(), transformer())


@both
def test_the_network_is_untouched_and_samples_do_not_meet(method: type[Explainer]) -> None:
    probe = convolutional()
    before = copy.deepcopy(probe.model.state_dict())
    x, target, seeds = some(probe)
    together = method().explain(probe, x, target, seeds).maps["map"]
    alone = method().explain(probe, x[2:3], target[2:3], seeds[2:3]).maps["map"]
    assert torch.allclose(together[2], alone[0], atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in probe.model.state_dict().items())
    assert probe.model.relu.inplace
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in probe.model.modules())
