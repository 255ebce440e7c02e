"""KSG for every pair of neurons of two layers: what makes the information flow of a whole network affordable.

The estimator is `ksg.pointwise` of scalars, and so are its numbers: equation (1) there. On a CPU the neighbours come
from the compiled grid of `neighbours`, pair by pair on as many threads as torch may use, and no number depends on how
many; on an accelerator all distances are computed outright, some pairs at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import digamma
from torch import Tensor

from mibench.information.ksg import Counting, Variant, check, table
from mibench.information.neighbours import SAME, Floats, pointwise_of_pairs, sort_layer

CHUNK = 1024  # pairs that a thread takes at a time
BUDGET = 2**26  # distances that the form for accelerators holds at a time


@dataclass(frozen=True)
class KSG:
    """KSG of pairs of neurons: `pairs` (P, 2) names columns of two layers' activations, (N, A) and (N, B)."""

    k: int = 3
    variant: Variant = "mixed"
    counting: Counting = "psi"

    def information(self, first: Tensor, second: Tensor, pairs: Tensor) -> Tensor:
        """Information of each pair, (P,), in nats: the mean of its pointwise values, which are not kept."""
        if on_accelerator(first):
            return torch.cat([values.mean(1) for values in self.outright(first, second, pairs)])
        return self._compiled(first, second, pairs, None, mean=True)[:, 0]

    def pointwise(
        self, first: Tensor, second: Tensor, pairs: Tensor, new: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Pointwise information of each pair at each sample, (P, N), or at each new sample ((Q, A), (Q, B)), (P, Q).

        A new sample gets the value that it would have as the layers' sample number N + 1.
        """
        if on_accelerator(first):
            return torch.cat(list(self.outright(first, second, pairs, new)))
        return self._compiled(first, second, pairs, new, mean=False)

    def _constant(self, samples: int) -> float:
        return float(digamma(samples)) if self.variant == "ksg" else math.log(samples)

    def _compiled(
        self, first: Tensor, second: Tensor, pairs: Tensor, new: tuple[Tensor, Tensor] | None, *, mean: bool
    ) -> Tensor:
        """Threads fill rows of their own: the work on a pair, and so its value, is the same on any thread."""
        here, there = sort_layer(_columns(first, self.k)), sort_layer(_columns(second, self.k))
        asked = [np.ascontiguousarray(_columns(layer).T) for layer in new or (first[:0], second[:0])]  # (F, Q)
        samples = len(first) + (new is not None)
        psi, count = table("psi", samples), table(self.counting, samples)
        rows = pairs.numpy().astype(np.int32)
        out = np.zeros((len(pairs), 1 if mean else len(new[0]) if new else samples))

        def work(start: int) -> None:
            part = slice(start, start + CHUNK)
            pointwise_of_pairs(
                here, there, rows[part], asked[0], asked[1], self.k, self.variant == "mixed", psi, count,
                self._constant(samples), mean, out[part],
            )  # fmt: skip

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(work, range(0, len(pairs), CHUNK)))
        return torch.from_numpy(out)

    def outright(
        self, first: Tensor, second: Tensor, pairs: Tensor, new: tuple[Tensor, Tensor] | None = None
    ) -> Iterator[Tensor]:
        """The same values from all distances, some pairs at a time, (p, N or Q): the form for accelerators."""
        device, others = first.device, int(new is not None)
        for layer in (first, second):
            check(np.zeros(len(layer)) if bool(layer.isfinite().all()) else np.full(1, np.nan), "a layer", self.k)
        x_all, y_all = first.double().T, second.double().T  # (F, N)
        x_new, y_new = (new[0].double().T, new[1].double().T) if new else (x_all, y_all)  # (F, Q)
        samples = len(first) + others
        psi, count = (torch.from_numpy(table(name, samples)).to(device) for name in ("psi", self.counting))
        size = max(1, BUDGET // (len(first) * x_new.shape[1]))
        for i, j in (part.to(device).T for part in torch.split(pairs, size)):  # (p,) each
            dx = (x_new[i, :, None] - x_all[i, None]).abs()  # (p, Q, N)
            dy = (y_new[j, :, None] - y_all[j, None]).abs()
            distance = torch.maximum(dx, dy)
            if new is None:
                distance.diagonal(dim1=1, dim2=2).fill_(math.inf)  # a sample is not its own neighbour
            rho = distance.topk(self.k, largest=False).values[..., -1]  # (p, Q)
            near = rho.clamp(min=SAME)[..., None]
            a, b = (dx < near).sum(2) + others, (dy < near).sum(2) + others  # (p, Q), the sample itself among them
            k = torch.full_like(a, self.k)
            if self.variant == "mixed":
                k = torch.where(rho == 0, (distance == 0).sum(2) + 1, k)
            values = psi[k] + self._constant(samples) - count[a] - count[b]
            varies = (x_all[i] != x_all[i, :1]).any(1) & (y_all[j] != y_all[j, :1]).any(1)  # (p,)
            yield torch.where(varies[:, None], values, 0.0)


def on_accelerator(layer: Tensor) -> bool:
    """Whether a layer is on a device that compiled code cannot read."""
    return layer.device.type != "cpu"


def every_pair(first: int, second: int) -> Tensor:
    """All pairs of the neurons of two layers, (first * second, 2); values for them reshape to (first, second)."""
    return torch.cartesian_prod(torch.arange(first), torch.arange(second))


def _columns(layer: Tensor, k: int = 0) -> Floats:
    columns = layer.detach().double().numpy()
    check(columns, "a layer", k)
    return columns
