"""MI-LR: the three quantities of MIRE by another road, a variational bound for what the decision needs (Gu).

First every layer's features are collected; then a mask of 1x1 convolutions over them occludes the local features, a
Gaussian head estimates what an occluded feature still reveals of the representation z; that is minimised while the
decision stays. The paper's section 3, in nats:

    i(n, k) = f(z_n, x_nk) - log( 1/(N K) sum_{m,j} exp f(z_n, x_mj) )                  total        (1; its eq. 3)
    x'_k    = a_k * x_k,   a = mask(features of all layers), of x_k's own size                       (2; 3.4.2)
    d(n, k) = KL( p(z|x'_nk) || N(0, I) ),   p(z|x) = N(mu(x), sigma^2(x))              decision     (3; eq. 8)
    r(n, k) = i(n, k) - i'(n, k),   i' as in (1) with x' for x                          redundant    (4; eq. 9)
    maximise  l(X) + alpha mean i - beta mean d                                                      (5; eq. 10)

What the paper leaves open: maximising (5) over mu and sigma too would make them N(0, I) for every input, and (3)
would bound nothing; so they learn p(z|x') by likelihood, and (5) trains critic and mask alone. The critic learns from
x and is only read on x'. alpha and beta have no value in the paper. d adds up the coordinates of z as if they were
independent: its order may be good, its nats are too many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mibench.information import infonce, vib
from mibench.information.critic import Critic, initialise
from mibench.information.descent import descend
from mibench.network.calibration import FORWARD, MEMORY, Calibration, Moments, look, moments, refuse
from mibench.network.masking import PARTS, Keep, Learning, buffers, explanation, named, negatives, wanted
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State

OPEN = 2.0  # the mask's last bias: training starts with nearly everything let through


class Parameters(Learning):
    """Equation (5)'s weights and how it is learned."""

    beta: float = Field(0.1, ge=0)
    keep: Keep = "prediction"  # the class whose likelihood l(X) preserves
    joint: int = Field(64, ge=0)  # a wider z is mapped to so many dimensions for the critic; 0: never
    epochs: int = Field(10, ge=1)


class MiLr(FittedExplainer[Parameters]):
    """MI-LR, with the gaps of its paper filled as the module describes."""

    name = "milr"
    title = "MI-LR"
    paper = "Gu, Explaining Representation by Mutual Information (first version)"
    maps = (
        MapSpec("decision", role="decision", unit="nats", claim="marginal"),
        MapSpec("total", role="total", unit="nats", signed=True),
        MapSpec("redundant", role="redundant", unit="nats", signed=True),
        MapSpec("mask", role="mask"),
    )
    of_class = False

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Train critic, Gaussian head and mask on the calibration samples."""
        return train(self.parameters, look(probe, calibration), seed)

    def restore(self, probe: Probe, state: State) -> None:
        """Rebuild the three modules from what `learn` returned."""
        self.collector = Collector.of(probe)
        kept = buffers(state.tensors)
        self.modules = Modules(self.parameters, self.collector.is_table, kept, torch.Generator())
        self.modules.load_state_dict(dict(state.tensors))
        self.modules.to(probe.device)

    @torch.no_grad()
    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        """The four maps; the mask is shown by its mean over channels. `target` and `seeds` change nothing."""
        modules, features = self.modules, probe.features(x)
        cells = probe.cells(features.local)  # (B, K, C)
        mask = modules.openness(self.collector(x))  # (B, K, C)
        query, keys, dimmed = modules.query(features.representation), modules.keys(cells), modules.keys(cells * mask)
        total = infonce.pointwise_against(query, keys, modules.total_negatives)  # (B, K), (1)
        rest = infonce.pointwise_against(query, dimmed, modules.masked_negatives)
        decision = vib.kl_to_standard(*modules.head(modules.describe(cells * mask)))  # (B, K), (3)
        limit = infonce.ceiling(len(modules.total_negatives) + cells.shape[1])
        grids = {"decision": decision, "total": total, "redundant": total - rest, "mask": mask.mean(2)}
        return explanation(probe, features, cells * mask, grids, limit, infonce.saturated(total, limit))


@dataclass(frozen=True)
class Collector:
    """The first pass: the features of all layers, brought to the local layer's cells."""

    probes: tuple[Probe, ...]
    grid: tuple[int, int]
    is_table: bool

    @classmethod
    def of(cls, probe: Probe) -> Collector:
        """For a network's declared depths."""
        return cls(tuple(probe.at(layer) for layer in probe.depths), probe.grid, probe.kind == "columns")

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(B, K, S) for grids and tokens, S channels of all layers; a table's layers (B, 1, S) have no places."""
        parts = []
        for probe in self.probes:
            cells = probe.cells(probe.features(x).local)  # (B, K', C)
            if self.is_table:
                cells = cells.flatten(1)[:, None]
            elif probe.grid != self.grid:
                layer = cells.transpose(1, 2).reshape(len(cells), -1, *probe.grid)  # (B, C, h', w')
                resized = F.interpolate(layer, self.grid, mode="bilinear", align_corners=False)
                cells = resized.flatten(2).transpose(1, 2)
            parts.append(cells)
        return torch.cat(parts, 2)


class Modules(nn.Module):
    """Critic, Gaussian head and mask, with what standardises their inputs."""

    channel_mean: Tensor  # (1, C), or (K, 1) for a table
    channel_deviation: Tensor
    z_mean: Tensor  # (1, D)
    z_deviation: Tensor
    layers_mean: Tensor  # (1, S)
    layers_deviation: Tensor
    varying: Tensor  # (D',) the dimensions of z that are not constant
    total_negatives: Tensor  # (R, joint)
    masked_negatives: Tensor

    def __init__(self, p: Parameters, is_table: bool, buffers: dict[str, Tensor], generator: torch.Generator) -> None:
        super().__init__()
        self.is_table = is_table
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)
        places, channels = self.channel_mean.shape
        self.register_buffer("varying", (self.z_deviation[0] > 0).nonzero()[:, 0], persistent=False)
        dimensions, layers = len(self.varying), self.layers_mean.shape[1]
        described, masked = (places + channels, places) if is_table else (channels, channels)
        self.critic = Critic(described, dimensions, generator, hidden=p.hidden, joint=p.joint)
        self.head = vib.GaussianHead(described, dimensions, p.hidden, generator)
        with torch.device("meta"):
            widths = (layers, max(masked, layers // 2), max(masked, layers // 4), masked)
            steps = [nn.Linear(*pair) for pair in pairwise(widths)]  # 1x1 convolutions
            self.mask = nn.Sequential(steps[0], nn.ReLU(), steps[1], nn.ReLU(), steps[2])
        initialise(self.mask, generator)
        nn.init.constant_(steps[2].bias, OPEN)

    def describe(self, cells: Tensor) -> Tensor:
        """Cells (B, K, C) standardised; a table's come with the name of their column."""
        x = Moments(self.channel_mean, self.channel_deviation).standardise(cells)
        return named(x) if self.is_table else x

    def z(self, representation: Tensor) -> Tensor:
        """Standardised representations, without the units that never change: they would be certain whatever x is."""
        return Moments(self.z_mean, self.z_deviation).standardise(representation)[:, self.varying]

    def query(self, representation: Tensor) -> Tensor:
        """The critic's side of z, (B, joint)."""
        return self.critic.query(self.z(representation))

    def keys(self, cells: Tensor) -> Tensor:
        """The critic's side of the cells, (B, K, joint)."""
        return self.critic.keys(self.describe(cells))

    def openness(self, layers: Tensor) -> Tensor:
        """a of (2), (B, K, C), from the features of all layers."""
        a = self.mask(Moments(self.layers_mean, self.layers_deviation).standardise(layers)).sigmoid()
        return a.transpose(1, 2) if self.is_table else a  # type: ignore[no-any-return]


class Layers:
    """The collected features of the calibration samples, kept while they fit into memory."""

    def __init__(self, collector: Collector, data: Calibration) -> None:
        self.collector, self.x = collector, data.x
        kept: list[Tensor] | None = []
        total = squares = torch.zeros((), dtype=torch.float64)
        for start in range(0, len(data), FORWARD):
            part = collector(data.x[start : start + FORWARD])  # (B, K, S)
            if kept is not None:
                kept.append(part)
                kept = kept if sum(each.nbytes for each in kept) <= MEMORY else None
            wide = part.double()
            total, squares = total.to(wide) + wide.mean(1).sum(0), squares.to(wide) + wide.square().mean(1).sum(0)
        self.kept = None if kept is None else torch.cat(kept)
        self.moments = moments(total[None] / len(data), squares[None] / len(data), "features of all layers")

    def __getitem__(self, index: Tensor) -> Tensor:
        """(B, K, S) of some samples."""
        return self.collector(self.x[index]) if self.kept is None else self.kept[index]


def train(p: Parameters, data: Calibration, seed: int) -> State:
    """Maximise (5) over critic and mask, and the likelihood of z over the Gaussian head."""
    refuse(data, p.batch)
    order = torch.Generator().manual_seed(seed)
    layers = Layers(Collector.of(data.probe), data)
    scales = {"channel": data.by_channel, "z": data.representation_moments, "layers": layers.moments}
    kept = {f"{name}_{part}": getattr(each, part) for name, each in scales.items() for part in ("mean", "deviation")}
    model = Modules(p, data.probe.kind == "columns", kept, order).to(data.probe.device)
    kept_class = wanted(data, p.keep)
    inner = [*model.mask.parameters(), *model.critic.parameters()]

    def backward(index: Tensor) -> Tensor:
        value, likelihood, parts = objectives(model, p, data, layers[index], index, kept_class)
        (-value).backward(inputs=inner, retain_graph=True)  # type: ignore[no-untyped-call]
        (-likelihood).backward(inputs=list(model.head.parameters()))  # type: ignore[no-untyped-call]
        return parts

    curve = descend(model, p, len(data), order, backward, PARTS)
    remember(model, data, layers, p.references, order)
    tensors = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    return State(tensors, {"curve": curve, "kept": curve["kept"][-1]})


def objectives(
    model: Modules, p: Parameters, data: Calibration, layers: Tensor, index: Tensor, kept_class: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(5) of one batch, the head's mean log likelihood, and parts: l(X), mean i, mean d, mean a, decisions kept."""
    local, z = data.locals(index), model.z(data.representation[index])
    cells = data.probe.cells(local)  # (N, K, C)
    mask = model.openness(layers)  # (N, K, C)
    masked = cells * mask  # (2)
    logits = data.probe.resume(data.probe.replace(local, masked)).logits  # (N, classes)
    total = model.critic.pointwise(model.critic.query(z), model.keys(cells), "infonce")  # (N, K), (1)
    mean, log_variance = model.head(model.describe(masked))  # (N, K, D) each
    decision = vib.kl_to_standard(mean, log_variance)  # (N, K), (3)
    kept = -F.cross_entropy(logits, kept_class[index])
    value = kept + p.alpha * total.mean() - p.beta * decision.mean()  # (5)
    likelihood = -vib.negative_log_likelihood(z[:, None], mean, log_variance).mean()
    right = (logits.argmax(1) == kept_class[index]).float().mean()
    return value, likelihood, torch.stack([kept, total.mean(), decision.mean(), mask.mean(), right]).detach()


@torch.no_grad()
def remember(model: Modules, data: Calibration, layers: Layers, references: int, order: torch.Generator) -> None:
    """Keep the calibration keys that are the negatives of samples to come."""
    places = len(data.by_cell.mean)
    chosen, picked = negatives(len(data), places, references, order)
    parts: dict[str, list[Tensor]] = {"total_negatives": [], "masked_negatives": []}
    for start in range(0, len(chosen), FORWARD):
        index = chosen[start : start + FORWARD]
        cells = data.probe.cells(data.locals(index))
        parts["total_negatives"].append(model.keys(cells))
        parts["masked_negatives"].append(model.keys(cells * model.openness(layers[index])))
    for name, keys in parts.items():
        model.register_buffer(name, torch.cat(keys).flatten(0, 1)[picked])
