"""Networks that are written down instead of learned, and inputs of a known distribution: each edge's truth is exact.

The first columns of a table are the *signal*, which decides; the next ones are *redundant*: they reach the
representation z, but not the decision; the last ones reach nothing. Two tables:

    linear-gaussian   x ~ N(0, I), and every neuron is a sum of inputs. Neurons a and b of correlation r share
                      I(a; b) = -1/2 log(1 - r^2), pointwise log p(a, b) / p(a) p(b)
    planted-table     every column holds one of |A| symbols, equally often; the first is the label, the second reaches
                      z. Each neuron is a function of them: counting over all inputs gives I(a; b)

The truth of an edge is in `information` as "edges" and "pointwise-edges", (N, E): link by link, row by row. The
truth of a column x_k with the decision y is, as in planted images, in nats,

    total  i(z; x_k),      decision  i(y; x_k),      redundant  i(z; x_k | y) = total - decision

and each signal column's information alone, given the others, and its share (`mibench.information.pointwise`).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mibench.errors import DataError
from mibench.information.exact import discrete, discrete_pointwise, gaussian_pair, gaussian_value
from mibench.information.pointwise import of_class
from mibench.plugins import contract
from mibench.plugins.contract import Data, P_co, Samples, Split, Truth

COUNT = 4_000  # what "all" means; more can be requested
Layers = list[tuple[Tensor, Tensor]]  # weights (out, in) and biases (out,) of the dense layers


class Wired(Data[P_co]):
    """What both tables share."""

    targets = "label"
    columns: ClassVar[tuple[str, ...]]

    @property
    def features(self) -> tuple[str, ...]:
        """The columns' roles."""
        return self.columns

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first samples of a split; sample i is the same whatever the count."""
        if tuple(shape) != (len(self.columns),):
            wanted = "x".join(map(str, shape))
            raise DataError(f"{self.name} has {len(self.columns)} columns, but the model wants {wanted}")
        ids = tuple(f"{split}-{index:05d}" for index in range(COUNT if count is None else count))
        drawn = [self.draw(torch.Generator().manual_seed(_seed(self.name, each))) for each in ids]
        x = torch.stack(drawn) if drawn else torch.zeros(0, len(self.columns))
        return Samples(x, self.label(x), ids, None, self.truth(x))

    @abstractmethod
    def layers(self) -> Layers:
        """The network."""

    @abstractmethod
    def draw(self, random: torch.Generator) -> Tensor:
        """One sample, (F,)."""

    @abstractmethod
    def label(self, x: Tensor) -> Tensor:
        """The network's decision, (N,)."""

    @abstractmethod
    def truth(self, x: Tensor) -> Truth:
        """What is known of samples."""

    def roles(self, count: int) -> dict[str, Tensor]:
        """Which columns are signal and which are redundant, (N, 1, F) each."""
        named = ((role, [column.startswith(role) for column in self.columns]) for role in ("signal", "redundant"))
        return {role: torch.tensor(where).expand(count, 1, -1) for role, where in named}

    def signals(self) -> int:
        """How many columns decide: the first ones."""
        return sum(column.startswith("signal") for column in self.columns)

    def stated(
        self,
        information: dict[str, Tensor],
        edges: Sequence[Tensor],
        pointwise: Sequence[Tensor],
        beliefs: Tensor,
        label: Tensor,
    ) -> Truth:
        """The truth from columns (N, F), edges, and the signal columns' information about the label."""
        count = len(label)
        sources = torch.arange(self.signals()).expand(count, -1)
        truth = Truth((1, len(self.columns)), self.roles(count), {}, sources, beliefs)
        claims = {name: truth.placed(nats).float() for name, nats in of_class(beliefs, label).items()}
        return replace(truth, information=_stated(information, edges, pointwise) | claims)


class LinearGaussianParameters(contract.Parameters):
    """Which weights are drawn."""

    seed: int = Field(default=0, ge=0)  # of the weights


class LinearGaussian(Wired[LinearGaussianParameters]):
    """Gaussian columns and a linear network of two classes."""

    name = "linear-gaussian"
    title = "Linear-Gaussian network"
    columns = ("signal 1", "signal 2", "signal 3", "redundant 1", "redundant 2", "redundant 3", "other 1", "other 2")
    classes = ("negative", "positive")

    def layers(self) -> Layers:
        """Eight columns, six hidden neurons, four of z, two logits; half of the neurons see the signal alone."""
        random = torch.Generator().manual_seed(self.parameters.seed)
        half = [torch.randn(2, a, b, generator=random) for a, b in ((3, 3), (2, 3))]
        hidden, z = (_apart(*weights) for weights in half)  # (6, 6), (4, 6)
        logits = torch.tensor([[-1.0, 0.4, 0.0, 0.0], [0.3, 1.0, 0.0, 0.0]])  # (2, 4) z's first two decide
        weights = (torch.nn.functional.pad(hidden, (0, 2)), z, logits)
        return [(weight / weight.norm(dim=1, keepdim=True), torch.zeros(len(weight))) for weight in weights]

    def draw(self, random: torch.Generator) -> Tensor:
        """Independent standard Gaussians."""
        return torch.randn(len(self.columns), generator=random)

    def label(self, x: Tensor) -> Tensor:
        """The larger logit's class."""
        return (x.double() @ self.neurons()[-1].T).argmax(1)

    def neurons(self) -> list[Tensor]:
        """Every layer's neurons (F, inputs) as sums of the inputs, these first."""
        sums = [torch.eye(len(self.columns), dtype=torch.float64)]
        for weight, _ in self.layers():
            sums.append(weight.double() @ sums[-1])
        return sums

    def truth(self, x: Tensor) -> Truth:
        """Closed forms of correlations."""
        neurons, inputs = [each / each.norm(dim=1, keepdim=True) for each in self.neurons()], x.double()
        edges, pointwise = [], []
        for a, b in itertools.pairwise(neurons):
            correlation = a @ b.T  # (A, B)
            edges.append(torch.tensor([gaussian_pair(float(each)) for each in correlation.flatten()]))
            first, second = inputs @ a.T, inputs @ b.T  # (N, A), (N, B)
            pointwise.append(gaussian_value(first[:, :, None], second[:, None], correlation).flatten(1))
        total, decision = self._of_z(inputs), self._of_decision(inputs)  # (N, F) each
        information = {"total": total, "decision": decision, "redundant": total - decision}
        return self.stated(information, edges, pointwise, self.beliefs(inputs), self.label(x))

    def beliefs(self, x: Tensor) -> Tensor:
        """p(y | x_S) of the signal columns' subsets, (N, 2^K, 2): what is not seen leaves a Gaussian's noise."""
        negative, positive = self.neurons()[-1]
        weights = (positive - negative)[: self.signals()]  # (K,) no other column reaches the decision
        answers = []
        for number in range(2 ** len(weights)):
            seen = torch.tensor([number >> column & 1 for column in range(len(weights))], dtype=torch.bool)
            sum_, left = x[:, : len(weights)][:, seen] @ weights[seen], weights[~seen].norm()  # (N,)
            answers.append(torch.special.ndtr(sum_ / left) if left > 0 else (sum_ > 0).double())
        certain = torch.stack(answers, 1)  # (N, 2^K)
        return torch.stack([1 - certain, certain], 2)

    def _of_z(self, x: Tensor) -> Tensor:
        """i(z; x_k) = log N(x_k; E[x_k | z], v_k) / N(x_k; 0, 1), v_k the variance that z leaves."""
        sums = self.neurons()[-2]  # (Z, F), and the covariance of z and x
        weights = torch.linalg.solve(sums @ sums.T, sums)  # (Z, F) E[x_k | z] = z . weights_k
        left = 1 - (sums * weights).sum(0)  # (F,)
        nats: Tensor = (x.square() - (x - x @ sums.T @ weights).square() / left - left.log()) / 2
        return nats

    def _of_decision(self, x: Tensor) -> Tensor:
        """i(y; x_k) = log P(y | x_k) / P(y): y is the sign of a Gaussian of correlation r_k with x_k, P(y) = 1/2."""
        negative, positive = self.neurons()[-1]  # (F,) each
        r = torch.nn.functional.normalize(positive - negative, dim=0)  # (F,)
        sign = torch.where(self.label(x) == 1, 1.0, -1.0)[:, None].double()
        nats: Tensor = torch.special.log_ndtr(sign * r * x / (1 - r.square()).sqrt()) + math.log(2)
        return nats


class PlantedTableParameters(contract.Parameters):
    """How many symbols there are."""

    alphabet: int = Field(default=4, ge=2, le=6)  # |A|


class PlantedTable(Wired[PlantedTableParameters]):
    """Columns of symbols and a network that reads two of them."""

    name = "planted-table"
    title = "Planted table"
    columns = ("signal", "redundant", "other 1", "other 2", "other 3", "other 4")

    @property
    def classes(self) -> tuple[str, ...]:
        """One class a symbol."""
        return tuple(f"symbol {index}" for index in range(self.parameters.alphabet))

    def layers(self) -> Layers:
        """Ramps max(0, x - t) of the first two columns; z encodes these symbols by hats of them; logits."""
        size = self.parameters.alphabet
        starts = self.symbols()[:-1]  # (A - 1,)
        ramps = torch.zeros(2 * len(starts), len(self.columns))
        ramps[: len(starts), 0] = ramps[len(starts) :, 1] = 1.0
        ones = torch.ones(len(starts))
        hats = (ones.diag(1) + ones.diag(-1) - 2 * torch.eye(size))[:, :-1]  # (A, A - 1) of the ramps before, at, after
        hats[0, 0] = -1.0
        first = torch.eye(size)[0]  # the first symbol's hat falls from 1
        logits = torch.cat([4 * torch.eye(size), torch.zeros(size, size)], 1)
        return [
            (ramps, -torch.cat([starts, starts])),
            (_apart(hats, hats), torch.cat([first, first])),
            (logits, torch.zeros(size)),
        ]

    def symbols(self) -> Tensor:
        """The numbers that represent the symbols, (A,)."""
        size: int = self.parameters.alphabet
        return torch.arange(size) - (size - 1) / 2

    def draw(self, random: torch.Generator) -> Tensor:
        """Independent symbols."""
        return self.symbols()[torch.randint(self.parameters.alphabet, (len(self.columns),), generator=random)]

    def label(self, x: Tensor) -> Tensor:
        """The first column's symbol."""
        return torch.searchsorted(self.symbols(), x[:, 0].contiguous())

    def truth(self, x: Tensor) -> Truth:
        """Counts over all inputs, which are equally likely; each of the first two columns is known for certain."""
        every = torch.cartesian_prod(*[self.symbols()] * len(self.columns))  # (states, F)
        edges, pointwise = [], []
        for (a_every, b_every), (a_here, b_here) in zip(
            itertools.pairwise(self.neurons(every)), itertools.pairwise(self.neurons(x)), strict=True
        ):
            for a, b in itertools.product(range(a_every.shape[1]), range(b_every.shape[1])):
                first, second = _Levels(a_every[:, a]), _Levels(b_every[:, b])
                joint = torch.zeros(len(first.values), len(second.values), dtype=torch.float64)
                joint.index_put_((first.of_each, second.of_each), torch.tensor(1.0).double(), accumulate=True)
                edges.append(discrete(joint))
                pointwise.append(discrete_pointwise(joint)[first.find(a_here[:, a]), second.find(b_here[:, b])])
        roles, whole = self.roles(len(x)), math.log(self.parameters.alphabet)
        decision, redundant = (whole * roles[role][:, 0].double() for role in ("signal", "redundant"))  # (N, F)
        information = {"total": decision + redundant, "decision": decision, "redundant": redundant}
        known = torch.nn.functional.one_hot(self.label(x), self.parameters.alphabet).double()  # (N, A)
        beliefs = torch.stack([torch.full_like(known, 1 / self.parameters.alphabet), known], 1)  # (N, 2, A)
        return self.stated(information, [torch.tensor(edges)], [torch.stack(pointwise, 1)], beliefs, self.label(x))

    def neurons(self, x: Tensor) -> list[Tensor]:
        """Every layer's neurons, the columns first, (N, F) each."""
        layers = [x.double()]
        for number, (weight, bias) in enumerate(self.layers()):
            sums = layers[-1] @ weight.double().T + bias
            layers.append(sums if number == 2 else sums.relu())
        return layers


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """Two matrices as the blocks of one."""
    blocks: Tensor = torch.block_diag(first, second)  # type: ignore[no-untyped-call]
    return blocks


class _Levels:
    """The values that a neuron takes."""

    def __init__(self, neuron: Tensor) -> None:
        self.values, self.of_each = torch.unique(neuron, return_inverse=True)

    def find(self, neuron: Tensor) -> Tensor:
        return torch.searchsorted(self.values, neuron.contiguous())


def _stated(information: dict[str, Tensor], edges: Sequence[Tensor], pointwise: Sequence[Tensor]) -> dict[str, Tensor]:
    """Columns as cells (N, 1, F), and edges (N, E)."""
    cells = {name: each[:, None] for name, each in information.items()}
    values = torch.cat(list(pointwise), 1)  # (N, E)
    every = {**cells, "edges": torch.cat(list(edges)).expand(len(values), -1), "pointwise-edges": values}
    return {name: each.float() for name, each in every.items()}


def _seed(*names: str) -> int:
    digest = hashlib.blake2b("/".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
