"""The bottleneck is the paper's, whatever it is put into, and says what passes, no more and no less."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.methods.iba.bottleneck import blurs, learn_prior, smoothed
from mibench.methods.iba.iba import Iba, drawn, steadiness
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins.contract import Explanation, Probe, Samples, Unsupported
from tests.methods.small_networks import (
    Residual,
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

PROBES: list[Callable[[], OpenProbe]] = [convolutional, transformer, table, fully_connected]
probes = pytest.mark.parametrize("opened", PROBES, ids=["grid", "tokens", "columns", "vector"])


def iba(**parameters: Any) -> Iba:
    return Iba(Iba.Parameters(**parameters))


def small_map(side: int) -> OpenProbe:
    """A network whose last feature map is `side` by `side`."""
    return convolutional(side=2 * side)


def reflected(share: Tensor, sigma: float) -> Tensor:
    """Smoothing of (C, h, w) as the reference code does it: a depthwise Gaussian 5 by 5 on a reflected grid."""
    offset = torch.arange(-2, 3) / sigma
    line = torch.exp(-offset.square() / 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    return F.conv2d(F.pad(share[:, None], (2, 2, 2, 2), mode="reflect"), kernel[None, None])[:, 0]


def literal(probe: OpenProbe, x: Tensor, target: int, seed: int, samples: Samples, steps: int) -> tuple[Tensor, float]:
    """The algorithm as written, for one sample: the whole network every step, with a hook that puts noise in."""
    with torch.no_grad():
        features = probe.features(samples.x).local  # (N, …)
    mean, std = features.mean(0), features.std(0).clamp(min=0.01)
    active = ((features != 0).float().mean(0) > 0.01).float()
    noise = torch.Generator().manual_seed(seed)
    alpha = torch.full_like(mean, 5.0).requires_grad_()
    adam = torch.optim.Adam([alpha], lr=1.0)
    seen: dict[str, Tensor] = {}

    def kl(r: Tensor) -> Tensor:
        share = alpha.sigmoid()
        share = reflected(share, 1.0) if share.dim() == 3 else share
        seen["share"] = share
        variance = (1 - share) ** 2
        return -0.5 * (1 + torch.log(variance) - (share * (r - mean) / std) ** 2 - variance) * active

    def put_noise_in(r: Tensor) -> Tensor:
        seen["r"] = r[0]
        seen["kl"] = kl(r[0])
        eps = mean + std * torch.randn(r.shape, generator=noise)
        return (seen["share"] * r + (1 - seen["share"]) * eps) * active

    copies = x[None].expand(10, *x.shape)
    handle = None
    if probe.local != "input":
        layer = probe.model.get_submodule(probe.local)
        handle = layer.register_forward_hook(lambda module, inputs, output: put_noise_in(output))
    for _ in range(steps):
        adam.zero_grad()
        logits = probe.model(copies if handle else put_noise_in(copies))
        loss = F.cross_entropy(logits, torch.full((10,), target)) + 10.0 * seen["kl"].mean()
        loss.backward()
        adam.step()
    if handle:
        handle.remove()
    bits = kl(seen["r"]).detach() / math.log(2)
    grid = bits.sum(0) if bits.dim() == 3 else bits[1:].sum(-1).reshape(2, 2) if bits.dim() == 2 else bits[None]
    return grid, float(grid.sum())


def as_grid(probe: OpenProbe, pixels: Tensor, grid: Tensor) -> Tensor:
    """The literal's grid as pixels, without the scale."""
    return probe.upsample(grid[None])[0] if pixels.shape != grid.shape else grid


@pytest.mark.parametrize("opened", PROBES[:3], ids=["grid", "tokens", "columns"])
def test_it_agrees_with_the_literal_algorithm(opened: Callable[[], OpenProbe]) -> None:
    probe = opened() if opened is not convolutional else convolutional(side=16)
    smooth = 0.0 if probe.kind == "tokens" else 1.0  # the reference's smoothing does not fit a grid of 2 by 2 tokens
    explanation = explained(iba(smooth=smooth), probe)
    for index, (x, target, seed) in enumerate(zip(*some(probe), strict=True)):
        grid, total = literal(probe, x, int(target), seed, calibration(probe), 10)
        ours = explanation.maps["map"][index]
        theirs = as_grid(probe, ours, grid)
        assert torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1] >= 0.9999
        assert float(explanation.facts["bits"][index]) == pytest.approx(total, rel=1e-3)


@probes
def test_a_samples_bottleneck_does_not_depend_on_its_batch(opened: Callable[[], OpenProbe]) -> None:
    probe = opened()
    explainer = ready(iba(), probe)
    x, target, seeds = some(probe, 7)
    together = explainer.explain(probe, x, target, seeds)
    alone = explainer.explain(probe, x[5:6], target[5:6], seeds[5:6])
    assert torch.allclose(together.maps["map"][5], alone.maps["map"][0], rtol=1e-3, atol=1e-5)
    assert torch.allclose(together.facts["bits"][5], alone.facts["bits"][0], rtol=1e-3)


@probes
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_the_maps_pixels_add_up_to_the_bits_and_are_never_negative(
    opened: Callable[[], OpenProbe], smooth: float
) -> None:
    explanation = explained(iba(smooth=smooth), opened())
    assert torch.allclose(explanation.maps["map"].sum((1, 2)), explanation.facts["bits"], rtol=1e-4)
    assert (explanation.maps["map"] >= 0).all()
    assert (explanation.maps["calibrated"] >= 0).all()
    assert (explanation.facts["bits"] > 0).all()


def passed(probe: Probe, **parameters: Any) -> Tensor:
    return explained(iba(**parameters), probe).facts["bits"]  # type: ignore[arg-type]


@probes
def test_nothing_passes_at_a_high_cost_of_information_and_most_when_free(
    opened: Callable[[], OpenProbe],
) -> None:
    probe = opened()
    explainer = ready(iba(), probe)
    assert isinstance(explainer, Iba)
    x, _, seeds = some(probe)
    predicted = probe.logits(x).argmax(1)

    def passes(beta: float, steps: int) -> Tensor:
        free = ready(iba(beta=beta, steps=steps), probe)
        return free.explain(probe, x, predicted, seeds).facts["bits"]  # type: ignore[return-value]

    local = probe.features(x).local
    r = (local - explainer.prior.mean) / explainer.prior.deviation
    open_share, rest = torch.tensor(5.0).sigmoid(), torch.tensor(-5.0).sigmoid()
    full = ((open_share * r) ** 2 + rest**2 - 1) / 2 - rest.log()
    full = probe.cells(full * explainer.prior.active).flatten(1).sum(1) / math.log(2)
    assert (passes(1e9, 100) < 1e-6 * full).all()
    assert passes(0.0, 10).mean() > 0.5 * full.mean()  # what speaks against the class is closed, at no price
    dear, middle, cheap = (passes(beta, 20).mean() for beta in (1.0, 0.01, 1e-4))
    assert dear < middle < cheap


def test_the_prior_is_the_mean_and_deviation_of_the_calibration_data() -> None:
    probe, samples = convolutional(), calibration(convolutional(), 150)
    prior = learn_prior(probe, samples, 0.05)
    features = probe.features(samples.x)
    assert torch.allclose(prior.mean, features.local.mean(0), atol=1e-5)
    assert torch.allclose(prior.deviation, features.local.std(0).clamp(min=0.05), atol=1e-5)
    assert torch.equal(prior.active, ((features.local != 0).float().mean(0) > 0.01).float())
    assert torch.allclose(prior.classes, features.logits.softmax(1).mean(0), atol=1e-5)


class Quiet(Residual):
    """The first channel speaks for almost no sample."""

    def forward(self, x: Tensor) -> Tensor:
        loud = (x.flatten(1).sum(1) > 60).float()[:, None, None, None]
        x = self.pool(self.relu(self.norm1(self.conv1(x))))
        x = self.block(torch.cat([x[:, :1] * loud, x[:, 1:]], 1))
        return self.head(self.average(x).flatten(1))  # type: ignore[no-any-return]


def test_elements_that_are_hardly_ever_active_are_left_out() -> None:
    probe = convolutional(Quiet)
    explainer = ready(iba(), probe)
    assert isinstance(explainer, Iba)
    assert not explainer.prior.active[0].any()
    assert explainer.prior.active[1:].any()


@pytest.mark.parametrize("side", [1, 2, 3])
def test_small_maps_are_smoothed_as_far_as_they_reach(side: int) -> None:
    explanation = explained(iba(), small_map(side))
    assert torch.isfinite(explanation.maps["map"]).all()
    assert explanation.facts["bits"].min() > 0


def test_smoothing_is_the_references_where_its_kernel_fits() -> None:
    probe = convolutional(side=16)
    values = torch.rand(2, 6, 8, 8)
    ours = smoothed(probe, values, blurs(probe, values, 1.0))
    assert torch.allclose(ours, torch.stack([reflected(one, 1.0) for one in values]), atol=1e-6)


def test_a_vectors_bits_have_no_place_in_an_image() -> None:
    probe = fully_connected()
    explanation = explained(iba(), probe)
    for map_, bits in zip(explanation.maps["map"], explanation.facts["bits"], strict=True):
        assert torch.allclose(map_, (bits / 64).expand(8, 8))


def test_a_class_tokens_bits_are_counted_apart() -> None:
    facts = explained(iba(), transformer()).facts
    assert (facts["bits_without_place"] > 0).all()
    assert explained(iba(), convolutional()).facts["bits_without_place"].abs().max() < 1e-3


def test_a_bottleneck_elsewhere_is_put_there() -> None:
    probe = convolutional()
    deep, shallow = explained(iba(), probe), explained(iba(layer="pool"), probe)
    assert not torch.allclose(deep.facts["bits"], shallow.facts["bits"], rtol=0.01)
    assert torch.allclose(shallow.maps["map"], explained(iba(), probe.at("pool")).maps["map"])


def test_only_the_layers_after_the_cut_run_in_the_loop() -> None:
    probe, runs = convolutional(), {"conv1": 0, "head": 0}
    explainer = ready(iba(steps=7), probe)
    handles = []
    for name in runs:

        def count(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            runs[name] += 1

        handles.append(probe.model.get_submodule(name).register_forward_hook(count))
    explainer.explain(probe, *some(probe))
    for handle in handles:
        handle.remove()
    assert runs["conv1"] == 1
    assert runs["head"] == 1 + 7 + 1  # the features, the steps, and what is left of the decision


def test_the_network_is_left_as_it_was_found() -> None:
    probe = convolutional()
    before = copy.deepcopy(probe.model.state_dict())
    state = torch.get_rng_state()
    explained(iba(), probe)
    assert all(torch.equal(value, before[name]) for name, value in probe.model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in probe.model.parameters())
    assert not any(module._forward_hooks for module in probe.model.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_antithetic_noise_comes_in_pairs_that_cancel() -> None:
    noise = drawn(torch.Generator().manual_seed(5), (3, 2, 2), 6, antithetic=True)
    assert noise.shape == (6, 3, 2, 2)
    assert torch.equal(noise[:3], -noise[3:])
    assert torch.isfinite(explained(iba(antithetic=True), convolutional()).facts["bits"]).all()
    with pytest.raises(ValueError, match="pairs"):
        iba(antithetic=True, copies=3)


def test_it_continues_until_the_map_is_steady_and_reports_how_steady() -> None:
    probe = convolutional(side=16)
    fixed, converged = explained(iba(), probe), explained(iba(stop="converged"), probe)
    assert (fixed.facts["steps"] == 10).all()
    assert (converged.facts["steps"] > 10).all()
    assert (converged.facts["steps"] <= 300).all()
    stopped = converged.facts["steps"] < 300
    assert (converged.facts["steadiness"][stopped] >= 0.9997).all()
    assert (converged.facts["convergence"] > fixed.facts["convergence"]).all()


def test_a_map_that_still_shrinks_has_kept_its_shape_but_has_not_converged() -> None:
    shape = torch.tensor([[1.0, 2.0, 3.0, 8.0]])
    trace = [shape * bits for bits in (9.0, 5.0, 4.0, 3.0, 2.0, 1.0)]
    ((kept, converged),) = steadiness(trace).tolist()
    assert kept == pytest.approx(1.0)
    assert converged < 0.3
    assert steadiness(trace + [shape] * 6).tolist() == [pytest.approx([1.0, 1.0])]


def test_the_map_is_that_of_the_final_alpha() -> None:
    """One more step gives another map, and no step would leave every element at what alpha = 5 lets pass."""
    probe = convolutional()
    one, two = passed(probe, steps=1), passed(probe, steps=2)
    assert not torch.allclose(one, two, rtol=1e-3)
    assert (two < one).all()


def test_the_calibrated_map_claims_no_more_than_the_class_can_use() -> None:
    probe = convolutional()
    explainer = ready(iba(), probe)
    assert isinstance(explainer, Iba)
    _, target, _ = some(probe)
    explanation = explained(explainer, probe)
    needed = -explainer.prior.classes[target].log2()
    claimed = torch.minimum(needed, explanation.facts["bits"])
    assert torch.allclose(explanation.maps["calibrated"].sum((1, 2)), claimed, rtol=1e-4)
    correlation = _correlation(explanation)
    assert torch.allclose(correlation, torch.ones_like(correlation), atol=1e-4)


def _correlation(explanation: Explanation) -> Tensor:
    pairs = zip(explanation.maps["map"].flatten(1), explanation.maps["calibrated"].flatten(1), strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])


class Strange(nn.Module):
    """A small network with one thing wrong after or before the cut."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.cut, self.z, self.head, self.wrong = nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 3), wrong

    def forward(self, x: Tensor) -> Tensor:
        if self.wrong == "constant features":
            x = x * 0 + 1
        if self.wrong == "features are not finite":
            x = x / 0
        features = self.z(self.cut(x))
        if self.wrong == "logits know nothing":
            features = features * 0
        logits: Tensor = self.head(features)
        return logits + (features * 0).abs().sqrt()[:, :3] if self.wrong == "gradients are NaN" else logits


def strange(wrong: str) -> OpenProbe:
    return open_probe(
        frozen(Strange(wrong)), kind="grid", local="cut", representation="z", shape=(3, 8, 8), classes=("a", "b", "c")
    )


@pytest.mark.parametrize("wrong", ["constant features", "logits know nothing"])
def test_a_cut_through_which_nothing_could_pass_is_refused(wrong: str) -> None:
    with pytest.raises(Unsupported, match=r"the same in every sample|do not depend on the features"):
        explained(iba(), strange(wrong))


def test_features_that_are_not_finite_are_an_error() -> None:
    probe = strange("")
    bad = Samples(calibration(probe).x * torch.inf, torch.zeros(64, dtype=torch.int64), tuple(map(str, range(64))))
    with pytest.raises(ValueError, match="not finite"):
        iba().learn(probe, bad, 0)


def test_one_calibration_sample_is_refused() -> None:
    probe = strange("")
    with pytest.raises(Unsupported, match="no spread"):
        iba().learn(probe, calibration(probe, 1), 0)


def test_nan_gradients_give_nan_maps() -> None:
    explanation = explained(iba(), strange("gradients are NaN"))
    assert explanation.maps["map"].isnan().all()
    assert explanation.facts["bits"].isnan().all()
