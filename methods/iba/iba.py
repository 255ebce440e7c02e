"""IBA, the per-sample bottleneck: as much noise in the features as the decision allows (Schulz et al. 2020, sec. 3.2).

For each sample alone, a bottleneck (see `_bottleneck`) with one lambda = smooth(sigmoid(alpha)) for every element of
the local features R learns alpha by Adam, from 5 everywhere, over `copies` draws of noise a step:

    minimise  mean CE(network(Z), class) + beta mean KL( P(Z|R) || Q(Z) )                                 (eq. 6)

The map is the information that still passes after the last step (the reference takes it before), in bits, summed over
channels: its pixels add up to the whole. `calibrated` is ours: by data processing no more than -log2 p(class) bits can
matter for the decision, however many the bound adds up over channels, so the smaller of both is shared out.

stop="converged" goes on, to 300 steps at most, until the map has kept its shape for half of all steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from mibench.methods.iba.bottleneck import (
    START,
    Prior,
    blurs,
    grid_bits,
    learn_prior,
    nats,
    pixel_bits,
    shares,
    through,
)
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State

LONGEST = 300  # steps of stop="converged", at most
LOOK = 10  # it looks every so many steps, first after twice as many
SETTLED = 0.9997  # correlation between maps that counts as the same shape
TOGETHER = {"cpu": 40, "cuda": 640}  # noisy copies that go through the network at once


class Parameters(contract.Parameters):
    """The paper's values, but for what is ours: antithetic, stop, layer."""

    beta: float = Field(10.0, ge=0, description="nats of CE that a nat at every element is worth")
    lr: float = Field(1.0, gt=0)
    steps: int = Field(10, ge=1)
    copies: int = Field(10, ge=1, description="draws of noise a step")
    antithetic: bool = Field(False, description="draw half of the noise; the other half is its negative")
    smooth: float = Field(1.0, ge=0, description="sigma on the grid; 0: not smoothed")
    min_std: float = Field(0.01, gt=0)
    stop: Literal["fixed", "converged"] = "fixed"
    layer: str | None = Field(None, description="where to put the bottleneck; the local layer")

    @model_validator(mode="after")
    def pairs(self) -> Parameters:
        """Antithetic copies come in pairs."""
        if self.antithetic and self.copies % 2:
            raise ValueError(f"antithetic copies come in pairs: copies={self.copies} is odd")
        return self

    def steps_at_most(self) -> int:
        """When to stop whatever happens."""
        return self.steps if self.stop == "fixed" else max(self.steps, LONGEST)


class Iba(FittedExplainer[Parameters]):
    """Information in bits that the decision needs of each place; never negative."""

    name = "iba"
    title = "IBA, per-sample bottleneck"
    paper = "Schulz et al. 2020, arXiv:2001.00396"
    maps = (MapSpec("map", unit="bits"), MapSpec("calibrated", unit="bits"))

    def cut(self, probe: Probe) -> Probe:
        """The network, cut where the bottleneck goes."""
        return probe.at(self.parameters.layer or probe.local)

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Learn the statistics of features that carry no information."""
        return State(learn_prior(self.cut(probe), calibration, self.parameters.min_std).tensors())

    def restore(self, probe: Probe, state: State) -> None:
        self.prior = Prior.of(state.tensors, probe.device)

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        cut = self.cut(probe)
        size = max(1, TOGETHER.get(probe.device.type, 640) // self.parameters.copies)
        parts = []
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            parts.append(self._explain(cut, x[part], target[part], seeds[part]))
        maps, facts = ({name: torch.cat([p[i][name] for p in parts]) for name in parts[0][i]} for i in (0, 1))
        return Explanation(maps, facts)

    def _explain(
        self, cut: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Maps and facts of samples that go through the network together."""
        with torch.no_grad():
            local = cut.features(x).local
        search = Search(cut, self.prior, self.parameters, blurs(cut, local, self.parameters.smooth))
        samples = [Sample(*each) for each in zip(local, target, seeds, strict=True)]
        search.run(samples)
        with torch.no_grad():
            information = search.information(samples)  # like local features
            grid = grid_bits(cut, information)  # (B, h, w)
            bits = grid.sum((1, 2))  # (B,)
            shown = pixel_bits(cut, grid, placed=local.dim() > 2)
            needed = -self.prior.classes[target].log2()  # (B,) no decision can use more
            facts = {
                "bits": bits,
                "bits_without_place": (information.flatten(1).sum(1) / math.log(2) - bits).clamp(
                    min=0
                ),  # a class token's
                "class_bits": search.class_bits(samples),
                "steadiness": torch.tensor([sample.steadiness()[0] for sample in samples]),
                "convergence": torch.tensor([sample.steadiness()[1] for sample in samples]),
                "steps": torch.tensor([float(len(sample.trace)) for sample in samples]),
            }
        calibrated = shown * (needed / bits).clamp(max=1)[:, None, None]
        return {"map": shown, "calibrated": calibrated}, facts


@dataclass
class Sample:
    """One sample's bottleneck while it narrows."""

    local: Tensor  # its features, (C, h, w), (T, C) or (F,)
    target: Tensor  # ()
    seed: int
    trace: list[Tensor] = field(default_factory=list)  # (h w,) the grid's bits after each step

    def __post_init__(self) -> None:
        self.alpha = torch.full_like(self.local, START)
        self.source = torch.Generator(self.local.device).manual_seed(self.seed)

    def draw(self, copies: int, antithetic: bool) -> Tensor:
        """Standard normal noise, (copies, …)."""
        drawn = copies // 2 if antithetic else copies
        normal = torch.randn((drawn, *self.local.shape), generator=self.source, device=self.local.device)
        return torch.cat([normal, -normal]) if antithetic else normal

    def steadiness(self) -> tuple[float, float]:
        """How the last map agrees with those since half of the steps, at worst: in shape, and in shape and bits.

        The first is Pearson's correlation, the second Lin's (1989), which falls where all bits still change alike.
        """
        *earlier, last = torch.stack(self.trace[(len(self.trace) - 1) // 2 :]).double()  # (h w,) each
        if not earlier:
            return math.nan, math.nan
        before = torch.stack(earlier)  # (steps, h w)
        covariance = ((before - before.mean(1, keepdim=True)) * (last - last.mean())).mean(1)  # (steps,)
        variances = before.var(1, correction=0), last.var(correction=0)
        pearson = covariance / (variances[0] * variances[1]).sqrt()
        lin = 2 * covariance / (sum(variances) + (before.mean(1) - last.mean()).square())
        return float(pearson.min()), float(lin.min())

    def finished(self, parameters: Parameters) -> bool:
        """Whether no step is left to take."""
        steps = len(self.trace)
        if parameters.stop == "converged" and steps >= max(parameters.steps, 2 * LOOK) and steps % LOOK == 0:
            return steps >= parameters.steps_at_most() or self.steadiness()[0] >= SETTLED
        return steps >= parameters.steps_at_most()


@dataclass(frozen=True)
class Search:
    """The descent on alpha, for several samples at once that do not meet."""

    cut: Probe
    prior: Prior
    parameters: Parameters
    blur: Sequence[Tensor]

    def run(self, samples: Sequence[Sample]) -> None:
        """Step until every sample has finished; one that has finished is not run any more."""
        adam = torch.optim.Adam([sample.alpha for sample in samples], lr=self.parameters.lr)
        while samples := [sample for sample in samples if not sample.finished(self.parameters)]:
            for sample, slope in zip(samples, self.slope(samples), strict=True):
                sample.alpha.grad = slope
            adam.step()
            adam.zero_grad()  # Adam leaves alone what has no gradient
            with torch.no_grad():
                for sample, bits in zip(samples, grid_bits(self.cut, self.information(samples)), strict=True):
                    sample.trace.append(bits.flatten())

    @torch.enable_grad()
    def slope(self, samples: Sequence[Sample]) -> Tensor:
        """The gradient of the objective (eq. 6) with respect to every sample's alpha, (B, …)."""
        alpha, local, target = _stacked(samples)
        alpha.requires_grad_()
        passing, rest = shares(self.cut, alpha, self.blur)
        logits = self._logits(samples, local, passing, rest)
        error = F.cross_entropy(logits, target.repeat_interleave(self.parameters.copies), reduction="sum")
        passed = nats(self.prior, local, passing, rest).flatten(1).mean(1)  # (B,)
        objective = error / self.parameters.copies + self.parameters.beta * passed.sum()
        return torch.autograd.grad(objective, alpha)[0]

    def information(self, samples: Sequence[Sample]) -> Tensor:
        """Nats that pass at every element, like local features."""
        alpha, local, _ = _stacked(samples)
        return nats(self.prior, local, *shares(self.cut, alpha, self.blur))

    def class_bits(self, samples: Sequence[Sample]) -> Tensor:
        """What is left of the decision, log2 p(class | Z) / p(class) with p averaged over fresh noise, (B,)."""
        alpha, local, target = _stacked(samples)
        logits = self._logits(samples, local, *shares(self.cut, alpha, self.blur))
        certainty = logits.softmax(1).reshape(len(samples), -1, logits.shape[1]).mean(1)  # (B, classes)
        gained: Tensor = (certainty / self.prior.classes).gather(1, target[:, None])[:, 0].log2()
        return gained

    def _logits(self, samples: Sequence[Sample], local: Tensor, passing: Tensor, rest: Tensor) -> Tensor:
        """The network's answer to noisy copies of the features, (B copies, classes), each sample's together."""
        drawn = [sample.draw(self.parameters.copies, self.parameters.antithetic) for sample in samples]
        z = through(self.prior, local, passing, rest, torch.stack(drawn))  # (B, copies, …)
        return self.cut.resume(z.flatten(0, 1)).logits


def _stacked(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """alpha and features (B, …) and targets (B,)."""
    columns = zip(*((sample.alpha, sample.local, sample.target) for sample in samples), strict=True)
    alpha, local, target = (torch.stack(column) for column in columns)
    return alpha, local, target
