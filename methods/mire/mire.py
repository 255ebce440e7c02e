"""MIRE: total, decision-related and redundant information of each local feature (Gu, Explaining Representation by MI).

A critic estimates what the representation z knows of a local feature x_k (total); a mask dims the features that the
decision does not need, and what the critic still finds in the dimmed features x'_k is decision-related; the difference
is redundant (not what partial information decomposition calls so: what two features both show). Critic and mask learn
together, the network is frozen; section 3, in nats:

    i(n, k)  = f(z_n, x_nk)  - log( 1/(N K) sum_{m,j} exp f(z_n, x_mj) )             total        (1; the paper's eq. 2)
    x'_k     = lambda_k x_k,     lambda = mask(x)                                                 (2)
    i'(n, k) = f(z_n, x'_nk) - log( 1/(N K) sum_{m,j} exp f(z_n, x'_mj) )            decision     (3; eq. 8)
    R        = i - i'                                                                redundant    (4; eq. 6)
    maximise   l(X) + alpha mean i + alpha mean i' - beta sum_k lambda_k                          (5; eq. 7)

Erratum: the paper's eq. 2 sums exp f(z_m, x_mj) over matching pairs, which bounds nothing; z_n fixed makes it InfoNCE.

The defaults are the closest reading of the paper: eq. 7 writes expectations over the cells in both information terms
and a sum over them in the cost, and l(X) is the network's own objective, on the label. What it leaves open is a
parameter: information="sum" reads the expectations as sums too, mask_cost="mean" divides the cost by the number of
cells K, so that beta means beta / K. A sum has its limit: a decision among C classes is worth no more than log C nats,
so where the cells that it needs open up to more than log(C) / beta in all, closing every cell is the better bargain.

Not the paper's: mask="noise", which takes information away where dimming only hides it; reward="none", which gives the
mask no credit for mean i'; keep="prediction", which preserves the network's decision in place of the label. Every other
departure, with what it changes, is in docs/methods.md.

A new sample's negatives are its own K features and fixed ones of the calibration data, so that its map does not depend
on the samples explained with it. The maps speak of the representation, not of a class: `target` changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor, nn

from mibench.information import infonce, mine
from mibench.information.critic import Critic, Objective
from mibench.information.descent import descend
from mibench.methods.mire.masks import Blend, Mask, mix, multiply, noise_like
from mibench.network.calibration import Calibration, Moments, look, refuse
from mibench.network.masking import PARTS, Keep, Learning, buffers, explanation, named, negatives, wanted
from mibench.network.noise import generators
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State


class Parameters(Learning):
    """Equation (5)'s weights and how it is learned."""

    beta: float = Field(0.5, ge=0)
    mask: Blend = "multiply"
    noise: float = Field(1.0, ge=0)  # the noise's deviation, as a multiple of the calibration features'
    mask_cost: Literal["mean", "sum"] = "sum"  # whether beta weighs the mean or the sum of lambda over the cells
    information: Literal["mean", "sum"] = "mean"  # whether alpha weighs the mean or the sum of i and i' over the cells
    reward: Literal["mask", "none"] = "mask"  # whether mean i' in (5) trains the mask too
    keep: Keep = "label"  # the class whose log likelihood l(X) is
    critic: Objective = "infonce"
    separate_critic: bool = False  # whether x' has a critic of its own
    joint: int = Field(0, ge=0)  # a wider z is mapped to so many dimensions; 0: never, as in the paper
    temperature: float = Field(1.0, gt=0)  # of the critic's start; it is learned
    epochs: int = Field(20, ge=1)
    draws: int = Field(8, ge=1)  # of noise, over which the decision map is averaged
    precision: Literal["fp32", "bf16"] = "fp32"  # of the critic's matrix products; sums are in fp32


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Facts(BaseModel):
    """The shape of the local features, and how learning went."""

    shape: tuple[int, ...]
    curve: dict[str, list[float]]
    ceiling: float
    saturated: bool
    kept: float


class Mire(FittedExplainer[Parameters]):
    """MIRE as published: the closest reading of equation (7), with the paper's weights; `mire-noise` is ours."""

    name = "mire"
    title = "MIRE"
    paper = "Gu, Explaining Representation by Mutual Information"
    maps = (
        MapSpec("decision", role="decision", unit="nats", signed=True, claim="marginal"),
        MapSpec("total", role="total", unit="nats", signed=True),
        MapSpec("redundant", role="redundant", unit="nats", signed=True),
        MapSpec("mask", role="mask"),
    )
    of_class = False

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Train critic and mask on the calibration samples; nothing else changes."""
        return train(self.parameters, look(probe, calibration), seed)

    def restore(self, probe: Probe, state: State) -> None:
        """Rebuild critic and mask from what `learn` returned."""
        shape = torch.Size(Facts.model_validate(state.facts).shape)
        kept = buffers(state.tensors)
        self.decomposition = Decomposition(self.parameters, shape, probe.grid, kept, torch.Generator())
        self.decomposition.load_state_dict(dict(state.tensors))
        self.decomposition.to(probe.device)

    @torch.no_grad()
    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        """The four maps; facts are the ceiling, where the total reached it, and whether the mask keeps the decision."""
        features = probe.features(x)
        cells = probe.cells(features.local)  # (B, K, C)
        grids, masked = self.decomposition.maps(cells, features.representation, generators(seeds))
        limit = self.decomposition.ceiling()
        return explanation(probe, features, masked, grids, limit, infonce.saturated(grids["total"], limit))


class Decomposition(nn.Module):
    """Critic and mask, what standardises their inputs, and the negatives of samples to come."""

    channel_mean: Tensor  # (1, C), or (K, 1) where the cells are the columns of a table
    channel_deviation: Tensor
    cell_mean: Tensor  # (K, C)
    cell_deviation: Tensor  # (K, C)
    z_mean: Tensor  # (1, D)
    z_deviation: Tensor  # (1, D)
    total_negatives: Tensor  # (R, joint) calibration keys; with MINE the log normaliser
    decision_negatives: Tensor

    def __init__(
        self,
        p: Parameters,
        shape: torch.Size,
        grid: tuple[int, int],
        buffers: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.p, self.is_table = p, len(shape) == 2
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)
        channels, dimensions = self.cell_mean.shape[1], self.z_mean.shape[1]

        def critic() -> Critic:
            seen = channels + math.prod(grid) if self.is_table else channels
            return Critic(
                seen,
                dimensions,
                generator,
                hidden=p.hidden,
                joint=p.joint,
                temperature=p.temperature,
                dtype=PRECISIONS[p.precision],
            )

        self.critic = critic()
        self.masked_critic = critic() if p.separate_critic else None
        self.mask = Mask(shape, grid, channels, generator)

    def standardise(self, cells: Tensor) -> Tensor:
        """Cells (B, K, C) as critic and mask see them."""
        return Moments(self.channel_mean, self.channel_deviation).standardise(cells)

    def pair(self, critic: Critic, z: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, joint) and keys (B, K, joint), whose products are f(z, x_k)."""
        x = self.standardise(cells)
        query = critic.query(Moments(self.z_mean, self.z_deviation).standardise(z))
        return query, critic.keys(named(x) if self.is_table else x)

    def lambdas(self, cells: Tensor) -> Tensor:
        """The mask, (B, K)."""
        return self.mask(self.standardise(cells))  # type: ignore[no-any-return]

    def blend(self, cells: Tensor, mask: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """x' of (2), or its noisy kind."""
        if self.p.mask == "multiply":
            return multiply(cells, mask)
        return mix(cells, mask, self.cell_mean + self.p.noise * self.cell_deviation * noise_like(cells, generators))

    def maps(self, cells: Tensor, z: Tensor, generators: Sequence[torch.Generator]) -> tuple[dict[str, Tensor], Tensor]:
        """The four maps (B, K) of new samples, and the masked cells of the last draw of noise."""
        against = infonce.pointwise_against if self.p.critic == "infonce" else mine.pointwise_against
        total = against(*self.pair(self.critic, z, cells), self.total_negatives)
        mask = self.lambdas(cells)
        decision = torch.zeros_like(total)
        draws = self.p.draws if self.p.mask == "noise" else 1
        for _ in range(draws):
            masked = self.blend(cells, mask, generators)
            pair = self.pair(self.masked_critic or self.critic, z, masked)
            decision += against(*pair, self.decision_negatives) / draws
        return {"decision": decision, "total": total, "redundant": total - decision, "mask": mask}, masked

    def ceiling(self) -> float:
        """What no value of a new sample's maps can exceed."""
        return (
            infonce.ceiling(len(self.total_negatives) + len(self.cell_mean)) if self.p.critic == "infonce" else math.inf
        )

    @torch.no_grad()
    def remember(self, data: Calibration, order: torch.Generator, noise: torch.Generator) -> None:
        """Keep what the normalisers of samples to come are made of."""
        chosen, picked = negatives(len(data), len(self.cell_mean), self.p.references, order)
        pairs: dict[str, list[tuple[Tensor, Tensor]]] = {"total_negatives": [], "decision_negatives": []}
        for start in range(0, len(chosen), self.p.batch):
            index = chosen[start : start + self.p.batch]
            z, cells = data.representation[index], data.probe.cells(data.locals(index))
            pairs["total_negatives"].append(self.pair(self.critic, z, cells))
            masked = self.blend(cells, self.lambdas(cells), [noise])
            pairs["decision_negatives"].append(self.pair(self.masked_critic or self.critic, z, masked))
        for name, parts in pairs.items():
            query, keys = (torch.cat(part) for part in zip(*parts, strict=True))
            normaliser = keys.flatten(0, 1)[picked] if self.p.critic == "infonce" else mine.log_normaliser(query, keys)
            self.register_buffer(name, normaliser)


def objective(
    model: Decomposition, data: Calibration, index: Tensor, kept_class: Tensor, noise: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(5) of one batch, and its parts: l(X), mean i, mean i', mean lambda, share of decisions kept."""
    p, probe = model.p, data.probe
    local, z = data.locals(index), data.representation[index]
    cells = probe.cells(local)  # (N, K, C)
    mask = model.lambdas(cells)  # (N, K)
    masked = model.blend(cells, mask, [noise])  # (N, K, C), (2)
    logits = probe.resume(probe.replace(local, masked)).logits  # (N, classes)
    total = model.critic.pointwise(*model.pair(model.critic, z, cells), p.critic)  # (N, K), (1)
    seen = masked if p.reward == "mask" else masked.detach()
    critic = model.masked_critic or model.critic
    decision = critic.pointwise(*model.pair(critic, z, seen), p.critic)  # (N, K), (3)
    likelihood = -F.cross_entropy(logits, kept_class[index])
    cost = mask.mean() if p.mask_cost == "mean" else mask.sum(1).mean()
    cells_each = 1 if p.information == "mean" else cells.shape[1]
    value = likelihood + p.alpha * cells_each * (total.mean() + decision.mean()) - p.beta * cost  # (5)
    kept = (logits.argmax(1) == kept_class[index]).float().mean()
    return value, torch.stack([likelihood, total.mean(), decision.mean(), mask.mean(), kept]).detach()


def train(p: Parameters, data: Calibration, seed: int) -> State:
    """Maximise (5) over critic and mask."""
    refuse(data, p.batch)
    order = torch.Generator().manual_seed(seed)
    noise = torch.Generator().manual_seed(seed)
    shape = data.locals(torch.arange(1)).shape
    model = Decomposition(p, shape, data.probe.grid, statistics(data), order).to(data.probe.device)
    kept_class = wanted(data, p.keep)

    def backward(index: Tensor) -> Tensor:
        value, parts = objective(model, data, index, kept_class, noise)
        (-value).backward()  # type: ignore[no-untyped-call]
        return parts

    curve = descend(model, p, len(data), order, backward, PARTS)
    model.remember(data, order, noise)
    limit = infonce.ceiling(p.batch * math.prod(data.probe.grid)) if p.critic == "infonce" else math.inf
    saturated = bool(infonce.saturated(torch.tensor(curve["total"][-1]), limit))
    facts = Facts(shape=tuple(shape), curve=curve, ceiling=limit, saturated=saturated, kept=curve["kept"][-1])
    return State({name: tensor.cpu() for name, tensor in model.state_dict().items()}, facts.model_dump())


def statistics(data: Calibration) -> dict[str, Tensor]:
    """What standardises, as buffers; the negatives come when training is over."""
    moments = {"channel": data.by_channel, "cell": data.by_cell, "z": data.representation_moments}
    means = {f"{name}_mean": each.mean for name, each in moments.items()}
    deviations = {f"{name}_deviation": each.deviation for name, each in moments.items()}
    return {**means, **deviations}
