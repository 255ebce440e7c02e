"""Pruning removes what it says, least first, and information tells useful parts of a network from useless ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from leaderboards.studies.nif import pruning
from leaderboards.studies.nif.pruning import Scores
from mibench.errors import UsageError
from mibench.information.flow import Flow, Neurons, estimator


def perceptron() -> nn.Sequential:
    """Of four inputs only the first decides; of six hidden neurons the first two use it, the others see noise."""
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[0, 0], network[0].weight[1, 0] = 1.0, -1.0
        network[0].weight[2:, 1:] = 3.0 * torch.eye(4, 3)
        network[2].weight[0, 0], network[2].weight[1, 1] = 1.0, 1.0
    return network.eval().requires_grad_(False)


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] < 0).long()


def links(network: nn.Sequential, x: Tensor) -> list[Tensor]:
    layers = [x, network[:2](x), network(x)]
    return Flow([Neurons(str(n), (), layer) for n, layer in enumerate(layers)], estimator("mixed", 3)).edges()


def scores(order: pruning.Order, grain: pruning.Grain, x: Tensor) -> Scores:
    network = perceptron()
    return pruning.scores(network, links(network, x), order, grain, torch.Generator().manual_seed(0))


def test_the_chain_names_weighted_layers_and_where_their_neurons_show() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3), nn.Linear(3, 2)
    )
    assert pruning.chain(network) == {"0": "1", "4": "4", "5": "5"}
    with pytest.raises(UsageError, match="only a chain"):
        pruning.chain(nn.Linear(2, 2))


def test_the_lowest_scores_go_first_and_the_network_stays_as_it_was() -> None:
    network = perceptron()
    before = network[2].weight.clone()
    given = {"2": torch.arange(12.0).reshape(2, 6)}
    smaller = pruning.pruned(network, given, 0.25)
    assert torch.equal(smaller.get_submodule("2").weight[0, :3], torch.zeros(3))
    assert torch.equal(smaller.get_submodule("2").weight.flatten()[3:], before.flatten()[3:])
    assert torch.equal(network[2].weight, before)


def test_a_pruned_neuron_is_silent(samples: tuple[Tensor, Tensor]) -> None:
    network = perceptron()
    with torch.no_grad():
        network[0].bias.fill_(1.0)
    smaller = pruning.pruned(network, {"0": torch.arange(6.0)}, 0.5)
    assert isinstance(smaller, nn.Sequential)
    assert float(smaller[:2](samples[0])[:, :3].abs().max()) == 0
    assert float(smaller[:2](samples[0])[:, 3:].abs().max()) > 0


def test_information_keeps_what_decides_where_magnitude_drops_it(samples: tuple[Tensor, Tensor]) -> None:
    """The useless neurons have weights three times as large."""
    area = {}
    for order in pruning.ORDERS:
        found = scores(order, "neurons", samples[0])
        area[order] = pruning.area(pruning.curve(perceptron(), found, *samples))
    assert area["nif"] > 0.85
    assert area["nif"] >= area["random"]
    assert area["nif"] > area["reversed"] + 0.2
    assert area["nif"] > area["magnitude"] + 0.2


def test_weights_of_links_that_carry_nothing_cost_nothing(samples: tuple[Tensor, Tensor]) -> None:
    found = scores("nif", "weights", samples[0])
    assert {name: tuple(score.shape) for name, score in found.items()} == {"0": (6, 4), "2": (2, 6)}
    curve = pruning.curve(perceptron(), found, *samples, shares=(0.0, 0.5, 1.0))
    assert curve[:2].tolist() == [1.0, 1.0]
    assert float(curve[2]) == pytest.approx(0.5, abs=0.05)


def test_nothing_pruned_and_everything_pruned_are_the_same_for_all(samples: tuple[Tensor, Tensor]) -> None:
    for grain in ("weights", "neurons"):
        ends = {
            tuple(pruning.curve(perceptron(), scores(order, grain, samples[0]), *samples, shares=(0.0, 1.0)).tolist())
            for order in pruning.ORDERS
        }
        assert len(ends) == 1


def test_the_flow_through_a_neuron_sums_its_paths() -> None:
    random = torch.Generator().manual_seed(0)
    edges = [torch.rand(a, b, generator=random) for a, b in ((3, 4), (4, 2), (2, 5))]
    found = pruning._through(edges)
    for layer, neurons in enumerate((4, 2)):
        for neuron in range(neurons):
            paths = [
                edges[0][a, b] * edges[1][b, c] * edges[2][c, d]
                for a, b, c, d in itertools.product(range(3), range(4), range(2), range(5))
                if (b, c)[layer] == neuron
            ]
            assert float(found[layer][neuron]) == pytest.approx(float(sum(paths)), rel=1e-5)


def test_a_first_convolution_keeps_its_weights_and_channels_are_positions() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    edges = [torch.rand(16, 2), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])]
    found = pruning.scores(network, edges, "nif", "weights", torch.Generator())
    assert list(found) == ["3"]
    assert found["3"][1].tolist() == [2.0] * 4 + [5.0] * 4


def test_links_must_match_the_chain() -> None:
    with pytest.raises(UsageError, match="2 weighted layers have as many links, not 1"):
        pruning.scores(perceptron(), [torch.ones(4, 6)], "nif", "weights", torch.Generator())


def test_the_area_is_the_mean_accuracy() -> None:
    assert pruning.area(torch.tensor([1.0, 1.0, 0.0]), (0.0, 0.5, 1.0)) == pytest.approx(0.75)
