"""KSG: information from the distances to nearest neighbours (Kraskov et al. 2004; Gao et al. 2017; NIF, equation 6).

    i(n) = psi(k) + psi(N) - psi(a_n + 1) - psi(b_n + 1),      I = mean over n of i(n)                        (1)

rho_n is the distance from sample n to its k-th nearest neighbour in x and z together (maximum norm); a_n and b_n count
the other samples that are strictly nearer than rho_n in x alone and in z alone. All values are in nats.

Gao's `mixed` form has log N for psi(N), and where rho_n = 0 (an atom, such as a silent ReLU) its k is the number of
samples there, itself among them, and a_n and b_n count the other samples at the same place. NIF's equation (6) writes
log(a_n + 1) for psi(a_n + 1): `counting="log"`. The two differ by 0.58 at a_n = 0; psi is unbiased there, log is not.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import digamma
from sklearn.neighbors import KDTree, NearestNeighbors
from torch import Tensor

Variant = Literal["ksg", "mixed"]
Counting = Literal["psi", "log"]
Array = npt.NDArray[np.float64]

JITTER = 1e-10  # in standard deviations, as scikit-learn adds it


def ksg(x: Tensor, z: Tensor, *, k: int = 3) -> float:
    """Information of continuous samples x (N,) or (N, D) and z; the mean of (1), never clipped at zero."""
    return float(pointwise(x, z, k=k, variant="ksg").mean())


def mixed_ksg(x: Tensor, z: Tensor, *, k: int = 3) -> float:
    """Information of samples that may be continuous, discrete or both, as Gao's code has it."""
    return float(pointwise(x, z, k=k, variant="mixed").mean())


def pointwise(x: Tensor, z: Tensor, *, k: int = 3, variant: Variant = "mixed", counting: Counting = "psi") -> Tensor:
    """i(n) of every sample, (N,); x and z are (N,) or (N, D)."""
    first, second = _rows(x, "x", k), _rows(z, "z", k)
    if len(first) != len(second):
        raise ValueError(f"x has {len(first)} samples and z has {len(second)}: they must come in pairs")
    together = np.concatenate([first, second], 1)
    distance, _ = NearestNeighbors(metric="chebyshev", n_neighbors=k).fit(together).kneighbors()  # others only
    within = np.nextafter(distance[:, -1], 0)  # strictly nearer than rho; at rho = 0, in the same place
    count = table(counting, len(first))
    value = count[_near(first, within)] + count[_near(second, within)]  # (N,) counts with the sample itself: a + 1
    if variant == "ksg":
        return torch.from_numpy(digamma(k) + digamma(len(first)) - value)
    neighbours = np.where(within == 0, _near(together, within), k)
    return torch.from_numpy(digamma(neighbours) + np.log(len(first)) - value)


def ceiling(samples: int, k: int) -> float:
    """The value of (1) where x determines z: no estimate from so many samples is larger, whatever the truth."""
    return float(digamma(samples) - digamma(k))


def jittered(x: Tensor, reference: Tensor, noise: Tensor) -> Tensor:
    """Columns of x in the reference's standard deviations with a little noise, which makes small clouds of atoms.

    KSG on continuous values has no bias at zero information; `mixed` on atoms has (+0.03 to 0.09 nats between ReLUs).
    The noise, standard normal and like x, is scaled as scikit-learn does; a constant column stays constant.
    """
    size = JITTER * standardised(reference, reference).abs().mean(0).clamp(min=1.0)
    varies = reference.double().std(0, correction=0) > 0
    return standardised(x, reference) + torch.where(varies, size, 0.0) * noise


def standardised(x: Tensor, reference: Tensor) -> Tensor:
    """Columns of x in units of the reference's standard deviations; a constant column keeps its unit."""
    deviation = reference.double().std(0, correction=0)  # (...)
    return x.double() / torch.where(deviation > 0, deviation, 1.0)


def table(counting: Counting, samples: int) -> Array:
    """psi(n) or log(n) for n = 0 to samples; what is at 0 is never looked up."""
    numbers = np.arange(samples + 2, dtype=np.float64)
    numbers[0] = 1.0
    return np.asarray(digamma(numbers) if counting == "psi" else np.log(numbers))


def check(samples: Array, name: str, k: int = 0) -> None:
    """Refuse what no estimator can use, and fewer samples than k neighbours need."""
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} holds NaN or infinite values: leave those samples out before estimating information")
    if k and len(samples) <= k:
        raise ValueError(f"{name} has {len(samples)} samples, but {k} neighbours need at least {k + 1}: lower k")


def _rows(x: Tensor, name: str, k: int) -> Array:
    rows = x.detach().cpu().double().reshape(len(x), -1).numpy()
    check(rows, name, k)
    return np.asarray(rows)


def _near(rows: Array, within: Array) -> npt.NDArray[np.int64]:
    """How many samples, itself included, are within a radius of each."""
    return np.asarray(KDTree(rows, metric="chebyshev").query_radius(rows, within, count_only=True))
