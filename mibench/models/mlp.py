"""A multilayer perceptron for tables: two small hidden layers, with the table's width and classes."""

from __future__ import annotations

import itertools
from collections import OrderedDict

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mibench.data import tables
from mibench.data.tables import Rows, Table
from mibench.errors import ModelError
from mibench.models.trained import Trained
from mibench.models.training import Lesson, Recipe, accuracy, descend, digest, trained
from mibench.plugins import contract, registry

RECIPE = Recipe(epochs=200, batch=32, rate=1e-2, decay=1.0)  # chosen by cross-validation on rows that are not scored


class Parameters(contract.Parameters):
    """Which data the network learns, its layers, and the accuracy under which it is refused."""

    data: str = "iris"
    hidden: tuple[int, ...] = Field(default=(10, 5), min_length=1, max_length=6)
    floor: float = Field(default=0.85, ge=0.0, le=1.0)


class Mlp(Trained[Parameters]):
    """A perceptron on a table's standardised columns, which are its local features."""

    name = "mlp"
    title = "MLP"
    architecture = "mlp"
    kind = "columns"
    floor = 0.85

    local = "input"
    depths = ("input",)

    @property
    def data(self) -> str:  # type: ignore[override]
        """The table it learned."""
        return str(self.parameters.data)

    @property
    def representation(self) -> str:  # type: ignore[override]
        """The last hidden layer."""
        return f"relu{len(self.parameters.hidden)}"

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """One number a column."""
        return (self._rows().x.shape[1],)

    @property
    def mean(self) -> tuple[float, ...]:  # type: ignore[override]
        """Of each column of the training split."""
        return tuple(self._training().mean(0).tolist())

    @property
    def std(self) -> tuple[float, ...]:  # type: ignore[override]
        """Of each column of the training split; 1 where a column is constant."""
        deviation = self._training().std(0)
        return tuple(torch.where(deviation > 0, deviation, 1.0).tolist())

    def load(self) -> nn.Module:
        """The perceptron, trained on first use."""
        return trained(self.lesson, self._build, self._teach)

    @property
    def lesson(self) -> Lesson:
        """The training split of exactly this table."""
        rows = self._rows()
        content = digest([rows.x.numpy().tobytes(), rows.label.numpy().tobytes()])
        return self.lesson_of(self.parameters.floor, RECIPE, __name__, tables.__name__, content)

    def _build(self) -> nn.Sequential:
        widths = (*self.shape, *self.parameters.hidden)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (width, wider) in enumerate(itertools.pairwise(widths), start=1):
            layers[f"dense{number}"], layers[f"relu{number}"] = nn.Linear(width, wider), nn.ReLU()
        layers[f"dense{len(widths)}"] = nn.Linear(widths[-1], len(self._rows().classes))
        return nn.Sequential(layers)

    def _teach(self, network: nn.Sequential, recipe: Recipe) -> float:
        """Learn the training split; the accuracy is that on the calibration split."""
        source = self._source()
        seen, held_out = source.load("training", None, self.shape), source.load("calibration", None, self.shape)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        x = (seen.x - mean) / std  # (N, F)

        def loss(batch: Tensor) -> Tensor:
            return F.cross_entropy(network(x[batch]), seen.label[batch])

        descend(network, loss, len(x), recipe)
        return accuracy(network, (held_out.x - mean) / std, held_out.label)

    def _source(self) -> Table:
        source = registry.data(self.data)
        if not isinstance(source, Table):
            raise ModelError(f"mlp learns tables, and {self.data} is none: try mlp[data=iris] or mlp[data=csv:PATH]")
        return source

    def _rows(self) -> Rows:
        return self._source().rows()

    def _training(self) -> Tensor:
        return self._source().load("training", None, self.shape).x
