"""MI-LR: its equations term by term, the order of its decision map, and the nats that it claims too many."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mibench.methods.milr import milr
from mibench.methods.milr.milr import MiLr
from mibench.network.calibration import look
from mibench.network.probe import OpenProbe
from mibench.plugins.contract import Explanation, Samples, Unsupported
from tests.methods.planted_cells import NATS, drawn, opened
from tests.methods.small_networks import calibration, convolutional, joined, some, table, transformer

QUICK: dict[str, Any] = {"epochs": 1, "batch": 16, "hidden": 16, "references": 100}


def fitted(probe: OpenProbe, samples: Samples, **parameters: Any) -> MiLr:
    explainer = MiLr(MiLr.Parameters(**(QUICK | parameters)))
    explainer.restore(probe, explainer.learn(probe, samples, 0))
    return explainer


@pytest.fixture(scope="module")
def planted() -> Explanation:
    probe, scored = opened(), drawn(400, 1)
    explainer = fitted(probe, drawn(2048, 0), hidden=64, epochs=12, batch=64, references=8192)
    return explainer.explain(probe, scored.x, scored.label, range(400))


def at(role: str, map_: Tensor) -> float:
    truth = drawn(400, 1).truth
    assert truth is not None
    others = ~(truth.cells["signal"] | truth.cells["redundant"])
    return float(map_[truth.cells[role] if role != "others" else others].mean())


def test_total_map_finds_both_planted_symbols(planted: Explanation) -> None:
    total = planted.maps["total"]
    assert at("signal", total) == pytest.approx(NATS, rel=0.12)
    assert at("redundant", total) == pytest.approx(NATS, rel=0.12)
    assert abs(at("others", total)) < 0.05


def test_the_variational_bound_finds_what_decides_and_claims_too_much(planted: Explanation) -> None:
    decision = planted.maps["decision"]
    assert at("signal", decision) > 2 * NATS > 4 * at("redundant", decision)
    assert at("others", decision) < 0.1
    assert float(planted.facts["kept"].mean()) > 0.98


def test_redundant_is_what_occlusion_takes_from_the_critic(planted: Explanation) -> None:
    assert at("redundant", planted.maps["redundant"]) > 0.5 * NATS
    assert abs(at("others", planted.maps["redundant"])) < 0.2


def slow_objectives(model: milr.Modules, p: milr.Parameters, probe: OpenProbe, samples: Samples) -> tuple[float, float]:
    """Equation (5) and the head's likelihood, one cell at a time."""

    def standard(values: Tensor, name: str) -> Tensor:
        mean, deviation = (getattr(model, f"{name}_{part}").flatten() for part in ("mean", "deviation"))
        return torch.where(deviation > 0, (values - mean) / deviation, 0.0)

    def perceptron(layers: Any, x: Tensor) -> Tensor:
        for layer in layers:
            x = layer.weight @ x + layer.bias if hasattr(layer, "weight") else x.clamp(min=0)
        return x

    alive = model.z_deviation.flatten() > 0
    likelihood, divergence, density = [], [], []
    representations, everything = [], []
    for x, label in zip(samples.x, samples.label, strict=True):
        features = probe.features(x[None])
        pooled = probe.at("pool").features(x[None]).local[0]  # both layers are on the same grid here
        local = features.local[0]  # (C, h, w)
        masked = local.clone()
        z = standard(features.representation[0], "z")[alive]
        cells = []
        for i in range(local.shape[1]):
            for j in range(local.shape[2]):
                layers = standard(torch.cat([pooled[:, i, j], local[:, i, j]]), "layers")
                masked[:, i, j] = local[:, i, j] * perceptron(model.mask, layers).sigmoid()
                mean, log_variance = perceptron(model.head.layers, standard(masked[:, i, j], "channel")).chunk(2)
                given = torch.distributions.Normal(mean, (log_variance.clamp(-10, 4) / 2).exp())
                prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
                divergence.append(float(torch.distributions.kl_divergence(given, prior).sum()))
                density.append(float(given.log_prob(z).sum()))
                cells.append(perceptron(model.critic.g, standard(local[:, i, j], "channel")))
        likelihood.append(float(probe.resume(masked[None]).logits[0].log_softmax(0)[label]))
        representations.append(torch.cat([z, torch.ones(1)]) * model.critic.log_scale.exp())
        everything.append(cells)
    values = []
    for n, query in enumerate(representations):
        normaliser = [math.exp(float(query @ key)) for cells in everything for key in cells]
        values += [float(query @ key) - math.log(sum(normaliser) / len(normaliser)) for key in everything[n]]

    def mean_of(numbers: list[float]) -> float:
        return sum(numbers) / len(numbers)

    return mean_of(likelihood) + p.alpha * mean_of(values) - p.beta * mean_of(divergence), mean_of(density)


def test_the_objective_is_equation_10_term_by_term() -> None:
    probe, samples = convolutional(), calibration(convolutional(), 5)
    p = MiLr.Parameters(alpha=0.7, beta=0.3, batch=5, hidden=8)
    data = look(probe, samples)
    layers = milr.Layers(milr.Collector.of(probe), data)
    scales = {"channel": data.by_channel, "z": data.representation_moments, "layers": layers.moments}
    buffers = {f"{name}_{part}": getattr(each, part) for name, each in scales.items() for part in ("mean", "deviation")}
    model = milr.Modules(p, False, buffers, torch.Generator().manual_seed(0))
    index = torch.arange(5)
    value, likelihood, _ = milr.objectives(model, p, data, layers[index], index, samples.label)
    with torch.no_grad():
        slow_value, slow_likelihood = slow_objectives(model, p, probe, samples)
    assert value.item() == pytest.approx(slow_value, rel=1e-4)
    assert likelihood.item() == pytest.approx(slow_likelihood, rel=1e-4)


@pytest.mark.parametrize("network", [convolutional, transformer, table])
def test_grids_tokens_and_columns_get_maps_of_their_pixels(network: Any) -> None:
    probe = network()
    maps = fitted(probe, calibration(probe)).explain(probe, *some(probe)).maps
    assert list(maps) == [spec.name for spec in MiLr.maps]
    assert all(map_.shape == (4, *probe.pixels) and bool(map_.isfinite().all()) for map_ in maps.values())
    assert float(maps["decision"].min()) >= 0


def test_layers_of_other_sizes_are_brought_to_the_local_grid() -> None:
    probe = convolutional(side=12).at("pool")
    collector = milr.Collector((convolutional(side=12).at("norm1"), probe), probe.grid, False)
    x, _, _ = some(probe)
    assert collector.probes[0].grid == (12, 12)
    assert collector(x).shape == (4, 36, 12)
    torch.testing.assert_close(collector(x)[..., 6:], probe.cells(probe.features(x).local))


def test_a_samples_map_does_not_depend_on_its_batch() -> None:
    probe = convolutional()
    explainer = fitted(probe, calibration(probe))
    x, target, seeds = some(probe, 6)
    whole = explainer.explain(probe, x, target, seeds)
    parts = [explainer.explain(probe, x[i : i + 1], target[i : i + 1], seeds[i : i + 1]) for i in range(6)]
    for name, maps in whole.maps.items():
        torch.testing.assert_close(joined(parts, name), maps, atol=1e-5, rtol=1e-5)


def test_layers_that_do_not_fit_into_memory_are_collected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    probe, samples = convolutional(), calibration(convolutional())
    kept = MiLr(MiLr.Parameters(**QUICK)).learn(probe, samples, 0)
    monkeypatch.setattr("mibench.methods.milr.milr.MEMORY", 1000)
    again = MiLr(MiLr.Parameters(**QUICK)).learn(probe, samples, 0)
    for name, tensor in kept.tensors.items():
        torch.testing.assert_close(again.tensors[name], tensor, atol=1e-4, rtol=1e-4)


def test_too_few_samples_are_refused_with_the_mend() -> None:
    with pytest.raises(Unsupported, match="do not fill a batch of 16; set a smaller batch"):
        fitted(convolutional(), calibration(convolutional(), 15))


def test_one_sample_one_cell_and_constant_features_are_refused() -> None:
    with pytest.raises(Unsupported, match="at least 2"):
        fitted(convolutional(), calibration(convolutional(), 1))
    alone = table(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 3), features=1)
    with pytest.raises(Unsupported, match="one local feature"):
        fitted(alone, calibration(alone))
    samples = calibration(convolutional())
    with pytest.raises(Unsupported, match="the same in every calibration sample"):
        fitted(convolutional(), Samples(torch.ones_like(samples.x), samples.label, samples.ids))


def test_features_and_objectives_that_are_not_finite_are_errors() -> None:
    samples = calibration(convolutional())
    with pytest.raises(ValueError, match="not finite on the calibration samples"):
        fitted(convolutional(), Samples(samples.x * torch.nan, samples.label, samples.ids))
    with pytest.raises(ValueError, match="not finite in epoch 1; set learning_rate below"):
        fitted(convolutional(), samples, learning_rate=1e30)


def test_one_sample_alone_is_explained() -> None:
    probe = convolutional()
    maps = fitted(probe, calibration(probe)).explain(probe, *some(probe, 1)).maps
    assert all(map_.shape == (1, *probe.pixels) and bool(map_.isfinite().all()) for map_ in maps.values())
