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
from dataclasses import dataclass
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
from mibench.network.devices import together
from mibench.network.noise import generators
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State

LONGEST = 300  # steps of stop="converged", at most
LOOK = 10  # it looks every so many steps, first after twice as many
SETTLED = 0.9997  # correlation between maps that counts as the same shape
AT_ONCE = 40  # noisy copies that go through the network at once on a processor


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
        size = max(1, together(cut, AT_ONCE) // self.parameters.copies)
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
        blur = blurs(cut, local, self.parameters.smooth)
        search = Search(cut, self.prior, self.parameters, blur, local, target, generators(seeds))
        found = search.run()
        with torch.no_grad():
            information = search.information(found.alpha, local)  # like local features
            grid = grid_bits(cut, information)  # (B, h, w)
            bits = grid.sum((1, 2))  # (B,)
            shown = pixel_bits(cut, grid, placed=local.dim() > 2)
            needed = -self.prior.classes[target].log2()  # (B,) no decision can use more
            facts = {
                "bits": bits,
                "bits_without_place": (information.flatten(1).sum(1) / math.log(2) - bits).clamp(
                    min=0
                ),  # a class token's
                "class_bits": search.class_bits(found.alpha),
                "steadiness": found.steadiness[:, 0],
                "convergence": found.steadiness[:, 1],
                "steps": found.steps,
            }
        calibrated = shown * (needed / bits).clamp(max=1)[:, None, None]
        return {"map": shown, "calibrated": calibrated}, facts


@dataclass(frozen=True)
class Found:
    """Where the bottlenecks of several samples ended."""

    alpha: Tensor  # like local features
    steadiness: Tensor  # (B, 2) on the CPU
    steps: Tensor  # (B,) on the CPU


@dataclass(frozen=True)
class Search:
    """The descent on alpha, for several samples at once that do not meet."""

    cut: Probe
    prior: Prior
    parameters: Parameters
    blur: Sequence[Tensor]
    local: Tensor  # (B, …) features
    target: Tensor  # (B,)
    sources: Sequence[torch.Generator]  # of each sample's noise

    def run(self) -> Found:
        """Step until every sample has finished; one that has finished is not run any more."""
        rows, alpha = list(range(len(self.local))), torch.full_like(self.local, START)  # rows: those that still run
        ended, steadied, steps = alpha.clone(), torch.zeros(len(rows), 2), torch.zeros(len(rows))
        adam = torch.optim.Adam([alpha], lr=self.parameters.lr)
        trace: list[Tensor] = []  # (rows, h w) the grid's bits after each step
        while rows:
            alpha.grad = self.slope(alpha, rows)
            adam.step()
            with torch.no_grad():
                trace.append(grid_bits(self.cut, self.information(alpha, _of(self.local, rows))).flatten(1))
            if not self._may_finish(len(trace)):
                continue
            steady = steadiness(trace).cpu()  # (rows, 2)
            last = len(trace) >= self.parameters.steps_at_most()
            goes_on = [not last and not each >= SETTLED for each in steady[:, 0].tolist()]  # NaN never settles
            keep = [place for place, more in enumerate(goes_on) if more]
            drop = [place for place, more in enumerate(goes_on) if not more]
            done = [rows[place] for place in drop]
            ended[done], steadied[done], steps[done] = alpha[drop], steady[drop].float(), float(len(trace))
            rows = [rows[place] for place in keep]
            if drop and keep:
                trace = [each[keep] for each in trace]
                alpha, adam = self._kept(alpha, adam, keep)
        return Found(ended, steadied, steps)

    def _may_finish(self, steps: int) -> bool:
        """Whether samples may be finished after so many steps."""
        p = self.parameters
        looks = p.stop == "converged" and steps >= max(p.steps, 2 * LOOK) and steps % LOOK == 0
        return looks or steps >= p.steps_at_most()

    def _kept(self, alpha: Tensor, adam: torch.optim.Adam, keep: Sequence[int]) -> tuple[Tensor, torch.optim.Adam]:
        """Some samples' alpha, and Adam's state for them."""
        some = alpha[keep]
        other = torch.optim.Adam([some], lr=self.parameters.lr)
        other.state[some] = {name: value[keep] if value.dim() else value for name, value in adam.state[alpha].items()}
        return some, other

    @torch.enable_grad()
    def slope(self, alpha: Tensor, rows: Sequence[int]) -> Tensor:
        """The gradient of the objective (eq. 6) with respect to alpha (rows, …)."""
        alpha, local = alpha.detach().requires_grad_(), _of(self.local, rows)
        passing, rest = shares(self.cut, alpha, self.blur)
        logits = self._logits(rows, local, passing, rest)
        wanted = _of(self.target, rows).repeat_interleave(self.parameters.copies)
        error = F.cross_entropy(logits, wanted, reduction="sum")
        passed = nats(self.prior, local, passing, rest).flatten(1).mean(1)  # (rows,)
        objective = error / self.parameters.copies + self.parameters.beta * passed.sum()
        return torch.autograd.grad(objective, alpha)[0]

    def information(self, alpha: Tensor, local: Tensor) -> Tensor:
        """Nats that pass at every element, like local features."""
        return nats(self.prior, local, *shares(self.cut, alpha, self.blur))

    def class_bits(self, alpha: Tensor) -> Tensor:
        """What is left of the decision, log2 p(class | Z) / p(class) with p averaged over fresh noise, (B,)."""
        everyone = range(len(alpha))
        logits = self._logits(everyone, self.local, *shares(self.cut, alpha, self.blur))
        certainty = logits.softmax(1).reshape(len(alpha), -1, logits.shape[1]).mean(1)  # (B, classes)
        gained: Tensor = (certainty / self.prior.classes).gather(1, self.target[:, None])[:, 0].log2()
        return gained

    def _logits(self, rows: Sequence[int], local: Tensor, passing: Tensor, rest: Tensor) -> Tensor:
        """The network's answer to noisy copies of the features, (rows copies, classes), each sample's together."""
        p = self.parameters
        normal = torch.stack([drawn(self.sources[row], local.shape[1:], p.copies, p.antithetic) for row in rows])
        z = through(self.prior, local, passing, rest, normal.to(local))  # (rows, copies, …)
        return self.cut.resume(z.flatten(0, 1)).logits


def _of(values: Tensor, rows: Sequence[int]) -> Tensor:
    """The values of some samples."""
    return values if len(rows) == len(values) else values[list(rows)]


def drawn(source: torch.Generator, shape: Sequence[int], copies: int, antithetic: bool) -> Tensor:
    """Standard normal noise of one sample, (copies, …)."""
    normal = torch.randn((copies // 2 if antithetic else copies, *shape), generator=source)
    return torch.cat([normal, -normal]) if antithetic else normal


def steadiness(trace: Sequence[Tensor]) -> Tensor:
    """How the last maps (B, h w) agree with those since half of the steps, at worst, (B, 2): in shape; and in bits.

    The first is Pearson's correlation, the second Lin's (1989), which falls where all bits still change alike.
    """
    *earlier, last = torch.stack(list(trace[(len(trace) - 1) // 2 :]), 1).double().unbind(1)  # (B, h w) each
    if not earlier:
        return torch.full((len(last), 2), math.nan)
    before, last = torch.stack(earlier, 1), last[:, None]  # (B, steps, h w), (B, 1, h w)
    first, second = before.mean(2), last.mean(2)  # (B, steps), (B, 1)
    covariance = ((before - first[..., None]) * (last - second[..., None])).mean(2)
    variances = before.var(2, correction=0), last.var(2, correction=0)
    pearson = covariance / (variances[0] * variances[1]).sqrt()
    lin = 2 * covariance / (sum(variances) + (first - second).square())
    return torch.stack([pearson.amin(1), lin.amin(1)], 1)
