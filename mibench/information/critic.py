"""The critic f(z, x) = <q(z), g(x)> that InfoNCE and MINE share, and an estimate of I(Z, X) made with it.

g is a two-layer perceptron on one local feature (MIRE, section 4: 256 hidden units). q leaves z as it is and appends a
constant, so that f can also depend on how common x is; where z is wider than `joint`, q is a learned linear map to so
few dimensions. f has a learned scale. Where z is wider than g's hidden layer h, g's last step is taken on the side of
z, once a sample instead of once a feature: <q, W h + b> = <W' q, h> + <q, b>, the same f at a fraction of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.information import infonce, mine

Objective = Literal["infonce", "mine"]


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Give a module built on the meta device torch's usual start, from this generator and no other."""
    module.to_empty(device="cpu")
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            if layer.bias is not None:
                bound = 1 / math.sqrt(layer.weight[0].numel())
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


class Critic(nn.Module):
    """f(z, x) = <query(z), keys(x)>."""

    def __init__(
        self,
        channels: int,
        dimensions: int,
        generator: torch.Generator,
        *,
        hidden: int = 256,
        joint: int = 0,
        temperature: float = 1.0,
        deep: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        narrow = 0 < joint < dimensions
        width = joint if narrow or deep else dimensions + 1
        with torch.device("meta"):
            self.g = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, width))
            self.q: nn.Module
            if deep:
                self.q = nn.Sequential(nn.Linear(dimensions + 1, hidden), nn.ReLU(), nn.Linear(hidden, width))
            else:
                self.q = nn.Linear(dimensions + 1, width, bias=False) if narrow else nn.Identity()
        initialise(self, generator)
        self.folded = width > hidden + 1
        self.log_scale = nn.Parameter(torch.tensor(-0.5 * math.log(width) - math.log(temperature)))
        self.dtype = dtype

    def query(self, z: Tensor) -> Tensor:
        """q(z), (N, D) to (N, joint), or [W' q, <q, b>]; carries the scale."""
        query: Tensor = self.q(F.pad(z, (0, 1), value=1.0)) * self.log_scale.exp()
        if not self.folded:
            return query
        last = self.g[2]
        assert isinstance(last, nn.Linear)
        return torch.cat([query @ last.weight, query @ last.bias[:, None]], 1)  # (N, hidden + 1)

    def keys(self, x: Tensor) -> Tensor:
        """g(x), (N, K, C) to (N, K, joint), or [h, 1], in float32 whatever the precision of the products."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            if not self.folded:
                return self.g(x).float()  # type: ignore[no-any-return]
            return F.pad(self.g[:2](x).float(), (0, 1), value=1.0)  # (N, K, hidden + 1)

    def pointwise(self, query: Tensor, keys: Tensor, objective: Objective) -> Tensor:
        """The pointwise information (N, K) of one batch under a bound; its mean is to be maximised."""
        bound = infonce.pointwise if objective == "infonce" else mine.pointwise
        return bound(query, keys, dtype=self.dtype)


def minibatches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of one epoch's full batches, shuffled; what is left over is another epoch's."""
    order = torch.randperm(count, generator=generator)
    for start in range(0, count - batch + 1, batch):
        yield order[start : start + batch]


@dataclass(frozen=True)
class Estimate:
    """An estimated information in nats, pointwise values, and the value that it cannot exceed."""

    value: float
    pointwise: Tensor  # (N, K)
    ceiling: float

    @property
    def saturated(self) -> bool:
        """Whether the estimate must be read as "at least"."""
        return bool(infonce.saturated(torch.tensor(self.value), self.ceiling))


def estimate(
    x: Tensor,
    z: Tensor,
    *,
    seed: int,
    objective: Objective = "infonce",
    hidden: int = 256,
    epochs: int = 60,
    batch: int = 256,
    learning_rate: float = 2e-3,
    folds: int = 4,
) -> Estimate:
    """I(Z, X) of local features x (N, K, C) and representations z (N, D), by as many critics as folds.

    Each fold is judged by the critic that learned from the others, after the epoch in which it judged best: what a
    critic knows by heart does not count.
    """
    if len(x) * (folds - 1) // folds < batch:
        raise ValueError(f"{len(x)} samples do not fill a batch of {batch} when a fold is held out; lower batch")
    values = torch.full(x.shape[:2], -math.inf)
    fold = torch.arange(len(x)) % folds
    for held in range(folds):
        generator = torch.Generator().manual_seed(folds * seed + held)
        judged, learned = (fold == held).nonzero()[:, 0], (fold != held).nonzero()[:, 0]
        critic = Critic(x.shape[-1], z.shape[-1], generator, hidden=hidden, joint=64, deep=True)
        optimiser = torch.optim.Adam(critic.parameters(), learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
        for _ in range(epochs):
            for index in minibatches(len(learned), batch, generator):
                pairs = learned[index]
                loss = -critic.pointwise(critic.query(z[pairs]), critic.keys(x[pairs]), objective).mean()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            schedule.step()
            with torch.no_grad():
                found = critic.pointwise(critic.query(z[judged]), critic.keys(x[judged]), objective)
            if found.mean() > values[judged].mean():
                values[judged] = found
    ceiling = infonce.ceiling(len(x) // folds * x.shape[1]) if objective == "infonce" else math.inf
    return Estimate(float(values.mean()), values, ceiling)
