"""NIF: written again path by path, and what it says of networks whose flow is known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.special import digamma
from torch import Tensor, nn

from mibench.information.flow import Compose
from mibench.methods.nif.neurons import choose, read
from mibench.methods.nif.nif import NIF
from mibench.methods.nif.weakest_link import NIFMin
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Samples, Unsupported
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task
from tests.methods.small_networks import calibration, convolutional, explained, frozen, ready, some, table, transformer

KSG = {"estimator": "mixed"}
PLAIN = KSG | {
    "correction": "none",
    "k": 3,
    "beta": 0.01,
    "order": "index",
}  # no jitter, so that the numbers can be written again


def equation_6(x: list[float], z: list[float], k: int) -> float:
    """Pointwise information at the last of the samples."""
    dx, dz = [abs(x[-1] - a) for a in x], [abs(z[-1] - b) for b in z]
    rho = sorted(max(a, b) for a, b in zip(dx, dz, strict=True))[k]  # the nearest is the sample itself
    if rho == 0:
        k = sum(a == b == 0 for a, b in zip(dx, dz, strict=True))
        nx, nz = dx.count(0), dz.count(0)
    else:
        nx, nz = sum(a < rho for a in dx), sum(b < rho for b in dz)
    return float(digamma(k) + math.log(len(x)) - digamma(nx) - digamma(nz))


def path_by_path(
    layers: list[Tensor], new: list[Tensor], target: int, k: int, beta: float, how: Compose
) -> list[float]:
    """Equations (1) to (3) for one new sample: every edge on its own, every path on its own."""
    scale = [layer.double().std(0, correction=0) for layer in layers]
    scaled = [(layer.double() / s).tolist() for layer, s in zip(layers, scale, strict=True)]
    asked = [(x.double() / s).tolist() for x, s in zip(new, scale, strict=True)]

    def column(layer: int, neuron: int) -> list[float]:
        return [row[neuron] for row in scaled[layer]]

    def edge(link: int, a: int, b: int) -> float:
        here, there = column(link, a), column(link + 1, b)
        if min(here) == max(here) or min(there) == max(there):
            return 0.0
        return equation_6([*here, asked[link][a]], [*there, asked[link + 1][b]], k)

    def redundancy(i: int) -> float:
        every = range(len(scaled[0]))
        return sum(
            equation_6([*column(0, i)[:n], *column(0, i)[n + 1 :], column(0, i)[n]],
                       [*column(0, j)[:n], *column(0, j)[n + 1 :], column(0, j)[n]], k)
            for j in range(i) for n in every
        ) / len(scaled[0])  # fmt: skip

    attributions = []
    for i in range(layers[0].shape[1]):
        values = []
        for path in itertools.product([i], *(range(layer.shape[1]) for layer in layers[1:-1]), [target]):
            edges = [edge(link, a, b) for link, (a, b) in enumerate(itertools.pairwise(path))]
            edges[0] -= beta * redundancy(i)
            values.append(math.prod(edges) if how == "product" else min(edges))
        attributions.append(sum(values) if how == "product" else max(values))
    return attributions


def small_table() -> OpenProbe:
    return table(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), features=3)


@pytest.mark.parametrize("how", ["product", "min"])
def test_the_chain_is_the_paper_read_path_by_path(how: Compose) -> None:
    probe = small_table()
    samples, (x, target, seeds) = calibration(probe, 30), some(probe, 2)
    explainer = NIF(NIF.Parameters(compose=how, redundancy=30, **PLAIN))
    explainer.restore(probe, explainer.learn(probe, samples, seed=0))
    ours = explainer.explain(probe, x, target, seeds).maps["attribution"]
    layers = [layer.activations for layer in read(probe, samples.x, 1, ("input", "1", "3", "classes"))]
    for n in range(2):
        new = [layer.activations[0] for layer in read(probe, x[n : n + 1], 1, ("input", "1", "3", "classes"))]
        truth = path_by_path(layers, new, int(target[n]), 3, 0.01, how)
        assert torch.allclose(ours[n, 0].double(), torch.tensor(truth).double(), rtol=1e-4, atol=1e-6)


def test_nif_min_is_nif_composed_by_min_in_nats() -> None:
    probe = convolutional()
    thin = explained(NIFMin(), probe).maps["attribution"]
    assert torch.equal(thin, explained(NIF(NIF.Parameters(compose="min")), probe).maps["attribution"])
    assert NIFMin.maps[0].unit == "nats"


def test_both_kinds_of_nif_restore_the_same_fit() -> None:
    probe = convolutional()
    assert registry.label(NIFMin().learner) == registry.label(NIF().learner) == "nif"
    state = NIF().learn(probe, calibration(probe), seed=0)
    shown = {}
    for explainer in (NIFMin(), NIF(NIF.Parameters(compose="min"))):
        explainer.restore(probe, state)
        shown[explainer.name] = explainer.explain(probe, *some(probe)).maps["attribution"]
    assert torch.equal(shown["nif"], shown["nif-min"])


def test_the_redundancy_term_has_no_ramp_along_the_index() -> None:
    """Inputs that are all alike share as much with each other: only the paper's order tells the last from the first."""
    model = frozen(nn.Sequential(nn.Linear(40, 4), nn.ReLU(), nn.Linear(4, 3)))
    cut = {"kind": "columns", "local": "input", "representation": "1", "shape": (40,), "classes": ("a", "b", "c")}
    probe = open_probe(model, **cut)
    found = {}
    for order in ("any", "index"):
        state = NIF(NIF.Parameters(beta=5e-4, order=order)).learn(probe, calibration(probe, 60), seed=0)
        index = torch.arange(40, dtype=torch.float64)
        found[order] = float(torch.corrcoef(torch.stack([index, state.tensors["redundancy"]]))[0, 1])
    assert found["index"] > 0.9
    assert abs(found["any"]) < 0.5


def test_by_default_no_input_pair_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mibench.information.flow.Flow.redundancy", lambda *_: pytest.fail("it was estimated"))
    monkeypatch.setattr("mibench.methods.nif.nif.STATED", 0)
    assert "redundancy" not in NIF().learn(convolutional(), calibration(convolutional()), seed=0).tensors


def test_neurons_are_channels_over_positions_and_cells_of_each_colour() -> None:
    probe = convolutional()
    x, _, _ = some(probe)
    layers = {layer.name: layer.activations for layer in read(probe, x, 4, ("input", "pool", "block", "classes"))}
    local = probe.features(x).local
    assert torch.allclose(layers["block"], local.mean((2, 3)), atol=1e-6)
    assert torch.allclose(layers["input"][:, 16], x[:, 1, :2, :2].mean((1, 2)), atol=1e-6)  # green, first cell
    assert torch.equal(layers["classes"], probe.logits(x))


def test_layers_are_cut_points_dense_activations_and_z_each_once() -> None:
    probe = convolutional()
    assert choose(probe, some(probe)[0]) == ("input", "pool", "block", "classes")  # z is the average of `block`
    assert choose(small_table(), some(small_table())[0]) == ("input", "1", "3", "classes")  # z is layer 3
    assert choose(transformer(), some(transformer())[0])[-2:] == ("representation", "classes")  # z is the class token


def test_the_input_that_decides_gets_the_flow() -> None:
    """The class is the sign of one of six inputs; the network looks at nothing else."""
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    frozen(model)
    with torch.no_grad():
        model[0].weight[:, torch.arange(6) != 2] = 0.0
    probe = open_probe(
        model.eval(), kind="columns", local="input", representation="1", shape=(6,), classes=("a", "b", "c")
    )
    samples, (x, target, seeds) = calibration(probe, 300), some(probe, 40)
    for cls in (NIF, NIFMin):
        explainer = cls()
        explainer.restore(probe, explainer.learn(probe, samples, seed=0))
        maps = explainer.explain(probe, x, target, seeds).maps["attribution"][:, 0]
        assert float((maps.argmax(1) == 2).float().mean()) > 0.9


def test_a_samples_map_does_not_depend_on_its_batch() -> None:
    probe = convolutional()
    explainer = ready(NIF(NIF.Parameters(layers=("pool",))), probe)
    x, target, seeds = some(probe, 6)
    together = explainer.explain(probe, x, target, seeds).maps["attribution"]
    for n in range(6):
        alone = explainer.explain(probe, x[n : n + 1], target[n : n + 1], seeds[n : n + 1]).maps["attribution"]
        assert torch.allclose(alone[0], together[n], rtol=1e-4, atol=1e-6)


def test_memory_is_streamed_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = convolutional()
    whole = explained(NIF(), probe).maps["attribution"]
    monkeypatch.setattr("mibench.methods.nif.nif.ROOM", 64)
    assert torch.allclose(explained(NIF(), probe).maps["attribution"], whole, rtol=1e-5)


def test_cost_does_not_grow_with_the_size_of_the_image() -> None:
    sizes = {}
    for side in (8, 32):
        probe = convolutional(side=side)
        state = NIF(NIF.Parameters(grid=4)).learn(probe, calibration(probe), seed=0)
        sizes[side] = state.tensors["layer0"].shape
    assert sizes[8] == sizes[32] == (64, 3 * 4 * 4)


def test_a_constant_neuron_carries_nothing_and_is_no_error() -> None:
    probe = small_table()
    samples = calibration(probe, 40)
    samples.x[:, 1] = 2.0
    explainer = NIF()
    explainer.restore(probe, explainer.learn(probe, samples, seed=0))
    maps = explainer.explain(probe, *some(probe)).maps["attribution"]
    assert torch.isfinite(maps).all()
    assert torch.equal(maps[:, 0, 1], torch.zeros(4))


def test_too_many_edges_are_refused_with_the_cost_and_the_mend() -> None:
    model = frozen(
        nn.Sequential(nn.Linear(5, 100_000), nn.ReLU(), nn.Linear(100_000, 300), nn.ReLU(), nn.Linear(300, 3))
    )
    probe = open_probe(model, kind="columns", local="input", representation="3", shape=(5,), classes=("a", "b", "c"))
    with pytest.raises(
        Unsupported, match=r"100,000 neurons of '1' and 300 of '3' have 30,000,000 edges, about .* raise"
    ):
        NIF().learn(probe, calibration(probe, 30), seed=0)


def test_bad_calibration_and_layers_are_refused_in_plain_words() -> None:
    probe = small_table()
    with pytest.raises(ValueError, match="8 samples, but 10 neighbours need at least 11: lower k"):
        NIF(NIF.Parameters(**KSG)).learn(probe, calibration(probe, 8), seed=0)
    samples = calibration(probe, 40)
    samples.x[3] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        NIF().learn(probe, samples, seed=0)
    with pytest.raises(Unsupported, match="no layer 'dense9'"):
        NIF(NIF.Parameters(layers=("dense9",))).learn(probe, calibration(probe, 40), seed=0)


def test_duplicate_samples_are_no_error() -> None:
    probe = small_table()
    samples = calibration(probe, 20)
    double = Samples(samples.x.repeat(3, 1), samples.label.repeat(3), samples.ids * 3)
    explainer = NIF()
    explainer.restore(probe, explainer.learn(probe, double, seed=0))
    assert torch.isfinite(explainer.explain(probe, *some(probe)).maps["attribution"]).all()


@pytest.mark.parametrize(
    ("network", "estimator", "nats", "pointwise"),
    [
        ("linear-gaussian", "mixed", 0.02, 0.25),
        ("planted-table", "mixed", 0.02, 0.25),
        ("linear-gaussian", "edge", 0.06, 0.25),
        ("planted-table", "edge", 0.01, 0.25),
    ],
)
def test_stated_edges_are_near_what_theory_says(network: str, estimator: str, nats: float, pointwise: float) -> None:
    task = make_task(TaskSpec(network, "", samples=64, calibration=1000))
    nif = NIF(NIF.Parameters(reference=1000, estimator=estimator))
    nif.restore(task.probe, nif.learn(task.probe, task.calibration, 0))
    stated = nif.explain(task.probe, task.scoring.x, task.target, range(64)).signals
    truth = task.scoring.truth
    assert truth is not None
    for signal, most in (("edges", nats), ("pointwise-edges", pointwise)):
        error = (stated[signal] - truth.information[signal]).abs().mean()
        assert 0 < error < most
    assert torch.equal(stated["edges"], stated["edges"][:1].expand(64, -1))


def test_large_networks_state_no_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = small_table()
    edges = 3 * 4 + 4 * 3 + 3 * 3
    monkeypatch.setattr("mibench.methods.nif.nif.STATED", edges)
    assert explained(NIF(), probe).signals["edges"].shape == (4, edges)
    monkeypatch.setattr("mibench.methods.nif.nif.STATED", edges - 1)
    assert not explained(NIF(), probe).signals
