"""MIRE: its equations term by term, what it finds where the truth is known, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leaderboards.studies.measuring import scored as scores_of_rows
from mibench.methods.mire import mire
from mibench.methods.mire.mire import Mire
from mibench.methods.mire.noise import MireNoise
from mibench.network.calibration import look
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Explanation, Samples, State, Unsupported
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task
from tests.methods.planted_cells import NATS, drawn, opened
from tests.methods.small_networks import calibration, convolutional, fully_connected, joined, some, table, transformer

QUICK: dict[str, Any] = {"epochs": 1, "batch": 16, "hidden": 16, "references": 100, "draws": 2}


def fitted(explainer: Mire | MireNoise, probe: OpenProbe, samples: Samples, seed: int = 0) -> State:
    state = explainer.learn(probe, samples, seed)
    explainer.restore(probe, state)
    return state


def quick(cls: type[Mire] | type[MireNoise] = Mire, **parameters: Any) -> Mire | MireNoise:
    return cls(cls.Parameters(**(QUICK | parameters)))


@pytest.fixture(scope="module")
def planted() -> dict[str, tuple[Explanation, State]]:
    """Both explainers on the network whose information is known."""
    probe, samples = opened(), drawn(2048, 0)
    scored = drawn(400, 1)
    found = {}
    for cls in (Mire, MireNoise):
        explainer = cls(cls.Parameters(hidden=64, epochs=12))
        state = fitted(explainer, probe, samples)
        found[cls.name] = explainer.explain(probe, scored.x, scored.label, range(400)), state
    return found


def at(role: str, map_: Tensor) -> float:
    truth = drawn(400, 1).truth
    assert truth is not None
    others = ~(truth.cells["signal"] | truth.cells["redundant"])
    return float(map_[truth.cells[role] if role != "others" else others].mean())


@pytest.mark.parametrize("name", ["mire", "mire-noise"])
def test_total_map_finds_both_planted_symbols(name: str, planted: dict[str, tuple[Explanation, State]]) -> None:
    total = planted[name][0].maps["total"]
    assert at("signal", total) == pytest.approx(NATS, rel=0.12)
    assert at("redundant", total) == pytest.approx(NATS, rel=0.12)
    assert abs(at("others", total)) < 0.05


def test_a_noisy_mask_tells_decision_from_redundant(planted: dict[str, tuple[Explanation, State]]) -> None:
    explanation, state = planted["mire-noise"]
    decision, redundant = explanation.maps["decision"], explanation.maps["redundant"]
    assert at("signal", decision) > 0.8 * NATS
    assert abs(at("redundant", decision)) < 0.1
    assert at("redundant", redundant) > 0.8 * NATS
    assert abs(at("signal", redundant)) < 0.15
    assert float(explanation.facts["kept"].mean()) > 0.98
    assert state.facts["kept"] > 0.9


def test_mire_as_published_puts_the_deciding_cell_above_the_redundant_one(
    planted: dict[str, tuple[Explanation, State]],
) -> None:
    truth = drawn(400, 1).truth
    assert truth is not None
    decision = planted["mire"][0].maps["decision"]
    above = decision[truth.cells["signal"]] > decision[truth.cells["redundant"]]
    assert float(above.float().mean()) > 0.9


def test_with_the_cost_a_mean_the_mask_hides_the_difference() -> None:
    """There the second InfoNCE term pays the mask for keeping what the decision does not need."""
    explainer = Mire(Mire.Parameters(hidden=64, epochs=12, mask_cost="mean"))
    fitted(explainer, opened(), drawn(2048, 0))
    scored = drawn(400, 1)
    decision = explainer.explain(opened(), scored.x, scored.label, range(400)).maps["decision"]
    assert at("redundant", decision) > 0.6 * NATS
    assert scored.truth is not None
    above = decision[scored.truth.cells["signal"]] > decision[scored.truth.cells["redundant"]]
    assert float(above.float().mean()) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("row", "low", "high"), [("mire", 0.9, 1.0), ("mire[mask_cost=mean]", 0.0, 0.9)])
def test_on_the_planted_task_only_the_default_ranks_decision_first(row: str, low: float, high: float) -> None:
    """The score `decision-hard` of the planted images, at the board's settings."""
    spec = TaskSpec("planted", "planted", samples=64, calibration=512)
    [line] = scores_of_rows("planted", spec, (row,), ("decision-hard",))
    assert low < line.mean <= high


def test_the_primary_map_is_the_decision_and_redundant_a_difference(
    planted: dict[str, tuple[Explanation, State]],
) -> None:
    for explanation, _ in planted.values():
        assert list(explanation.maps) == [spec.name for spec in Mire.maps] == ["decision", "total", "redundant", "mask"]
        difference = explanation.maps["total"] - explanation.maps["decision"]
        torch.testing.assert_close(explanation.maps["redundant"], difference)
        assert 0 <= float(explanation.maps["mask"].min()) <= float(explanation.maps["mask"].max()) <= 1


def test_the_ceiling_is_said_and_saturation_flagged(
    planted: dict[str, tuple[Explanation, State]], monkeypatch: pytest.MonkeyPatch
) -> None:
    explanation, state = planted["mire"]
    assert state.facts["ceiling"] == pytest.approx(math.log(64 * 9))
    assert not state.facts["saturated"]
    assert float(explanation.facts["ceiling"][0]) == pytest.approx(math.log(8192 + 9))
    assert float(explanation.maps["total"].max()) < float(explanation.facts["ceiling"][0])
    monkeypatch.setattr("mibench.information.infonce.SATURATION", 0.8)
    few = quick(epochs=20, references=3, learning_rate=0.02)  # a fifth of log(3 + 9) is half a nat
    fitted(few, opened(), drawn(512, 0))
    shown = few.explain(opened(), drawn(50, 1).x, drawn(50, 1).label, range(50))
    assert float(shown.facts["saturated"].mean()) > 0.9


def slow_objective(model: mire.Decomposition, probe: OpenProbe, samples: Samples) -> float:
    """Equation (5), one sample, one cell and one negative at a time."""
    p = model.p

    def standard(values: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        return (values - mean.flatten()) / deviation.flatten().clamp(min=1e-30) * (deviation.flatten() > 0)

    def score(z: Tensor, cell: Tensor) -> float:
        query = torch.cat([standard(z, model.z_mean, model.z_deviation), torch.ones(1)]) * model.critic.log_scale.exp()
        first, _, second = model.critic.g
        hidden = (first.weight @ standard(cell, model.channel_mean, model.channel_deviation) + first.bias).clamp(min=0)
        return float(query @ (second.weight @ hidden + second.bias))

    representations, plain, dimmed, lambdas, likelihood = [], [], [], [], 0.0
    for x, label in zip(samples.x, samples.label, strict=True):
        features = probe.features(x[None])
        local = features.local[0]  # (C, h, w)
        standardised = standard(local.permute(1, 2, 0), model.channel_mean, model.channel_deviation).permute(2, 0, 1)
        lambda_ = model.mask.layers(standardised[None])[0, 0].sigmoid()  # (h, w)
        logits = probe.resume(local[None] * lambda_).logits[0]
        likelihood += float(logits.log_softmax(0)[label])
        representations.append(features.representation[0])
        plain.append(local.flatten(1).T)
        dimmed.append((local * lambda_).flatten(1).T)
        lambdas.append(lambda_.flatten())

    def mean_information(cells: list[Tensor]) -> float:
        values = []
        for n, z in enumerate(representations):
            normaliser = [math.exp(score(z, cell)) for other in cells for cell in other]
            values += [score(z, cell) - math.log(sum(normaliser) / len(normaliser)) for cell in cells[n]]
        return sum(values) / len(values)

    cost = float(torch.stack(lambdas).sum(1).mean()) / (1 if p.mask_cost == "sum" else len(lambdas[0]))
    information = mean_information(plain) + mean_information(dimmed)
    information *= 1 if p.information == "mean" else len(lambdas[0])
    return likelihood / len(samples) + p.alpha * information - p.beta * cost


@pytest.mark.parametrize(("information", "mask_cost"), [("mean", "sum"), ("sum", "sum"), ("mean", "mean")])
def test_the_objective_is_equation_7_term_by_term(information: str, mask_cost: str) -> None:
    probe, samples = convolutional(), calibration(convolutional(), 5)
    p = Mire.Parameters(alpha=0.7, beta=0.3, mask_cost=mask_cost, information=information, batch=5, hidden=8)
    data = look(probe, samples)
    buffers = mire.statistics(data)
    model = mire.Decomposition(p, torch.Size((1, 6, 4, 4)), probe.grid, buffers, torch.Generator().manual_seed(0))
    value, _ = mire.objective(model, data, torch.arange(5), samples.label, torch.Generator())
    with torch.no_grad():
        assert value.item() == pytest.approx(slow_objective(model, probe, samples), rel=1e-4)


def test_noise_has_the_calibration_datas_moments_and_is_all_at_lambda_zero() -> None:
    probe, samples = convolutional(), calibration(convolutional(), 200)
    data = look(probe, samples)
    p = MireNoise.Parameters(noise=1.0)
    model = mire.Decomposition(p, torch.Size((1, 6, 4, 4)), probe.grid, mire.statistics(data), torch.Generator())
    cells = probe.cells(data.locals(torch.arange(200)))
    taken = torch.cat([model.blend(cells, torch.zeros(200, 16), [torch.Generator().manual_seed(s)]) for s in range(20)])
    torch.testing.assert_close(taken.mean(0), cells.mean(0), atol=0.1, rtol=0.1)
    torch.testing.assert_close(taken.std(0), cells.std(0), atol=0.05, rtol=0.05)
    untouched = model.blend(cells, torch.ones(200, 16), [torch.Generator().manual_seed(0)])
    torch.testing.assert_close(untouched, cells, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cls", [Mire, MireNoise])
@pytest.mark.parametrize("network", [convolutional, transformer, table])
def test_grids_tokens_and_columns_get_maps_of_their_pixels(cls: type[Mire], network: Any) -> None:
    probe = network()
    explainer = quick(cls)
    fitted(explainer, probe, calibration(probe))
    maps = explainer.explain(probe, *some(probe)).maps
    assert all(map_.shape == (4, *probe.pixels) and bool(map_.isfinite().all()) for map_ in maps.values())
    assert all(float(map_.std()) > 0 for map_ in maps.values())


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Mire, MireNoise])
def test_a_transformer_of_imagenet_s_size_is_decomposed_at_its_tokens(cls: type[Mire]) -> None:
    model = registry.model("vit-b-16[weights=random,classes=3]")
    cut = {"kind": model.kind, "local": model.local, "representation": model.representation, "shape": model.shape}
    probe = open_probe(model.load(), classes=("a", "b", "c"), **cut)
    assert probe.grid == (14, 14)
    explainer = quick(cls, batch=6, epochs=2)
    state = fitted(explainer, probe, calibration(probe, 12))
    assert state.facts["ceiling"] == pytest.approx(math.log(6 * 14 * 14))
    maps = explainer.explain(probe, *some(probe, 2)).maps
    assert all(map_.shape == (2, 224, 224) and bool(map_.isfinite().all()) for map_ in maps.values())
    assert all(float(map_.std()) > 0 for map_ in maps.values())


@pytest.mark.parametrize("cls", [Mire, MireNoise])
def test_a_table_smaller_than_a_batch_is_decomposed_in_smaller_ones(cls: type[Mire]) -> None:
    task = make_task(TaskSpec("mlp", "iris", samples=5, calibration=60))
    with pytest.raises(Unsupported, match="60 calibration samples do not fill a batch of 64; set a smaller batch"):
        cls().learn(task.probe, task.calibration, 0)
    explainer = cls(cls.Parameters(batch=32, epochs=2))
    fitted(explainer, task.probe, task.calibration)
    maps = explainer.explain(task.probe, task.scoring.x, task.target, range(5)).maps
    assert all(map_.shape == (5, 1, 4) and bool(map_.isfinite().all()) for map_ in maps.values())
    assert float(maps["total"].std()) > 0


@pytest.mark.parametrize(
    "parameters",
    [
        {"critic": "mine"},
        {"separate_critic": True, "mask": "noise"},
        {"joint": 3},
        {"information": "sum"},
        {"precision": "bf16"},
        {"keep": "prediction"},
        {"mask_cost": "mean"},
        {"temperature": 0.1, "reward": "none"},
    ],
)
def test_every_parameter_leads_to_other_maps(parameters: dict[str, Any]) -> None:
    probe = convolutional()
    plain, other = quick(batch=64, epochs=3), quick(batch=64, epochs=3, **parameters)
    for explainer in (plain, other):
        fitted(explainer, probe, calibration(probe))
    first, second = (explainer.explain(probe, *some(probe)).maps["decision"] for explainer in (plain, other))
    assert bool(second.isfinite().all())
    assert not torch.equal(first, second)


@pytest.mark.parametrize("cls", [Mire, MireNoise])
def test_a_samples_map_depends_on_neither_batch_nor_target(cls: type[Mire]) -> None:
    probe = convolutional()
    explainer = quick(cls)
    fitted(explainer, probe, calibration(probe))
    x, target, seeds = some(probe, 6)
    whole = explainer.explain(probe, x, target, seeds)
    parts = [explainer.explain(probe, x[i : i + 1], (target[i : i + 1] + 1) % 3, seeds[i : i + 1]) for i in range(6)]
    for name, maps in whole.maps.items():
        torch.testing.assert_close(joined(parts, name), maps, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_state_and_another_seed_another() -> None:
    probe, samples = convolutional(), calibration(convolutional())
    randomness = torch.get_rng_state()
    first, again, other = (quick(MireNoise).learn(probe, samples, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), randomness)
    assert all(torch.equal(first.tensors[name], tensor) for name, tensor in again.tensors.items())
    assert not torch.equal(first.tensors["critic.g.0.weight"], other.tensors["critic.g.0.weight"])


def test_narrow_and_bfloat16_critics_find_the_same_information(
    planted: dict[str, tuple[Explanation, State]],
) -> None:
    """The loss curve stays within 0.03 nats, bfloat16's maps within 0.1 on average, and the truth is found as well."""
    samples, scored = drawn(2048, 0), drawn(400, 1)
    whole, before = planted["mire"]
    for parameters, tolerance in (({"joint": 7}, 0.5), ({"precision": "bf16"}, 0.1)):
        explainer = Mire(Mire.Parameters(hidden=64, epochs=12, **parameters))  # type: ignore[arg-type]
        after = fitted(explainer, opened(), samples)
        total = explainer.explain(opened(), scored.x, scored.label, range(400)).maps["total"]
        assert at("signal", total) == pytest.approx(NATS, rel=0.12)
        assert abs(at("others", total)) < 0.05
        assert float((total - whole.maps["total"]).abs().mean()) < tolerance
        for first, second in zip(before.facts["curve"]["total"][3:], after.facts["curve"]["total"][3:], strict=True):
            assert first == pytest.approx(second, abs=0.03)


def test_mine_finds_the_information_too() -> None:
    explainer = Mire(Mire.Parameters(hidden=64, epochs=12, critic="mine"))
    state = fitted(explainer, opened(), drawn(2048, 0))
    assert state.facts["ceiling"] == math.inf
    assert not state.facts["saturated"]
    scored = drawn(400, 1)
    explanation = explainer.explain(opened(), scored.x, scored.label, range(400))
    total = explanation.maps["total"]
    assert at("signal", total) > at("others", total) + 0.7 * NATS
    assert bool((explanation.facts["ceiling"] == math.inf).all())


def test_features_that_do_not_fit_into_memory_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    probe, samples = convolutional(), calibration(convolutional())
    kept = quick().learn(probe, samples, 0)
    monkeypatch.setattr("mibench.network.calibration.MEMORY", 1000)
    again = quick().learn(probe, samples, 0)
    for name, tensor in kept.tensors.items():
        torch.testing.assert_close(again.tensors[name], tensor, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("probe", "samples", "words"),
    [
        (convolutional(), calibration(convolutional(), 1), "at least 2"),
        (convolutional(), calibration(convolutional(), 15), "do not fill a batch of 16"),
        (fully_connected(), calibration(fully_connected()), "no place in the image"),
        (table(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 3), features=1), None, "one local feature"),
    ],
    ids=["one sample", "batch too large", "no grid", "one cell"],
)
def test_what_makes_no_map_is_refused_with_the_mend(probe: OpenProbe, samples: Samples | None, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        quick().learn(probe, samples or calibration(probe), 0)


def test_constant_features_are_refused() -> None:
    samples = calibration(convolutional())
    constant = Samples(torch.ones_like(samples.x), samples.label, samples.ids)
    with pytest.raises(Unsupported, match="the same in every calibration sample"):
        quick().learn(convolutional(), constant, 0)


def test_features_and_objectives_that_are_not_finite_are_errors() -> None:
    samples = calibration(convolutional())
    broken = Samples(samples.x * torch.nan, samples.label, samples.ids)
    with pytest.raises(ValueError, match="not finite on the calibration samples"):
        quick().learn(convolutional(), broken, 0)
    with pytest.raises(ValueError, match="not finite in epoch 1; set learning_rate below"):
        quick(learning_rate=1e30).learn(convolutional(), samples, 0)


def test_the_network_is_left_as_it_was() -> None:
    probe = convolutional()
    before = {name: tensor.clone() for name, tensor in probe.model.state_dict().items()}
    fitted(quick(), probe, calibration(probe))
    assert all(torch.equal(before[name], tensor) for name, tensor in probe.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in probe.model.parameters())


def test_the_paper_s_weights_are_the_defaults() -> None:
    p = Mire.Parameters()
    assert (p.alpha, p.beta, p.hidden, p.mask, p.reward, p.critic) == (1.0, 0.5, 256, "multiply", "mask", "infonce")
    assert (p.information, p.mask_cost, p.keep, p.joint) == ("mean", "sum", "label", 0)
    ours = MireNoise.Parameters()
    changed = {name for name in MireNoise.Parameters.model_fields if getattr(p, name) != getattr(ours, name)}
    assert changed == {"beta", "noise", "mask", "reward", "separate_critic", "mask_cost", "keep", "joint"}
