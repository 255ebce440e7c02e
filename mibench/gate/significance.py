"""Whether a difference is more than noise, and how small a loss would have been seen.

    p(d) = E_v T_f(-|d| / sqrt(error^2 + v share)),   v ~ (d0 s0^2 + squares) / chi^2_{d0 + g}, at most cap         (1)

error, f: of a mean over samples, and its degrees of freedom. v: the variance between fits that differ in their random
draws, which moves all samples of a fit together. It is read from the seeds at hand (squares, g), moderated by a prior
of d0 degrees of freedom (Smyth 2004); without a prior a cap stands in for it. share: 1/S + 1/S' for S and S' fits.
p has one side, the observed one: a gate looks for losses, and a gain has a p of its own.

    visible = max(p^-1(reach), threshold) + p^-1(.05)                                                               (2)

is the smallest loss that is caught in 95 % of repetitions: it must be significant at `reach`, exceed the threshold that
makes it matter, and survive the noise of its own estimate.

Losses in a few samples escape a mean's test, for they are its variance too. Where nothing was drawn again, samples are
equal unless something changed; only rounding elsewhere may flip a score that hits or misses, in a share `flips` of all.

    p_few = P(Binomial(n, flips) >= falls - rises)                                                              (3)

It is used where most samples did not move, and where signs alone make it unlikely that as many rise as fall.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc, stdtr, stdtrit

Array = npt.NDArray[np.float64]

MISSED = 0.05  # of the losses that are called visible
MOST_MOVED = 0.25  # the share of moved samples up to which the others count as untouched
SIGNS = 0.02  # six falls and no rise reach it, and nine falls with one rise
CHI = np.geomspace(1e-9, 1e3, 160)  # where chi squared is evaluated
NORMAL = 200.0  # degrees of freedom beyond which Student's law is the normal one here
ONE, NONE = np.ones(1), np.zeros(1)


@dataclass(frozen=True)
class Prior:
    """What is known of the variance between fits before any is seen, on the scale of the score."""

    level: float  # s0^2
    freedom: float  # d0


@dataclass(frozen=True)
class Noise:
    """How far a difference scatters where nothing changed (1)."""

    error: float  # of the mean over samples
    freedom: float
    fits: Array = field(default_factory=lambda: NONE)  # (G,) standard deviations that fits may add
    weight: Array = field(default_factory=lambda: ONE)  # (G,) how likely each is

    def p(self, difference: float) -> float:
        """The p value of a difference in its own direction; 1 where the error is unknown."""
        errors = np.sqrt(self.error**2 + self.fits**2)
        if difference == 0 or not np.isfinite(errors).all():
            return 1.0
        with np.errstate(divide="ignore"):  # without errors any difference is sure
            return float(self.weight @ stdtr(min(self.freedom, 1e9), -abs(difference) / errors))

    def quantile(self, p: float) -> float:
        """The difference that has this p value, at most a half."""
        from scipy.optimize import brentq

        errors = np.sqrt(self.error**2 + self.fits**2)
        if not np.isfinite(errors).all():
            return np.inf
        at_most = float(errors.max() * stdtrit(min(self.freedom, 1e9), 1 - p))
        if len(errors) == 1 or at_most == 0:
            return at_most
        return float(brentq(lambda difference: self.p(difference) - p, 0.0, 2 * at_most, rtol=1e-4))  # 2: rounding

    def visible(self, reach: float, threshold: float) -> float:
        """The smallest loss that would have been seen (2)."""
        return max(self.quantile(reach), threshold) + self.quantile(MISSED)


def fits_variance(squares: float, freedom: float, prior: Prior | None, cap: float) -> tuple[Array, Array]:
    """What the variance between fits may be, and how likely each value is (1); the cap counts without a prior alone."""
    if prior is None and not freedom:
        return np.array([cap]), ONE
    known = prior.freedom if prior else 0.0
    level = (prior.level * known if prior else 0.0) + squares
    mean = prior.level if prior and np.isinf(known) else level / (known + freedom)
    freedom = min(known + freedom, NORMAL)
    weight = CHI ** (freedom / 2) * np.exp(-(CHI - freedom) / 2) / freedom ** (freedom / 2)
    return np.minimum(mean * freedom / CHI, np.inf if prior else cap), weight / weight.sum()


def p_of_few(pairs: Array, tolerance: float, threshold: float, flips: float) -> float:
    """The p value of changes in few of the samples, in the direction of the mean (3); 1 where it cannot be used."""
    ahead = pairs * np.sign(pairs.mean())
    falls, rises = int((ahead > threshold).sum()), int((ahead < -threshold).sum())
    moved = (np.abs(pairs) > tolerance).mean()
    if falls <= rises or moved > MOST_MOVED or bdtrc(falls - 1, falls + rises, 0.5) > SIGNS:
        return 1.0
    return float(bdtrc(falls - rises - 1, len(pairs), flips))
