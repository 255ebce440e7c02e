"""NIF: Neural Information Flow (Davis et al. 2020, sections 3 and 3.1 to 3.2).

The network is a graph: an edge joins two neurons of consecutive layers and carries the information of their
activations. On average over samples, and for one sample n among N reference samples (nats):

    NIF(i, q)   = I(X_i; Q_q) - beta sum_{j<i} I(X_i; X_j)                            for inputs X_i      (1; eq. 3)
    NIF_n(a, b) = psi(k) + log N - psi(n_a + 1) - psi(n_b + 1)                                            (2; eq. 6)
    A(i, c)     = sum over paths from input i to class c of the product of the edges                      (3; eq. 4)

n_a and n_b count the samples nearer than the k-th nearest in both; sections 2.3 and eq. 5 put a minus before the log,
but information is the mean of (2). Eq. 3's first term is per feature, or it would rank none. Eq. 6 writes log for psi:
counting="log". Multiplying informations along a path has no theory behind it (pointwise ones may be negative, and two
of them on a path speak for the class); the row `nif-min` takes the weakest link.

The paper names three estimators and does not choose. The default, EDGE, was chosen without truth: over three tasks its
maps repeat better than KSG's from one half of the calibration data to the other (leaderboards/studies/nif); (2) is
`estimator=mixed`. The paper's beta of 5e-4 is left at 0, because on images the term that it weighs is smaller than the
error of one edge and took nine tenths of the fit; where it is set, the term is the mean over all orders of the inputs,
since pixels have none and a sum over j < i is a ramp along their index (`order=index` is the paper's).

Ours: the null bias of (2) on ReLUs is corrected (without it, noise outweighs most edges); k = 10, since single values
are noisy; the redundancy of eq. 3 is the average one for single samples too, from few samples, as beta makes it small.
The edges (1; without redundancy) and (2) of a small network are returned with the map, to be compared with theory.
docs/methods.md lists every departure with what it changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from mibench.information.flow import Compose, Correction, Estimator, Flow, Neurons, Order, estimator, through
from mibench.information.ksg import Counting
from mibench.information.pairwise import every_pair
from mibench.methods.nif.neurons import CLASSES, INPUT, choose, image, read
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State, Unsupported

ROOM = 2**24  # pointwise values that are held at a time
STATED = 1024  # the most edges that are stated
RATE = 0.4e-6  # seconds that a core takes for one sample of one pair


class Parameters(contract.Parameters):
    """How edges are estimated, and between which neurons."""

    estimator: Estimator = "edge"
    k: int = Field(10, ge=1)  # neighbours of mixed and ksg
    counting: Counting = "psi"  # of mixed and ksg
    correction: Correction = "jitter"
    beta: float = Field(0.0, ge=0)  # of (1); the paper's 5e-4 changes less than the estimator's error
    order: Order = "any"  # of the inputs in (1); index: as they are numbered, the paper's
    reference: int = Field(512, ge=2)  # calibration samples among which neighbours are counted
    redundancy: int = Field(128, ge=2)  # of them, for the second term of (1) where beta > 0
    grid: int = Field(14, ge=1)  # an image has at most grid x grid cells, so that its size costs nothing
    compose: Compose = "product"
    layers: tuple[str, ...] = ()  # the hidden layers; none named: cut points, dense activations and z
    most_pairs: int = Field(20_000_000, ge=1)  # the most edges of one link


class Facts(BaseModel):
    """What was read, and with which seed."""

    seed: int
    layers: tuple[str, ...]


class NIF(FittedExplainer[Parameters]):
    """NIF as published, except for what the module lists; `compose=min` is a row of its own, `nif-min`."""

    name = "nif"
    title = "NIF"
    paper = "Davis et al. 2020, On Network Science and Mutual Information for Explaining Deep Neural Networks"
    maps = (MapSpec("attribution", signed=True),)

    @property
    def learner(self) -> NIF:
        """Composing paths is a matter of explaining: both kinds of NIF learn the same."""
        return NIF(self.parameters.model_copy(update={"compose": "product"}))

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Keep the reference samples' activations, and where beta > 0 how redundant the inputs are."""
        p = self.parameters
        x = calibration.x[: p.reference]
        names = (INPUT, *p.layers, CLASSES) if p.layers else choose(probe, x[:2])
        layers = read(probe, x, p.grid, names)
        affordable(layers, p.most_pairs)
        flow = self._flow(layers, seed)
        tensors = {f"layer{number}": layer.activations.cpu() for number, layer in enumerate(layers)}
        if p.beta:
            tensors["redundancy"] = flow.redundancy(0, p.redundancy, p.order)  # (inputs,)
        if sum(len(a) * len(b) for a, b in itertools.pairwise(layers)) <= STATED:
            tensors["edges"] = torch.cat([edge.flatten() for edge in flow.edges()]).cpu()  # (E,)
        return State(tensors, Facts(seed=seed, layers=names).model_dump())

    def restore(self, probe: Probe, state: State) -> None:
        """Prepare the reference samples as in `learn`."""
        facts = Facts.model_validate(state.facts)
        layers = [
            Neurons(name, (), state.tensors[f"layer{number}"].to(probe.device))
            for number, name in enumerate(facts.layers)
        ]
        self.flow = self._flow(layers, facts.seed)
        self.edges = state.tensors.get("edges")
        redundancy = state.tensors.get("redundancy", torch.zeros(len(layers[0])))  # (inputs,)
        self.penalty = self.parameters.beta * redundancy.to(probe.device)

    def _flow(self, layers: Sequence[Neurons], seed: int) -> Flow:
        p = self.parameters
        return Flow(layers, estimator(p.estimator, p.k, p.counting, seed), p.correction, seed)

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        """(3) for the explained class, from the last link to the first: a chain of products, path by path the same."""
        layers = read(probe, x, self.parameters.grid, [layer.name for layer in self.flow.layers])
        random = [torch.Generator().manual_seed(seed) for seed in seeds]
        new = [
            self.flow.prepared(known, layer.activations, random)
            for known, layer in zip(self.flow.layers, layers, strict=True)
        ]
        classes, which = torch.unique(target.cpu(), return_inverse=True)
        nothing, everything = (0.0, 1.0) if self.parameters.compose == "product" else (-torch.inf, torch.inf)
        behind = torch.full((len(x), len(classes)), nothing, dtype=torch.float64)
        behind[torch.arange(len(x)), which] = everything
        for link in reversed(range(len(layers) - 1)):
            ends = classes if link == len(layers) - 2 else torch.arange(len(layers[link + 1]))
            behind = self._behind(link, ends, new, behind.to(probe.device))
        grid = image(behind, x, self.parameters.grid).float()  # (B, h, w)
        return Explanation({self.maps[0].name: probe.upsample(grid).cpu()}, signals=self._stated(new))

    def _stated(self, new: Sequence[Tensor]) -> dict[str, Tensor]:
        """Global edges, the same for every sample, and pointwise ones, (B, E) each, if there are few."""
        if self.edges is None:
            return {}
        links = itertools.pairwise(new)
        pointwise = [
            self.flow.pointwise(link, every_pair(a.shape[1], b.shape[1]), (a, b)) for link, (a, b) in enumerate(links)
        ]  # (A * B, B) each
        edges = self.edges.expand(len(new[0]), -1)
        return {"edges": edges.float(), "pointwise-edges": torch.cat(pointwise).T.float().cpu()}

    def _behind(self, link: int, ends: Tensor, new: Sequence[Tensor], behind: Tensor) -> Tensor:
        """One step of (3): what paths from each neuron of a layer carry, (B, A), given the next layer's, (B, ends)."""
        rows = max(1, ROOM // (len(ends) * len(behind)))
        parts = []
        for starts in torch.split(torch.arange(len(self.flow.layers[link])), rows):
            pairs = torch.cartesian_prod(starts, ends)
            edge = self.flow.pointwise(link, pairs, (new[link], new[link + 1]))  # (a * ends, B)
            edge = edge.T.reshape(len(behind), len(starts), len(ends))  # (B, a, ends)
            if link == 0:
                edge = edge - self.penalty[starts, None]
            parts.append(through(edge, behind[..., None], self.parameters.compose)[..., 0])
        return torch.cat(parts, 1)


def affordable(layers: Sequence[Neurons], most: int) -> None:
    """Refuse a link with too many edges, with its cost in the message."""
    for first, second in itertools.pairwise(layers):
        pairs = len(first) * len(second)
        if pairs > most:
            minutes = pairs * len(first.activations) * RATE / 60
            raise Unsupported(
                f"the {len(first):,} neurons of {first.name!r} and {len(second):,} of {second.name!r} have {pairs:,} "
                f"edges, about {minutes:,.0f} minutes on a core: lower grid, name other layers, or raise most_pairs"
            )
