"""The networks that are written down with their data in `mibench.data.wired`, as chains of dense layers."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from mibench.data import wired
from mibench.data.wired import Wired
from mibench.models.training import frozen
from mibench.plugins import registry
from mibench.plugins.contract import Model, P_co


class WiredModel(Model[P_co]):
    """What both networks share: nothing is learned, inputs are not rescaled, columns are local features."""

    kind = "columns"
    source: type[Wired]
    rectified: bool

    local = "input"

    @property
    def data(self) -> str:  # type: ignore[override]  # it follows from the parameters
        """The table of the same parameters."""
        return registry.label(self._source())

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """One number a column."""
        return (len(self.source.columns),)

    def load(self) -> nn.Module:
        """The network with the weights that the data state."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        written = self._source().layers()
        for number, (weight, bias) in enumerate(written, start=1):
            layers[f"dense{number}"] = dense = nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                dense.weight.copy_(weight)
                dense.bias.copy_(bias)
            if self.rectified and number < len(written):
                layers[f"relu{number}"] = nn.ReLU()
        return frozen(nn.Sequential(layers))

    def _source(self) -> Wired:
        return self.source(self.source.Parameters(**self.parameters.model_dump()))


class LinearGaussianNetwork(WiredModel[wired.LinearGaussianParameters]):
    """Dense layers without activations: every two neurons are jointly Gaussian."""

    name = "linear-gaussian"
    title = "Linear-Gaussian network"
    architecture = "mlp"
    representation = "dense2"
    depths = ("input", "dense1")
    source = wired.LinearGaussian
    rectified = False


class PlantedTableNetwork(WiredModel[wired.PlantedTableParameters]):
    """Ramps, hats and logits: every neuron is a function of two symbols."""

    name = "planted-table"
    title = "Planted table's network"
    architecture = "mlp"
    representation = "relu2"
    depths = ("input",)
    source = wired.PlantedTable
    rectified = True
