"""Binning: information of two neurons whose values are cut into bins, by counting.

    i(n) = log N n_ab / (n_a n_b),      I = mean over n of i(n)                                                    (1)

n_a and n_b count the samples in sample n's bins, n_ab those in both. Simple, fast, and biased upwards by about
(bins - 1)^2 / 2 N where the bins are evenly filled (Miller 1955). EDGE is (1) for many widths.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mibench.information.ksg import check
from mibench.information.neighbours import compiled
from mibench.information.pairwise import CHUNK

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
        cuts = []
        for layer, asked in zip((first, second), new or (None, None), strict=True):
            low, high = layer.double().amin(0), layer.double().amax(0)
            cuts.append(Cut.of(layer, asked, low, (high - low) * (1 + 1e-12) / self.bins))
        return counted(cuts[0], cuts[1], pairs)


@dataclass(frozen=True)
class Cut:
    """The bins of a layer's samples, from 1 on; bin 0 and the last are empty, for new samples beyond the others."""

    codes: Codes  # (F, N)
    new: Codes | None  # (F, Q)
    counts: Counts  # (F, bins) samples in each bin

    @staticmethod
    def of(layer: Tensor, new: Tensor | None, origin: Tensor, width: Tensor) -> Cut:
        """Cut the columns of a layer (N, F) at origin + n width; a constant column (width 0) is one bin."""
        check(layer.detach().double().cpu().numpy(), "a layer")
        step = torch.where(width > 0, width, 1.0)
        codes = ((layer.double() - origin) / step).floor()  # (N, F)
        least, bins = codes.amin(0) - 1, int((codes.amax(0) - codes.amin(0)).max()) + 3
        within = (codes - least).T.cpu().numpy().astype(np.int32)
        asked = None
        if new is not None:
            check(new.detach().double().cpu().numpy(), "the new samples")
            beyond = (((new.double() - origin) / step).floor() - least).clamp(0, bins - 1)
            asked = np.ascontiguousarray(beyond.T.cpu().numpy().astype(np.int32))
        counts = np.stack([np.bincount(row, minlength=bins) for row in within]).astype(np.int32)
        return Cut(np.ascontiguousarray(within), asked, counts)


def counted(first: Cut, second: Cut, pairs: Tensor) -> Tensor:
    """(1) of each pair at each sample, or at each new sample as sample number N + 1; a constant neuron has none."""
    rows = pairs.numpy().astype(np.int32)
    new = first.new is not None
    asked = [cut.codes if cut.new is None else cut.new for cut in (first, second)]  # (F, N or Q)
    out = np.zeros((len(pairs), asked[0].shape[1]))

    def work(start: int) -> None:
        part = slice(start, start + CHUNK)
        _count(
            first.codes, second.codes, first.counts, second.counts, rows[part], asked[0], asked[1], int(new), out[part]
        )

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
