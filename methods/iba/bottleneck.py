"""A bottleneck of noise in the local features, and the information that passes it (Schulz et al. 2020, section 3).

    Z = lambda R + (1 - lambda) eps,    eps ~ N(mu, sigma^2)                                              (1; eq. 2)

How much information about R does Z hold, at most? With mu and sigma the calibration data's, for each element of R, and
r = (R - mu) / sigma, z = (Z - mu) / sigma, the steps to the paper's bound L_I (eq. 5) are

    z | R ~ N(lambda r, (1 - lambda)^2),    Q(z) = N(0, 1)                                                (2)
    KL( P(z|R) || Q(z) ) = 1/2 [ lambda^2 r^2 + (1 - lambda)^2 - 1 ] - log (1 - lambda)       in nats     (3)

The bound adds up elements as if each were independent of the others, so its unit promises more than it keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mibench.plugins.contract import Probe, Samples, Unsupported

START = 5.0  # alpha before the first step: lambda = sigmoid(5) = 0.993, all passes
ACTIVE = 0.01  # elements that are active in a smaller share of the calibration samples are left out
FORWARD = 64  # calibration samples in one forward
NOTHING = 1e-30  # keeps the logarithm of 1 - lambda finite


@dataclass(frozen=True)
class Prior:
    """Statistics of features that carry no information about their sample; shaped like one sample's features."""

    mean: Tensor
    deviation: Tensor  # at least min_std
    active: Tensor  # 1, or 0 for elements that are left out
    classes: Tensor  # (classes,) how probable the network finds each class on average

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], device: torch.device) -> Prior:
        """The prior from what `tensors` gave."""
        return cls(**{name: tensor.to(device) for name, tensor in tensors.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Everything, to be kept."""
        return dict(vars(self))

    def noise(self, normal: Tensor) -> Tensor:
        """Noise of the features' own kind from standard normal noise."""
        return self.mean + self.deviation * normal


@torch.no_grad()
def learn_prior(cut: Probe, samples: Samples, min_std: float) -> Prior:
    """Mean, deviation and activity of every element over the calibration samples, in one pass."""
    if len(samples) < 2:
        raise Unsupported(f"{len(samples)} calibration samples have no spread; give at least 2")
    total = squares = active = classes = torch.zeros((), dtype=torch.float64, device=cut.device)
    for x in torch.split(samples.x, FORWARD):
        features = cut.features(x)
        local = features.local.double()  # (B, …)
        total, squares = total + local.sum(0), squares + local.square().sum(0)
        active, classes = active + (local != 0).sum(0), classes + features.logits.double().softmax(1).sum(0)
    count = len(samples)
    variance = (squares - total.square() / count).clamp(min=0) / (count - 1)  # (…) one sample's features
    if not torch.isfinite(variance).all():
        raise ValueError(f"the features of layer {cut.local!r} are not finite; look at the weights and the inputs")
    if not (variance > 1e-10 * squares / count).any():
        raise Unsupported(f"the features of layer {cut.local!r} are the same in every sample: nothing could pass")
    prior = Prior(
        (total / count).float(),
        variance.sqrt().clamp(min=min_std).float(),
        (active / count > ACTIVE).float(),
        (classes / count).clamp(min=1e-9).float(),
    )
    noise = prior.noise(torch.ones_like(features.local))
    if torch.allclose(cut.resume(noise).logits, features.logits, rtol=1e-6, atol=0):
        raise Unsupported(f"the logits do not depend on the features of layer {cut.local!r}")
    return prior


def shares(cut: Probe, alpha: Tensor, blur: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """lambda and 1 - lambda, each smoothed and exact near zero, from alpha (B, …)."""
    return smoothed(cut, alpha.sigmoid(), blur), smoothed(cut, (-alpha).sigmoid(), blur)


def nats(prior: Prior, features: Tensor, passing: Tensor, rest: Tensor) -> Tensor:
    """The information that passes at each element, (3), with lambda `passing` and 1 - lambda `rest`."""
    r = (features - prior.mean) / prior.deviation  # (B, …)
    bound = ((passing * r).square() + rest.square() - 1) / 2 - rest.clamp(min=NOTHING).log()
    return bound.clamp(min=0) * prior.active


def through(prior: Prior, features: Tensor, passing: Tensor, rest: Tensor, normal: Tensor) -> Tensor:
    """Z for standard normal noise (B, copies, …), (1)."""
    mixed = (passing * features)[:, None] + rest[:, None] * prior.noise(normal)
    return mixed * prior.active


def blurs(cut: Probe, local: Tensor, sigma: float) -> tuple[Tensor, ...]:
    """The matrices that smooth the grid's rows and columns; none where features have no neighbours."""
    if sigma == 0 or local.dim() == 2:
        return ()
    return tuple(_blur(size, sigma).to(local) for size in cut.grid)


def _blur(size: int, sigma: float) -> Tensor:
    """Gaussian smoothing of `size` numbers as a matrix, reflected at the ends, cut off at two sigma."""
    reach = min(round(2 * sigma), size - 1)
    offset = torch.arange(-reach, reach + 1)
    weight = torch.exp(-(offset / sigma).square() / 2)
    source = (torch.arange(size)[:, None] + offset).abs()  # (size, taps) reflected at the start
    source = torch.where(source > size - 1, 2 * (size - 1) - source, source)  # and at the end
    return torch.zeros(size, size).scatter_add(1, source, (weight / weight.sum()).expand(size, -1))


def smoothed(cut: Probe, values: Tensor, blur: Sequence[Tensor]) -> Tensor:
    """Values like local features, smoothed over the grid."""
    if not blur:
        return values
    rows, columns = blur
    grid = rows @ on_grid(cut, values) @ columns.T  # (B, C, h, w)
    return cut.replace(values, grid.flatten(2).transpose(1, 2))


def on_grid(cut: Probe, values: Tensor) -> Tensor:
    """Values like local features as (B, C, h, w); tokens without a place in the image are left out."""
    cells = cut.cells(values)  # (B, K, C)
    return cells.transpose(1, 2).reshape(len(cells), -1, *cut.grid)


def grid_bits(cut: Probe, information: Tensor) -> Tensor:
    """Bits (B, h, w) at the grid's cells from nats like local features, added up over channels."""
    return on_grid(cut, information).sum(1) / math.log(2)


def pixel_bits(cut: Probe, grid: Tensor, *, placed: bool) -> Tensor:
    """A map (B, H, W) that adds up to the grid's bits (B, h, w); a vector's elements are not `placed` in the input."""
    total = grid.sum((1, 2), keepdim=True)  # (B, 1, 1)
    height, width = cut.pixels
    if grid[0].numel() == height * width:
        return grid.reshape(-1, height, width)  # a cell is a pixel or a column
    if not placed:
        return (total / (height * width)).expand(-1, height, width)  # no pixel is better than another
    spread = cut.upsample(grid)  # (B, H, W)
    return spread * (total / spread.sum((1, 2), keepdim=True).clamp(min=NOTHING))
