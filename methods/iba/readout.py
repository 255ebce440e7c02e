"""IBA, the readout bottleneck: a network that has learned where noise does no harm (Schulz et al. 2020, section 3.3).

Features of several depths, each channel standardised and resized to the bottleneck's grid, go through three 1x1
convolutions, which output alpha for every element of the local features at once:

    lambda = smooth(sigmoid(clamp(conv3(relu(conv2(relu(conv1(features))))), -5, 5)))
    minimise over the calibration data  mean CE(network(Z), prediction) + beta mean KL( P(Z|R) || Q(Z) )      (eq. 6)

The map is the information that passes, as in `iba`. Explaining is one pass of the network, whatever the class:
the map explains what the network predicts. Two things differ from the reference: its example's loss takes a (B, B)
slice of the logits, and its clamp stops the gradient, so that channels thrown below -5 by the first steps stay closed
for good; here the gradient passes the clamp (`clamp=stop` for theirs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mibench.information.critic import initialise, minibatches
from mibench.methods.iba.bottleneck import (
    FORWARD,
    START,
    Prior,
    blurs,
    grid_bits,
    learn_prior,
    nats,
    on_grid,
    pixel_bits,
    shares,
    through,
)
from mibench.network.watching import first, watched
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State, Unsupported

MEMORY = 2 << 30  # bytes of features that are kept while learning; more are computed again in every epoch


class Parameters(contract.Parameters):
    """The weight of the information, and how the readout learns."""

    beta: float = Field(10.0, ge=0)
    lr: float = Field(1e-3, gt=0)
    epochs: int = Field(20, ge=1)
    batch: int = Field(32, ge=1)
    smooth: float = Field(1.0, ge=0, description="sigma on the grid; 0: not smoothed")
    min_std: float = Field(0.01, gt=0)
    clamp: Literal["through", "stop"] = Field("through", description="of the gradient; stop is the reference code's")


class IbaReadout(FittedExplainer[Parameters]):
    """Information in bits; never negative, the same for every class."""

    name = "iba-readout"
    title = "IBA, readout bottleneck"
    paper = "Schulz et al. 2020, arXiv:2001.00396"
    maps = (MapSpec("map", unit="bits"),)
    of_class = False

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Learn the prior, then the readout network."""
        prior = learn_prior(probe, calibration, self.parameters.min_std)
        look = _features_of(probe, calibration.x)
        local, readouts = look(torch.arange(min(FORWARD, len(calibration))))
        if local.dim() == 2:
            raise Unsupported("a readout reads the channels of places: the features here are single numbers")
        generator = torch.Generator().manual_seed(seed)
        through_clamp = self.parameters.clamp == "through"
        readout = Readout(readouts.shape[1], on_grid(probe, local).shape[1], generator, through_clamp).to(probe.device)
        readout.standardise(readouts)
        adam = torch.optim.Adam(readout.parameters(), self.parameters.lr)
        blur, losses = blurs(probe, local, self.parameters.smooth), []
        for _ in range(self.parameters.epochs):
            for index in minibatches(len(calibration), min(self.parameters.batch, len(calibration)), generator):
                adam.zero_grad()
                loss = self._loss(probe, prior, readout, blur, look(index), generator)
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                losses.append(loss.detach())
        tensors = {f"prior.{name}": tensor for name, tensor in prior.tensors().items()}
        tensors |= {f"readout.{name}": tensor.detach() for name, tensor in readout.state_dict().items()}
        return State(tensors, {"loss": [round(float(loss), 5) for loss in losses[:: max(1, len(losses) // 20)]]})

    def _loss(
        self,
        probe: Probe,
        prior: Prior,
        readout: Readout,
        blur: Sequence[Tensor],
        features: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """The objective on one batch (eq. 6), with one draw of noise a sample."""
        local, readouts = features
        with torch.no_grad():
            prediction = probe.resume(local).logits.argmax(1)  # (B,)
        passing, rest = shares(probe, readout.alpha(probe, local, readouts), blur)
        normal = torch.randn(local.shape, generator=generator).to(local)
        z = through(prior, local, passing, rest, normal[:, None])[:, 0]
        information = nats(prior, local, passing, rest).mean()
        loss: Tensor = F.cross_entropy(probe.resume(z).logits, prediction) + self.parameters.beta * information
        return loss

    def restore(self, probe: Probe, state: State) -> None:
        self.prior = Prior.of(_part(state.tensors, "prior."), probe.device)
        learned = _part(state.tensors, "readout.")
        inputs, outputs = learned["layers.0.weight"].shape[1], learned["layers.4.weight"].shape[0]
        self.readout = Readout(inputs, outputs, torch.Generator()).to(probe.device)
        self.readout.load_state_dict(learned)

    @torch.no_grad()
    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        local, readouts = observed(probe, x)
        blur = blurs(probe, local, self.parameters.smooth)
        passing, rest = shares(probe, self.readout.alpha(probe, local, readouts), blur)
        grid = grid_bits(probe, nats(self.prior, local, passing, rest))  # (B, h, w)
        return Explanation({"map": pixel_bits(probe, grid, placed=True)}, {"bits": grid.sum((1, 2))})


class Readout(nn.Module):
    """From features of all depths (B, F, h, w) to alpha (B, C, h, w)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, through_clamp: bool = True) -> None:
        super().__init__()
        self.through_clamp = through_clamp
        widths = max(8, inputs // 2), max(8, outputs // 4)  # as in the reference code, but never fewer than 8
        with torch.device("meta"):
            hidden = nn.Conv2d(inputs, widths[0], 1), nn.ReLU(), nn.Conv2d(*widths, 1), nn.ReLU()
            self.layers = nn.Sequential(*hidden, nn.Conv2d(widths[1], outputs, 1))
        initialise(self, generator)
        weight, bias = self.layers[4].parameters()
        with torch.no_grad():
            weight.mul_(1e-3)
            bias.fill_(START)  # at the start nearly everything passes
        self.register_buffer("shift", torch.zeros(inputs, 1, 1))
        self.register_buffer("scale", torch.ones(inputs, 1, 1))

    def standardise(self, readouts: Tensor) -> None:
        """Take each channel's mean and deviation from (N, F, h, w)."""
        self.shift = readouts.mean((0, 2, 3))[:, None, None]
        self.scale = readouts.transpose(0, 1).flatten(1).std(1).clamp(min=1e-6)[:, None, None]

    def alpha(self, probe: Probe, local: Tensor, readouts: Tensor) -> Tensor:
        """alpha like local features; a class token, which has no place on the map, is closed: all passes elsewhere."""
        free: Tensor = self.layers((readouts - self.shift) / self.scale)  # (B, C, h, w)
        clamped = free.clamp(-START, START)
        grid = free + (clamped - free).detach() if self.through_clamp else clamped
        return probe.replace(torch.full_like(local, -START), grid.flatten(2).transpose(1, 2))


@torch.no_grad()
def observed(probe: Probe, x: Tensor) -> tuple[Tensor, Tensor]:
    """Local features, and the features of all depths (B, F, h, w) on their grid, from one pass."""
    layers = dict.fromkeys((*probe.depths, probe.local))
    local: list[Tensor] = []

    def read(layer: str, features: Tensor) -> Tensor:
        if layer == probe.local:
            local.append(features.float().clone())  # the next layer may work in place
        return _resized(probe, features.float())

    with _watched(probe.model, [layer for layer in layers if layer != "input"], read) as seen:
        probe.logits(x)
    if "input" in layers:
        seen["input"] = read("input", x.to(probe.device))
    return local[0], torch.cat([seen[layer] for layer in layers], 1)


def _resized(probe: Probe, features: Tensor) -> Tensor:
    """A copy of features of any depth on the bottleneck's grid: bilinearly, a vector the same everywhere."""
    if features.dim() == 3:
        return on_grid(probe, features).clone()  # (B, T, C): transformers keep their grid
    if features.dim() == 2:
        return features[:, :, None, None].repeat(1, 1, *probe.grid)
    if features.shape[2:] == probe.grid:
        return features.clone()
    return F.interpolate(features, probe.grid, mode="bilinear", align_corners=False)


def _features_of(probe: Probe, x: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Looks samples' features up by index, kept if all of them fit into memory."""
    first = observed(probe, x[:2])
    if sum(part[0].nbytes for part in first) * len(x) > MEMORY:
        return lambda index: observed(probe, x[index])
    kept = [torch.cat(part) for part in zip(*(observed(probe, part) for part in torch.split(x, FORWARD)), strict=True)]
    return lambda index: (kept[0][index], kept[1][index])


@contextmanager
def _watched(
    model: nn.Module, layers: Sequence[str], read: Callable[[str, Tensor], Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Collect what `read` makes of the outputs of some layers; no hook stays behind, even after an error."""
    seen: dict[str, Tensor] = {}

    def see(layer: str, _given: Any, output: Any) -> None:
        seen[layer] = read(layer, first(output))

    with watched({layer: model.get_submodule(layer) for layer in layers}, see):
        yield seen


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one owner, by its own names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
