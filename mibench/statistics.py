"""How sure a leaderboard is: intervals, ties and ranks from one paired bootstrap over samples and seeds.

A score of method m, seed s and sample i is read as mean_m + sample_mi + seed_ms + rest_msi. Samples are resampled,
the same for all methods. A method's few seeds are not, for three resampled seeds never leave their own range: their
share of the error is estimated (2) and drawn together with the samples (1).

    draw_m  = sum_i w_i y_m.i / n + b_m,     w ~ Multinomial(n, 1/n),     b_m ~ Normal(0, v_m)                      (1)
    v_m     = max(0, variance of the S seeds' means - mean square of the rest / n) / S                             (2)
    limit_q = mean + k (quantile of draw at Phi(a + (a + z_q) / (1 - a (a + z_q))) - mean),  a = skew / 6 sqrt(n)  (3)
    z_ij    = Phi^-1(T_df(|mean_i - mean_j| / error_ij)),    p_ij = P(max |z*| over the pairs up to ij >= z_ij)     (4)

(3) is the BCa interval with a mean's own bias and acceleration (Efron 1987), stretched by k to Student's width where
n is small (Hesterberg 2015). (4) is the step-down maximum test of Romano and Wolf (2005), which is Holm's with the
bootstrap in the place of Bonferroni: 95 % of tables have no false separation at all. Under FEW samples, too few to
resample a maximum, it is Holm's. Rank intervals follow from it (Mogstad, Romano, Shaikh and Wilhelm 2024), and so do
tie groups. Scores come oriented: higher is better. Simulated at 64 samples, 95 % intervals hold the mean in 94.5 to
95.5 % of draws; with three seeds that differ by more than the samples' error, in 91.5 %: run more seeds there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from scipy.stats import friedmanchisquare, rankdata, wilcoxon

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]
Counts = npt.NDArray[np.uint8]
Order = npt.NDArray[np.float32]

DRAWS = 2000
LEVEL = 0.95
POWER = 0.8
FEW = 30
NIL = 1e-10  # beside the numbers that it came from, a difference this small is none


def generator(*names: str) -> np.random.Generator:
    """Random numbers that depend on the names alone, so that a board comes out the same to the byte."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def resamples(samples: int, rng: np.random.Generator, draws: int = DRAWS) -> Counts:
    """How often each sample is in each resample, (draws, samples); shared by all metrics of a task."""
    weights = np.empty((draws, samples), np.uint8)
    for row in weights:
        row[:] = np.bincount(rng.integers(max(samples, 1), size=samples), minlength=samples)
    return weights


@dataclass(frozen=True)
class Bootstrap:
    """The joint distribution of some methods' mean scores, over the same samples."""

    mean: Array  # (M,)
    error: Array  # (M, M) covariance of the means that comes from the samples
    third: Array  # (M,) third central moment of the means
    samples: int
    seeded: Array  # (M,) variance v_m of the means that comes from the seeds
    seeds: Array  # (M,) how many
    draws: Array  # (B, M)

    def __getitem__(self, methods: Sequence[int]) -> Bootstrap:
        parts = self.mean[methods], self.error[np.ix_(methods, methods)], self.third[methods]
        return Bootstrap(*parts, self.samples, self.seeded[methods], self.seeds[methods], self.draws[:, methods])


def bootstrap(scores: Array, weights: Counts, rng: np.random.Generator) -> Bootstrap:
    """Resample (M, S, n) scores by (B, n) weights (1); a method with fewer seeds has NaN in the place of the others."""
    averaged = np.nanmean(scores, axis=1)  # (M, n)
    mean, n = averaged.mean(1), averaged.shape[1]
    centred = averaged - mean[:, None]
    ran = np.asarray(np.isfinite(scores).all(2))  # (M, S)
    seeded = np.array([_seed_variance(one[seeds]) for one, seeds in zip(scores, ran, strict=True)])  # (M,)
    totals = weights.sum(1, keepdims=True, dtype=float)  # (B, 1), zero where a small subset was never drawn
    blocks = np.array_split(weights, max(1, weights.size >> 22))
    moved = np.concatenate([block.astype(float) @ centred.T for block in blocks]) / np.maximum(totals, 1)  # (B, M)
    noise = rng.standard_normal(moved.shape) * np.sqrt(seeded)
    error, third = centred @ centred.T / max(n - 1, 1) / n, (centred**3).mean(1) / n**2
    return Bootstrap(mean, error, third, n, seeded, ran.sum(1).astype(float), mean + moved + noise)


def pool(boots: Sequence[Bootstrap]) -> Bootstrap:
    """The mean over tasks, each with samples of its own and counted once."""
    tasks = len(boots)
    return Bootstrap(
        np.mean([boot.mean for boot in boots], axis=0),
        np.sum([boot.error for boot in boots], axis=0) / tasks**2,
        np.sum([boot.third for boot in boots], axis=0) / tasks**3,
        min(boot.samples for boot in boots),  # as few as make the intervals safe
        np.sum([boot.seeded for boot in boots], axis=0) / tasks**2,
        np.sum([boot.seeds - 1 for boot in boots], axis=0) + 1,
        np.mean([boot.draws for boot in boots], axis=0),
    )


def _seed_variance(scores: Array) -> float:
    """The seeds' share of the variance of the mean of (S, n) scores (2)."""
    seeds, n = scores.shape
    if seeds < 2:
        return 0.0
    means = scores.mean(1, keepdims=True)  # (S, 1)
    rest = scores - means - scores.mean(0) + scores.mean()  # (S, n)
    within = float((rest**2).sum()) / ((seeds - 1) * max(n - 1, 1))
    between = float(means.var(ddof=1))
    return max(0.0, float(between - within / n)) / int(seeds)


def _freedom(*parts: tuple[Array, Array]) -> Array:
    """Degrees of freedom of a sum of estimated variances, each with its own (Satterthwaite 1946)."""
    below = sum((variance**2 / np.maximum(freedom, 1) for variance, freedom in parts), np.zeros(1))
    whole = sum((variance for variance, _ in parts), np.zeros(1)) ** 2
    return _ratio(whole, below, np.inf)


def _ratio(above: Array, below: Array, otherwise: float = 0.0) -> Array:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), otherwise), where=below > 0))


def intervals(boot: Bootstrap, level: float = LEVEL) -> tuple[Array, Array]:
    """Lower and upper limits of the means (3); NaN where a single sample cannot tell."""
    n, sampled = boot.samples, boot.error.diagonal()
    if n < 2:
        return np.full(len(boot.mean), np.nan), np.full(len(boot.mean), np.nan)
    variance = sampled + boot.seeded
    a = _ratio(boot.third, variance**1.5) / 6
    tail = float(ndtri((1 + level) / 2))
    freedom = _freedom((sampled, np.full(len(sampled), n - 1.0)), (boot.seeded, boot.seeds - 1))
    narrowed = _ratio(sampled * (n - 1) / n + boot.seeded, variance, 1.0)  # what resampling n of n leaves
    stretch = stdtrit(freedom, (1 + level) / 2) / tail / np.sqrt(narrowed)
    ordered = np.sort(boot.draws, axis=0)
    low, high = (_quantile(ordered, ndtr(a + (a + z) / (1 - a * (a + z)))) for z in (-tail, tail))
    return boot.mean + stretch * (low - boot.mean), boot.mean + stretch * (high - boot.mean)


def _quantile(ordered: Array, levels: Array) -> Array:
    """A quantile at its own level of each column of sorted draws."""
    place = np.clip(levels * (len(ordered) + 1) - 1, 0, len(ordered) - 1)
    below, column = np.floor(place).astype(int), np.arange(ordered.shape[1])
    above = np.minimum(below + 1, len(ordered) - 1)
    return np.asarray(ordered[below, column] + (place - below) * (ordered[above, column] - ordered[below, column]))


@dataclass(frozen=True)
class Pairs:
    """Every method against every other on one metric, each (M, M)."""

    difference: Array  # the row's mean less the column's
    p: Array  # that the two are equal, adjusted for all pairs
    needed: Array  # samples that would tell the two apart with POWER, as strictly as this table does

    @cached_property
    def above(self) -> Mask:
        """Whether the row is better than the column and can be told apart from it."""
        return np.asarray((self.difference > 0) & (self.p <= 1 - LEVEL))

    @cached_property
    def rank(self) -> Whole:
        """1 + the number of methods with a better mean; equal means share a rank."""
        return np.asarray(1 + (self.difference < 0).sum(1))

    @cached_property
    def rank_interval(self) -> tuple[Whole, Whole]:
        """From 1 + those that are surely above to all but those that are surely below; for all methods at once."""
        return 1 + self.above.sum(0), len(self.p) - self.above.sum(1)

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Tie groups (a compact letter display): two methods that cannot be told apart share a letter, others none."""
        place = np.argsort(np.argsort(self.rank, kind="stable")).tolist()  # 0 is the best
        ties: nx.Graph[int] = nx.Graph()
        ties.add_nodes_from(place)
        ties.add_edges_from((place[i], place[j]) for i, j in np.argwhere(~(self.above | self.above.T)) if i < j)
        groups = sorted(sorted(group) for group in nx.find_cliques(ties))
        return tuple("".join(_letter(k) for k, group in enumerate(groups) if at in group) for at in place)


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"({index + 1})"


def pairs(boot: Bootstrap, level: float = LEVEL) -> Pairs:
    """Tell every two methods apart, or say that they tie (4)."""
    methods, n = len(boot.mean), boot.samples
    i, j = np.triu_indices(methods, 1)  # (P,)
    difference = boot.mean[i] - boot.mean[j]
    difference[np.abs(difference) <= NIL * (np.abs(boot.mean[i]) + np.abs(boot.mean[j]))] = 0.0
    alone = boot.error.diagonal()
    sampled = alone[i] + alone[j] - 2 * boot.error[i, j]
    sampled[sampled <= NIL * (alone[i] + alone[j])] = 0.0
    seeded = boot.seeded[i] + boot.seeded[j]
    z_drawn = np.abs(boot.draws[:, i] - boot.draws[:, j] - difference)  # (B, P)
    z_drawn *= _ratio(np.ones(len(i)), np.sqrt(sampled * (n - 1) / n + seeded))
    z = np.zeros(len(i))
    if n > 1:
        student = np.where(difference == 0, 0.0, _ratio(np.abs(difference), np.sqrt(sampled + seeded), np.inf))
        seeds = boot.seeds - 1
        own = (boot.seeded[i], seeds[i]), (boot.seeded[j], seeds[j])
        z = -ndtri(stdtr(_freedom((sampled, np.full(len(i), n - 1.0)), *own), -student))
    p = step_down(z, z_drawn) if n >= FEW else holm(2 * ndtr(-z))
    strict = float(np.quantile(z_drawn.max(1), level)) if len(i) else 0.0
    needed = samples_needed(np.abs(difference), sampled * n, seeded, strict)
    return Pairs(_square(difference, methods, 0.0, -1), _square(p, methods, 1.0), _square(needed, methods, np.inf))


def _square(values: Array, methods: int, diagonal: float, mirrored: int = 1) -> Array:
    matrix = np.full((methods, methods), diagonal)
    i, j = np.triu_indices(methods, 1)
    matrix[i, j], matrix[j, i] = values, mirrored * values
    return matrix


def step_down(z: Array, drawn: Array) -> Array:
    """Adjusted p values of (P,) statistics, given (B, P) joint draws of them where nothing differs (4)."""
    order = np.argsort(z, kind="stable")
    largest = np.maximum.accumulate(drawn[:, order], axis=1)  # over the pairs up to this one
    p = (1 + (largest >= z[order]).sum(0)) / (len(drawn) + 1)
    adjusted = np.empty_like(z)
    adjusted[order] = np.maximum.accumulate(p[::-1])[::-1]
    return adjusted


def samples_needed(difference: Array, spread: Array, seeded: Array, strict: float, power: float = POWER) -> Array:
    """Samples at which a difference reaches z = strict with this power; infinite where more samples do not help."""
    room = (difference / (strict + float(ndtri(power)))) ** 2 - seeded
    return np.ceil(_ratio(spread, room, np.inf))


def orders(means: Array) -> Order:
    """Which of every two methods is ahead, (…, M) -> (…, P) of -1, 0, 1."""
    i, j = np.triu_indices(means.shape[-1], 1)
    return np.asarray(np.sign(means[..., i] - means[..., j]), np.float32)


def tau(left: Order, right: Order) -> Array:
    """Kendall's tau-b of two (…, P) orders of the same methods; NaN where one of them is all ties."""
    agree = np.einsum("...p,...p->...", left, right)
    pairs = np.einsum("...p,...p->...", left, left) * np.einsum("...p,...p->...", right, right)
    return _ratio(np.asarray(agree, float), np.sqrt(np.asarray(pairs, float)), np.nan)


def around(observed: float, draws: Array, level: float = LEVEL) -> tuple[float, float]:
    """An interval for a bent statistic: percentiles of the draws or their mirror image, whichever reaches further."""
    if not np.isfinite(draws).any():
        return np.nan, np.nan
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(min(low, 2 * observed - high)), float(max(high, 2 * observed - low))


def sample_ranks(scores: Array) -> Array:
    """Ranks of (M, S, n) scores on every sample, 1 is best, ties share; methods with fewer seeds repeat theirs."""
    ran = [np.flatnonzero(np.isfinite(one).any(1)) for one in scores]
    count = max((len(seeds) for seeds in ran), default=0)
    filled = np.stack([one[np.resize(seeds, count)] for one, seeds in zip(scores, ran, strict=True)])
    return np.asarray(rankdata(-filled, axis=0, nan_policy="propagate"))


@dataclass(frozen=True)
class Across:
    """One verdict over many tasks, each task counted once."""

    friedman: float  # p that all methods are equal
    nemenyi: Array  # (M, M) p values after Friedman's test
    wilcoxon: Array  # (M, M) p values of signed ranks, adjusted by Holm


def across(means: Array) -> Across | None:
    """Tests over a (tasks, M) table of mean scores; None where there are too few for any of them to find anything."""
    tasks, methods = means.shape
    if tasks < 6 or methods < 3:  # six signs: the least that reaches 0.05
        return None
    import scikit_posthocs  # slow to import, and seldom wanted

    i, j = np.triu_indices(methods, 1)
    single = np.array(
        [wilcoxon(means[:, a], means[:, b], zero_method="zsplit").pvalue for a, b in zip(i, j, strict=True)]
    )
    with np.errstate(invalid="ignore"):  # all methods equal on all tasks: no p value, which is none below 1
        friedman = float(np.nan_to_num(friedmanchisquare(*means.T).pvalue, nan=1.0))
    return Across(
        friedman,
        np.asarray(scikit_posthocs.posthoc_nemenyi_friedman(means), float),
        _square(holm(single), methods, 1.0),
    )


def holm(p: Array) -> Array:
    """p values adjusted for their number, step by step (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted
