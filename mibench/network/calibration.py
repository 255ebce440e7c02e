"""What a fitted explainer needs of its calibration data: features computed once, their moments, and batches of them.

Local features are kept while they fit into memory and are computed again, batch by batch, where they do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mibench.plugins.contract import Probe, Samples, Unsupported

MEMORY = 4 << 30  # bytes of local features that may be kept
FORWARD = 128  # samples in one forward


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation, shaped to meet what they standardise."""

    mean: Tensor
    deviation: Tensor

    def standardise(self, values: Tensor) -> Tensor:
        """Values with mean 0 and deviation 1; what never changes becomes 0."""
        return (values - self.mean) / torch.where(self.deviation > 0, self.deviation, torch.inf)


@dataclass(frozen=True)
class Calibration:
    """The calibration samples as the network sees them at its two cut points."""

    probe: Probe
    x: Tensor
    local: Tensor | None  # (N, …) where they were kept
    representation: Tensor  # (N, D)
    prediction: Tensor  # (N,)
    label: Tensor  # (N,)
    by_cell: Moments  # (K, C)
    by_channel: Moments  # (1, C), or (K, 1) where a cell is a column of a table
    representation_moments: Moments  # (1, D)

    def __len__(self) -> int:
        return len(self.representation)

    @torch.no_grad()
    def locals(self, index: Tensor) -> Tensor:
        """Local features of some samples."""
        if self.local is not None:
            return self.local[index]
        return self.probe.features(self.x[index]).local


@torch.no_grad()
def look(probe: Probe, samples: Samples) -> Calibration:
    """Pass the calibration samples through the network once."""
    if len(samples) < 2:
        raise Unsupported(f"{len(samples)} calibration samples cannot describe a distribution; pass at least 2")
    kept: list[Tensor] | None = []
    representations, predictions = [], []
    total = squares = torch.zeros((), dtype=torch.float64)
    for start in range(0, len(samples), FORWARD):
        features = probe.features(samples.x[start : start + FORWARD])
        if kept is not None:
            kept.append(features.local)
            kept = kept if sum(part.nbytes for part in kept) <= MEMORY else None
        representations.append(features.representation)
        predictions.append(features.logits.argmax(1))
        cells = probe.cells(features.local).double()  # (B, K, C)
        total, squares = total.to(cells) + cells.sum(0), squares.to(cells) + cells.square().sum(0)
    representation = torch.cat(representations)
    mean, square = total / len(samples), squares / len(samples)  # (K, C)
    pooled = (mean, square) if features.local.dim() == 2 else (mean.mean(0, keepdim=True), square.mean(0, keepdim=True))
    z = representation.double()
    return Calibration(
        probe,
        samples.x,
        None if kept is None else torch.cat(kept),
        representation,
        torch.cat(predictions),
        samples.label.to(representation.device),
        moments(mean, square, f"local features of layer {probe.local!r}"),
        moments(*pooled, f"local features of layer {probe.local!r}"),
        moments(z.mean(0, keepdim=True), z.square().mean(0, keepdim=True), "representations"),
    )


def refuse(data: Calibration, batch: int) -> None:
    """Refuse what makes no map or fills no batch, with the mend."""
    layer, cells = data.probe.local, math.prod(data.probe.grid)
    if data.probe.kind == "grid" and data.locals(torch.arange(1)).dim() == 2:
        raise Unsupported(f"the numbers of layer {layer!r} have no place in the image; cut earlier")
    if cells < 2:
        raise Unsupported(f"layer {layer!r} has one local feature, which makes no map; cut earlier")
    if len(data) < batch:
        raise Unsupported(f"{len(data)} calibration samples do not fill a batch of {batch}; set a smaller batch")


def moments(mean: Tensor, square: Tensor, what: str) -> Moments:
    """Mean and deviation from the means of values and squares, which must be finite and must not all be constant."""
    variance = square - mean.square()
    if not bool(torch.isfinite(variance).all()):
        raise ValueError(f"the {what} are not finite on the calibration samples; look at the weights and the inputs")
    varies = variance > 1e-10 * square
    if not bool(varies.any()):
        raise Unsupported(f"the {what} are the same in every calibration sample, so there is nothing to learn from")
    return Moments(mean.float(), torch.where(varies, variance, 0.0).sqrt().float())
