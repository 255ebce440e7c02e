"""IBA against the literal algorithm, in one process on one thread: what it saves by running only what is needed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from mibench.methods.iba.iba import Iba
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Samples
from tests.benchmarks.clock import timed


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    pytest.importorskip("efficientnet_lite_pytorch")
    return registry.model("efficientnet-lite0").load()


def opened(network: torch.nn.Module, layer: str) -> OpenProbe:
    model = registry.model("efficientnet-lite0")
    return open_probe(
        network,
        kind="grid",
        local=layer,
        representation=model.representation,
        shape=model.shape,
        classes=tuple(str(index) for index in range(1000)),
    )


def literal(probe: OpenProbe, prior: object, x: Tensor, target: Tensor, seed: int) -> Tensor:
    """As the authors' code: the whole network every step, parameters that gather gradients, blur by convolution."""
    network, noise, seen = probe.model, torch.Generator().manual_seed(seed), {}
    mean, std, active = prior.mean, prior.deviation, prior.active  # type: ignore[attr-defined]
    alpha = torch.full((1, *mean.shape), 5.0, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=1.0)
    line = torch.exp(-torch.arange(-2, 3).square() / 2)
    kernel = (torch.outer(line, line) / line.sum() ** 2).expand(len(mean), 1, 5, 5)

    def kl(r: Tensor) -> Tensor:
        share = F.conv2d(F.pad(alpha.sigmoid(), (2, 2, 2, 2), mode="reflect"), kernel, groups=len(mean))
        seen["share"], variance = share, (1 - share) ** 2
        return -0.5 * (1 + torch.log(variance) - (share * (r - mean) / std) ** 2 - variance) * active

    def put_noise_in(module: torch.nn.Module, inputs: object, r: Tensor) -> Tensor:
        seen["kl"], seen["r"] = kl(r), r[:1].detach()
        eps = mean + std * torch.randn(r.shape, generator=noise)
        return (seen["share"] * r + (1 - seen["share"]) * eps) * active

    handle = network.get_submodule(probe.local).register_forward_hook(put_noise_in)
    network.requires_grad_(True)
    try:
        for _ in range(10):
            adam.zero_grad()
            logits = network(x[None].expand(10, -1, -1, -1))
            (F.cross_entropy(logits, target.expand(10)) + 10 * seen["kl"].mean()).backward()
            adam.step()
    finally:
        handle.remove()
        network.requires_grad_(False)
        network.zero_grad(set_to_none=True)
    return kl(seen["r"]).detach().sum((0, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "wanted"), [("_blocks.10", 5.0), ("_blocks.4", 3.0)], ids=["late", "middle"])
def test_the_same_map_costs_a_fraction_of_the_literal_algorithm(
    benchmark: BenchmarkFixture, network: torch.nn.Module, layer: str, wanted: float
) -> None:
    benchmark.group, benchmark.name = "peer", f"IBA at {layer} of EfficientNet-Lite0"
    probe, draw = opened(network, layer), torch.Generator().manual_seed(0)
    samples = torch.randn(12, 3, 224, 224, generator=draw)
    calibration = Samples(samples, torch.zeros(12, dtype=torch.int64), tuple(map(str, range(12))))
    explainer = Iba()
    explainer.restore(probe, explainer.learn(probe, calibration, 0))
    x = samples[:1]
    target = probe.logits(x).argmax(1)
    ours = benchmark.pedantic(explainer.explain, (probe, x, target, [5]), rounds=2).maps["map"][0]
    theirs, their_seconds = timed(lambda: literal(probe, explainer.prior, x[0], target, 5), 2)
    times = their_seconds / benchmark.stats.stats.min
    benchmark.extra_info.update(peer="the literal algorithm", times=times)
    same = torch.stack([probe.upsample(theirs[None])[0].flatten(), ours.flatten()])
    assert torch.corrcoef(same)[0, 1] >= 0.9999
    assert times >= wanted
