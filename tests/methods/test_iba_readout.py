"""The readout bottleneck reads all depths in one pass, learns what the decision needs, and says what passes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.methods.iba.bottleneck import blurs, grid_bits, learn_prior, nats, shares
from mibench.methods.iba.readout import IbaReadout, Readout, observed
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins.contract import Unsupported
from tests.methods.small_networks import (
    calibration,
    convolutional,
    explained,
    frozen,
    fully_connected,
    ready,
    some,
    table,
    transformer,
)


def readout(**parameters: Any) -> IbaReadout:
    return IbaReadout(IbaReadout.Parameters(**{"epochs": 3, **parameters}))


def test_every_depth_is_read_in_one_pass() -> None:
    probe, runs = convolutional(side=16), []
    x = some(probe)[0]
    handle = probe.model.get_submodule("conv1").register_forward_hook(lambda *_: runs.append(1))
    local, readouts = observed(probe, x)
    handle.remove()
    assert len(runs) == 1
    assert torch.equal(local, probe.features(x).local)
    depths = [probe.at(layer).features(x).local for layer in ("pool", "block")]
    resized = [F.interpolate(each, probe.grid, mode="bilinear", align_corners=False) for each in depths]
    assert torch.allclose(readouts, torch.cat(resized, 1))


def test_explaining_is_one_pass() -> None:
    probe, runs = convolutional(), []
    explainer = ready(readout(), probe)
    handle = probe.model.register_forward_hook(lambda *_: runs.append(1))
    explainer.explain(probe, *some(probe))
    handle.remove()
    assert len(runs) == 1


@pytest.mark.parametrize("opened", [convolutional, transformer])
def test_the_map_is_what_passes_and_adds_up_to_it(opened: Any) -> None:
    probe: OpenProbe = opened()
    explainer = ready(readout(), probe)
    assert isinstance(explainer, IbaReadout)
    x, target, seeds = some(probe)
    explanation = explainer.explain(probe, x, target, seeds)
    local, readouts = observed(probe, x)
    alpha = explainer.readout.alpha(probe, local, readouts)
    share, rest = shares(probe, alpha, blurs(probe, local, 1.0))
    bits = grid_bits(probe, nats(explainer.prior, local, share, rest)).sum((1, 2))
    assert torch.allclose(explanation.facts["bits"], bits)
    assert torch.allclose(explanation.maps["map"].sum((1, 2)), bits, rtol=1e-4)
    assert (explanation.maps["map"] >= 0).all()
    assert (bits > 0).all()


def test_the_objective_is_the_papers() -> None:
    probe, samples = convolutional(side=16), calibration(convolutional(side=16), 12)
    local, readouts = observed(probe, samples.x)
    prior = learn_prior(probe, samples, 0.01)
    network = Readout(readouts.shape[1], local.shape[1], torch.Generator().manual_seed(1))
    network.standardise(readouts)
    explainer = readout(beta=3.0, smooth=0.0)
    ours = explainer._loss(probe, prior, network, (), (local, readouts), torch.Generator().manual_seed(2))

    noise = torch.randn(local.shape, generator=torch.Generator().manual_seed(2))
    scaled = (readouts - readouts.mean((0, 2, 3), keepdim=True)) / readouts.std((0, 2, 3), keepdim=True)
    share = network.layers(scaled).clamp(-5, 5).sigmoid()
    z = (share * local + (1 - share) * (prior.mean + prior.deviation * noise)) * prior.active
    average, whole = probe.model.average, probe.model(samples.x)
    logits = probe.model.head(average(z).flatten(1))
    r = (local - prior.mean) / prior.deviation
    kl = -0.5 * (1 + torch.log((1 - share) ** 2) - (share * r) ** 2 - (1 - share) ** 2) * prior.active
    expected = F.cross_entropy(logits, whole.argmax(1)) + 3.0 * kl.mean()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-4)


class OneColour(nn.Module):
    """Decides by the first channel alone."""

    def __init__(self) -> None:
        super().__init__()
        self.local, self.z, self.head = nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.z(self.local(x)))  # type: ignore[no-any-return]


def test_it_learns_to_let_through_only_what_the_decision_needs() -> None:
    model = frozen(OneColour())
    model.head.weight.zero_()
    model.head.weight[0, :4], model.head.weight[1, :4] = 40.0, -40.0
    probe = open_probe(model, kind="grid", local="local", representation="z", shape=(3, 8, 8), classes=("a", "b", "c"))
    explainer = IbaReadout(IbaReadout.Parameters(epochs=150, smooth=0.0, beta=1.0))
    state = explainer.learn(probe, calibration(probe, 128), 0)
    assert state.facts["loss"][-1] < state.facts["loss"][0]
    explainer.restore(probe, state)
    local, readouts = observed(probe, some(probe, 40)[0])
    passed = nats(explainer.prior, local, *shares(probe, explainer.readout.alpha(probe, local, readouts), ()))
    channels = passed.mean((0, 2, 3))
    assert channels[0] > 10 * channels[1:].max()


def test_learning_is_repeated_by_its_seed_and_survives_being_saved() -> None:
    probe = convolutional()
    first, again, other = (readout().learn(probe, calibration(probe), seed) for seed in (1, 1, 2))
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in first.tensors.items())
    assert any(not torch.equal(tensor, other.tensors[name]) for name, tensor in first.tensors.items())
    maps = []
    for state in (first, again):
        explainer = readout()
        explainer.restore(probe, state)
        maps.append(explainer.explain(probe, *some(probe)).maps["map"])
    assert torch.equal(*maps)


def test_features_that_do_not_fit_into_memory_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = convolutional()
    kept = readout().learn(probe, calibration(probe), 0)
    monkeypatch.setattr("mibench.methods.iba.readout.MEMORY", 0)
    again = readout().learn(probe, calibration(probe), 0)
    assert all(torch.allclose(tensor, again.tensors[name], atol=1e-5) for name, tensor in kept.tensors.items())


def test_a_samples_map_does_not_depend_on_its_batch_or_the_target_class() -> None:
    probe = convolutional()
    explainer = ready(readout(), probe)
    x, target, seeds = some(probe)
    together = explainer.explain(probe, x, target, seeds).maps["map"]
    alone = explainer.explain(probe, x[1:2], (target[1:2] + 1) % 3, seeds[1:2]).maps["map"]
    assert torch.allclose(together[1], alone[0], rtol=1e-4)


def test_single_numbers_have_no_channels_to_read() -> None:
    for probe in (table(), fully_connected()):
        with pytest.raises(Unsupported, match="channels"):
            explained(readout(), probe)


def test_the_network_is_left_as_it_was_found_even_after_an_error() -> None:
    probe = convolutional()
    before = copy.deepcopy(probe.model.state_dict())
    explained(readout(), probe)
    with pytest.raises(RuntimeError):
        observed(probe, torch.randn(2, 5, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in probe.model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in probe.model.parameters())
    assert not any(module._forward_hooks for module in probe.model.modules())
