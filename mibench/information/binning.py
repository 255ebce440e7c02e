"""Binning: information of two neurons whose values are cut into bins, by counting.

    i(n) = log N n_ab / (n_a n_b),      I = mean over n of i(n)                                                    (1)

n_a and n_b count the samples in sample n's bins, n_ab those in both. Simple, fast, and biased upwards by about
(bins - 1)^2 / 2 N where the bins are evenly filled (Miller 1955). EDGE is (1) for many widths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mibench.information.ksg import check
from mibench.information.neighbours import compiled
from mibench.information.pairwise import BUDGET, CHUNK, on_accelerator

Codes = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Binning:
    """Equally wide bins from the smallest to the largest value; to be called as `pairwise.KSG` is."""

    bins: int = 24

    def information(self, first: Tensor, second: Tensor, pairs: Tensor) -> Tensor:
        """Information of each pair, (P,), in nats."""
        return torch.cat([self.pointwise(first, second, part).mean(1) for part in torch.split(pairs, CHUNK)])

    def pointwise(
        self, first: Tensor, second: Tensor, pairs: Tensor, new: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Pointwise information of each pair at each sample, (P, N), or at each new sample, (P, Q)."""
        check_finite(first, second, new)
        cuts = []
        for layer, asked in zip((first, second), new or (None, None), strict=True):
            low, high = layer.double().amin(0), layer.double().amax(0)
            cuts.append(Cut.of(layer, asked, low, (high - low) * (1 + 1e-12) / self.bins))
        return counted(cuts[0], cuts[1], pairs)


@dataclass(frozen=True)
class Cut:
    """The bins of a layer's samples, from 1 on; bin 0 and the last are empty, for new samples beyond the others."""

    codes: Tensor  # (…, F, N) int32; … where several cuts are made at once
    new: Tensor | None  # (…, F, Q)
    counts: Tensor  # (…, F, bins) samples in each bin

    @staticmethod
    def of(layer: Tensor, new: Tensor | None, origin: Tensor, width: Tensor) -> Cut:
        """Cut the columns of a layer (N, F) at origin + n width; a constant column (width 0) is one bin."""
        step = torch.where(width > 0, width, 1.0)
        codes = ((layer.double() - origin) / step).floor()  # (…, N, F)
        low, high = codes.amin(-2, keepdim=True), codes.amax(-2, keepdim=True)  # (…, 1, F)
        least, bins = low - 1, int((high - low).max()) + 3
        within = (codes - least).mT.int().contiguous()  # (…, F, N)
        asked = None
        if new is not None:
            asked = (((new.double() - origin) / step).floor() - least).clamp(0, bins - 1).mT.int().contiguous()
        return Cut(within, asked, filled(within, bins).int())

    @property
    def asked(self) -> Tensor:
        """The bins of the samples whose values are wanted, (F, N or Q)."""
        return self.codes if self.new is None else self.new


def check_finite(first: Tensor, second: Tensor, new: tuple[Tensor, Tensor] | None) -> None:
    """Refuse layers, or new samples, that hold NaN or infinite values."""
    for name, layers in (("a layer", (first, second)), ("the new samples", new or ())):
        for layer in layers:
            check(np.zeros(1) if bool(layer.isfinite().all()) else np.array([np.nan]), name)


def filled(codes: Tensor, bins: int) -> Tensor:
    """How many of each row's numbers (…, N) are in each bin, (…, bins) int64."""
    counts = torch.zeros((*codes.shape[:-1], bins), dtype=torch.int64, device=codes.device)
    index = codes.long()
    return counts.scatter_add_(-1, index, torch.ones_like(index))


def counted(first: Cut, second: Cut, pairs: Tensor) -> Tensor:
    """(1) of each pair at each sample, or at each new sample as sample number N + 1; a constant neuron has none."""
    if on_accelerator(first.codes):
        return torch.cat([values[0] for values in outright(first, second, pairs)])
    return _compiled(first, second, pairs)


def outright(first: Cut, second: Cut, pairs: Tensor) -> Iterator[Tensor]:
    """The same for all cuts at once, some pairs at a time, (cuts, p, N or Q): the form for accelerators.

    By counting in a table of both neurons' bins for each pair.
    """
    one, samples = int(first.new is not None), first.codes.shape[-1]
    width = second.counts.shape[-1]
    table = first.counts.shape[-1] * width
    size = max(1, BUDGET // ((table + samples) * (first.codes[..., 0, 0].numel())))

    def of(values: Tensor, neurons: Tensor) -> Tensor:
        return values.flatten(0, -3)[:, neurons].long() if values.dim() > 2 else values[None, neurons].long()

    for i, j in (part.to(first.codes.device).T for part in torch.split(pairs, size)):
        together = filled(of(first.codes, i) * width + of(second.codes, j), table)  # (cuts, p, bins bins)
        a, b = of(first.asked, i), of(second.asked, j)  # (cuts, p, N or Q)
        both = together.gather(-1, a * width + b) + one
        counts = of(first.counts, i), of(second.counts, j)  # (cuts, p, bins)
        alone = (counts[0].gather(-1, a) + one).double() * (counts[1].gather(-1, b) + one)
        varies = (counts[0].amax(-1) < samples) & (counts[1].amax(-1) < samples)  # (cuts, p)
        yield torch.where(varies[..., None], ((samples + one) * both / alone).log(), 0.0)


def _compiled(first: Cut, second: Cut, pairs: Tensor) -> Tensor:
    """Pair by pair, on as many threads as torch may use: the form for processors."""
    rows = pairs.numpy().astype(np.int32)
    codes, counts, asked = (
        [getattr(cut, name).numpy() for cut in (first, second)] for name in ("codes", "counts", "asked")
    )
    one = int(first.new is not None)
    out = np.zeros((len(pairs), asked[0].shape[1]))

    def work(start: int) -> None:
        part = slice(start, start + CHUNK)
        _count(codes[0], codes[1], counts[0], counts[1], rows[part], asked[0], asked[1], one, out[part])

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(work, range(0, len(pairs), CHUNK)))
    return torch.from_numpy(out)


@compiled
def _count(
    first: Codes, second: Codes, of_first: Counts, of_second: Counts, pairs: Codes, asked_first: Codes,
    asked_second: Codes, one: int, out: npt.NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill a row of `out` for each pair; `one` is the new sample itself, or 0 where it is counted already."""
    samples = first.shape[1]
    together = np.zeros((of_first.shape[1], of_second.shape[1]), np.int32)
    for number in range(len(pairs)):
        i, j = pairs[number]
        if of_first[i].max() == samples or of_second[j].max() == samples:
            continue
        for s in range(samples):
            together[first[i, s], second[j, s]] += 1
        for q in range(out.shape[1]):
            a, b = asked_first[i, q], asked_second[j, q]
            both, alone = together[a, b] + one, (of_first[i, a] + one) * (of_second[j, b] + one)
            out[number, q] = math.log((samples + one) * both / alone)
        for s in range(samples):
            together[first[i, s], second[j, s]] = 0
