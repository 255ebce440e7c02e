"""The truth of networks that are written down is found again: by densities, by simulation and by counting."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mibench.data.wired import LinearGaussian, PlantedTable, Wired
from mibench.errors import DataError
from mibench.information.exact import discrete, gaussian
from mibench.plugins import registry

TABLES = [LinearGaussian(), PlantedTable(), PlantedTable(PlantedTable.Parameters(alphabet=2))]


def width(table: Wired) -> tuple[int]:
    return (len(table.columns),)


def watched(table: Wired, x: Tensor) -> list[Tensor]:
    """The neurons of the network of the zoo, layer by layer, the inputs first: activations where there are any."""
    network = registry.model(registry.label(table)).load()
    shown = [layer for name, layer in network.named_children() if isinstance(layer, nn.ReLU) or name == "dense3"]
    if not any(isinstance(layer, nn.ReLU) for layer in shown):
        shown = list(network)
    layers = [x]
    for layer in network:
        x = layer(x)
        if layer in shown:
            layers.append(x)
    return layers


def of_normals(pair: Tensor, covariance: Tensor, split: int) -> Tensor:
    """log p(a, b) / p(a) p(b) of Gaussians of which the first `split` are a, (N,)."""

    def density(values: Tensor, part: slice) -> Tensor:
        return MultivariateNormal(torch.zeros(values.shape[1]).double(), covariance[part, part]).log_prob(values)

    first, second = slice(None, split), slice(split, None)
    return density(pair, slice(None)) - density(pair[:, first], first) - density(pair[:, second], second)


@pytest.mark.parametrize("table", TABLES, ids=registry.label)
def test_the_zoos_network_gives_the_label_and_samples_ignore_the_count(table: Wired) -> None:
    many, few = table.load("scoring", 50, width(table)), table.load("scoring", 7, width(table))
    assert torch.equal(watched(table, many.x)[-1].argmax(1), many.label)
    assert torch.equal(many.x[:7], few.x)
    assert many.ids[:7] == few.ids
    assert many.truth is not None
    assert few.truth is not None
    assert all(torch.equal(each[:7], few.truth.information[name]) for name, each in many.truth.information.items())
    assert not torch.equal(many.x, table.load("calibration", 50, width(table)).x)
    with pytest.raises(DataError, match="columns, but the model wants 3"):
        table.load("scoring", 5, (3,))


def test_gaussian_edges_are_the_ratio_of_densities_and_half_a_logarithm() -> None:
    table = LinearGaussian()
    samples = table.load("scoring", 20, (8,))
    assert samples.truth is not None
    sums, stated = table.neurons(), samples.truth.information
    layers = [layer.double() for layer in watched(table, samples.x)]
    edge = 0
    for link, (here, there) in enumerate(itertools.pairwise(layers)):
        for a, b in itertools.product(range(here.shape[1]), range(there.shape[1])):
            rows = torch.stack([sums[link][a], sums[link + 1][b]])
            covariance = rows @ rows.T
            pointwise = of_normals(torch.stack([here[:, a], there[:, b]], 1), covariance, 1)
            assert torch.allclose(stated["pointwise-edges"][:, edge].double(), pointwise, atol=1e-4)
            assert float(stated["edges"][0, edge]) == pytest.approx(gaussian(covariance, 1), abs=1e-5)
            edge += 1
    assert stated["edges"].shape == stated["pointwise-edges"].shape == (20, edge)


def test_what_z_and_the_decision_know_of_a_gaussian_column() -> None:
    table = LinearGaussian()
    samples = table.load("scoring", 20, (8,))
    assert samples.truth is not None
    sums, stated = table.neurons(), samples.truth.information
    z = samples.x.double() @ sums[-2].T  # (N, Z)
    for column in range(8):
        rows = torch.cat([torch.eye(8).double()[[column]], sums[-2]])
        total = of_normals(torch.cat([samples.x[:, [column]].double(), z], 1), rows @ rows.T, 1)
        assert torch.allclose(stated["total"][:, 0, column].double(), total, atol=1e-4)
    for sample, column in ((0, 0), (1, 2), (2, 4)):
        others = torch.randn(40_000, 8, generator=torch.Generator().manual_seed(0))
        others[:, column] = samples.x[sample, column]
        share = (table.label(others) == samples.label[sample]).double().mean()
        assert math.log(share / 0.5) == pytest.approx(float(stated["decision"][sample, 0, column]), abs=0.02)
    assert torch.allclose(stated["redundant"], stated["total"] - stated["decision"])


def test_edges_of_symbols_are_what_counting_many_samples_finds() -> None:
    table = PlantedTable(PlantedTable.Parameters(alphabet=3))
    samples = table.load("training", 6_000, (6,))
    assert samples.truth is not None
    stated, edge = samples.truth.information, 0
    for here, there in itertools.pairwise(watched(table, samples.x)):
        for a, b in itertools.product(range(here.shape[1]), range(there.shape[1])):
            values, pairs = torch.unique(torch.stack([here[:, a], there[:, b]], 1), dim=0, return_inverse=True)
            first, second = (torch.unique(column, return_inverse=True)[1] for column in values.T)
            joint = torch.zeros(int(first.max()) + 1, int(second.max()) + 1)
            joint.index_put_((first[pairs], second[pairs]), torch.tensor(1.0), accumulate=True)
            assert discrete(joint) == pytest.approx(float(stated["edges"][0, edge]), abs=0.01)
            assert float(stated["pointwise-edges"][:, edge].mean()) == pytest.approx(discrete(joint), abs=0.03)
            edge += 1
    assert stated["edges"].shape == (6_000, edge)


def test_the_decision_knows_the_first_symbol_and_z_the_second_too() -> None:
    stated = PlantedTable().load("scoring", 3, (6,)).truth
    assert stated is not None
    sure = math.log(4)
    assert torch.allclose(stated.information["decision"], torch.tensor([[[sure, 0, 0, 0, 0, 0]]]))
    assert torch.allclose(stated.information["total"], torch.tensor([[[sure, sure, 0, 0, 0, 0]]]))
    assert stated.cells["signal"].sum() == stated.cells["redundant"].sum() == 3
