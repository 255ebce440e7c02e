"""The training loop that fitted explainers share: shuffled batches, Adam, a learning rate that falls as a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mibench.information.critic import minibatches


class Settings(Protocol):
    """How long and how fast to learn."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


def descend(
    module: nn.Module,
    settings: Settings,
    count: int,
    order: torch.Generator,
    backward: Callable[[Tensor], Tensor],
    figures: Sequence[str],
) -> dict[str, list[float]]:
    """Learn from `count` samples; `backward` leaves a batch's gradients and returns its figures, kept by epoch."""
    optimiser = torch.optim.Adam(module.parameters(), settings.learning_rate)
    steps = settings.epochs * (count // settings.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    curve: dict[str, list[float]] = {name: [] for name in figures}
    for epoch in range(settings.epochs):
        batches = []
        for index in minibatches(count, settings.batch, order):
            optimiser.zero_grad()
            batches.append(backward(index))
            optimiser.step()
            schedule.step()
        for name, mean in zip(figures, torch.stack(batches).mean(0).tolist(), strict=True):
            if not math.isfinite(mean):
                rate = settings.learning_rate
                raise ValueError(f"{name} is not finite in epoch {epoch + 1}; set learning_rate below {rate:g}")
            curve[name].append(mean)
    return curve
