"""How sure a leaderboard is: intervals, ties and ranks from one paired bootstrap over samples and seeds.

A score of method m, seed s and sample i is read as mean_m + sample_mi + seed_ms + rest_msi. Samples are resampled,
the same for all methods. A method's few seeds are not, for three resampled seeds never leave their own range: their
share of the error is estimated (2) and drawn together with the samples (1).

    draw_m  = sum_i w_i y_m.i / n + b_m,     w ~ Multinomial(n, 1/n),     b_m ~ Normal(0, max(0, B - E))           (1)
    A, B, E = variances of n samples' means / n, of S seeds' means / S, and mean square of the rest / (n S)        (2)
    V       = max(0, A - E) + B,     1 / df = (1 - B / V) / (n - 1) + (B / V) / (S - 1)                            (3)
    limit_q = mean + k (quantile of draw at Phi(a + (a + z_q) / (1 - a (a + z_q))) - mean),  a = skew / 6 sqrt(n)  (4)
    z_ij    = -Phi^-1(q_ij),    p_ij = P(max |z*| over the pairs up to ij >= z_ij)                                 (5)
    q_ij    = E_chi T_{n - 1}(-|mean_i - mean_j| / sqrt(max(0, A - E) + B df / chi)),    chi ~ chi squared_df       (6)

(3) is how wide an interval is. A mean's variance is sample / n + seed / S + rest / (n S), where A expects the first and
the last, B the last two, E the last. So V is unbiased, and B is what knows only S - 1 degrees of freedom: B, not B - E.
Cutting off B - E at zero would take a small B, which is luck, for no seeds' share and many degrees of freedom. With
Satterthwaite's squared shares, df is right for shares that are known; these come from the same few seeds, and a share
that came out small makes V small and df large at once. Unsquared, df is the harmonic mean by share: no more than his,
the same where one part is all.

A difference is a score of its own, sample by sample and seed by seed: two rows may share their fits, and ranks add up
to the same with every seed. Only where two methods ran several seeds each and not the same number do B and E add, with
Welch's df. Its tail (6) is taken over all seeds' variances that a B as large as this one may come from: of many pairs
one has a small B by luck, and (3) would trust it. The pairs' B are not as alike as their draws, so (5) gives way to
Holm's where seeds matter: with three seeds and 2, 10 and 20 equal rows 0 to 8 % of tables have a false separation
then, in scores and in mean ranks.

Simulated with normal, skewed and bounded scores, 32 and 64 samples, a rest of 0.05, 0.25 and 1 of the samples' variance
and 0, 10, 50 and 90 % of V from the seeds, 4000 draws each, 95 % intervals hold the mean in 94.1 to 96.9 % of draws
with three seeds, in 94.0 to 96.4 % with five; less only where a bound bends seeds at 90 %: 92.3 and 92.7 % at worst.
Two seeds are too few: 93.2 to 96.9 %, but 90.0 to 91.8 % at 90 %. B - E cut off and squared shares gave three seeds 88
to 93 % there.

(4) is the BCa interval with a mean's own bias and acceleration (Efron 1987), stretched by k to Student's width (3)
(Hesterberg 2015). (5) is the step-down maximum test of Romano and Wolf (2005), which is Holm's with the bootstrap in
the place of Bonferroni: 95 % of tables have no false separation at all. Under FEW samples, too few to resample a
maximum, it is Holm's. Rank intervals follow from it (Mogstad, Romano, Shaikh and Wilhelm 2024), and so do tie groups.
Scores come oriented: higher is better.

Of scores that only hit or miss, no resample knows the miss that has not happened: an interval reaches at least as far
as Clopper's and Pearson's, and differences of one size alone are no surer than their signs (the exact sign test).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaincinv, ndtr, ndtri, stdtr, stdtrit
from scipy.stats import friedmanchisquare, rankdata, wilcoxon

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]
Counts = npt.NDArray[np.uint8]

DRAWS = 2000
LEVEL = 0.95
POWER = 0.8
FEW = 30
CHI = np.geomspace(1e-9, 1e3, 160)
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
    between: Array  # (M, M) B of (2): a method's own on the diagonal, of the difference of two elsewhere; so are …
    rest: Array  # (M, M) … E of (2), …
    freedom: Array  # (M, M) … the degrees of freedom of B, endless where one seed ran, …
    signs: Array  # (M, M) … and the p value that signs allow; zero where they do not matter
    hit: Array  # (M,) the share of hits where scores only hit or miss, else NaN
    bounds: tuple[float, float]  # what a miss and a hit score
    seeded: Array  # (M,) what the seeds add to the variance of the draws
    draws: Array  # (draws, M)

    def __getitem__(self, methods: Sequence[int]) -> Bootstrap:
        alone, both = ("mean", "third", "hit", "seeded"), ("error", "between", "rest", "freedom", "signs")
        cut = {name: getattr(self, name)[methods] for name in alone}
        cut |= {name: getattr(self, name)[np.ix_(methods, methods)] for name in both}
        return replace(self, draws=self.draws[:, methods], **cut)


def bootstrap(
    scores: Array, weights: Counts, rng: np.random.Generator, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Bootstrap:
    """Resample (M, S, n) scores by (B, n) weights (1); a method with fewer seeds has NaN in the place of the others.

    `bounds` are the least and the most that a score can be.
    """
    averaged = np.nanmean(scores, axis=1)  # (M, n)
    mean, n = averaged.mean(1), averaged.shape[1]
    centred = averaged - mean[:, None]
    between, rest, freedom = _seeds(scores)
    seeded = np.maximum(0, between - rest).diagonal()
    totals = weights.sum(1, keepdims=True, dtype=float)  # (B, 1), zero where a small subset was never drawn
    blocks = np.array_split(weights, max(1, weights.size >> 22))
    moved = np.concatenate([block.astype(float) @ centred.T for block in blocks]) / np.maximum(totals, 1)  # (B, M)
    noise = rng.standard_normal(moved.shape) * np.sqrt(seeded)
    error, third = centred @ centred.T / max(n - 1, 1) / n, (centred**3).mean(1) / n**2
    low, high = bounds
    hits_or_misses = (np.isnan(scores) | (scores == low) | (scores == high)).all((1, 2)) & np.isfinite(high - low)
    hit = np.divide(mean - low, high - low, out=np.full(len(mean), np.nan), where=hits_or_misses)
    parts = (error, third, n, between, rest, freedom, _signs(averaged), hit, bounds, seeded)
    return Bootstrap(mean, *parts, mean + moved + noise)


def pool(boots: Sequence[Bootstrap]) -> Bootstrap:
    """The mean over tasks, each with samples of its own and counted once."""
    tasks = len(boots)
    return Bootstrap(
        np.mean([boot.mean for boot in boots], axis=0),
        np.sum([boot.error for boot in boots], axis=0) / tasks**2,
        np.sum([boot.third for boot in boots], axis=0) / tasks**3,
        min(boot.samples for boot in boots),  # as few as make the intervals safe
        np.sum([boot.between for boot in boots], axis=0) / tasks**2,
        np.sum([boot.rest for boot in boots], axis=0) / tasks**2,
        _freedom(*((boot.between, boot.freedom) for boot in boots)),
        np.min([boot.signs for boot in boots], axis=0),
        np.full(len(boots[0].mean), np.nan),
        (-np.inf, np.inf),
        np.sum([boot.seeded for boot in boots], axis=0) / tasks**2,
        np.mean([boot.draws for boot in boots], axis=0),
    )


def _seeds(scores: Array) -> tuple[Array, Array, Array]:
    """B, E and the degrees of freedom of (M, S, n) scores (2), for each method and for the difference of every two."""
    ran: Mask = np.asarray(np.isfinite(scores).all(2))  # (M, S)
    each = [_seed_variances(one[None, seeds]) for one, seeds in zip(scores, ran, strict=True)]
    between, rest = np.array(each).reshape(-1, 2).T  # (M,) each
    count = ran.sum(1)
    freedom = np.where(count > 1, count - 1.0, np.inf)
    welch = _freedom((between, freedom), (between[:, None], freedom[:, None]))
    found = between + between[:, None], rest + rest[:, None], welch
    for both, alone in zip(found, (between, rest, freedom), strict=True):
        np.fill_diagonal(both, alone)
    whole = np.flatnonzero(count == scores.shape[1])
    if scores.shape[1] > 1:
        together = *(_of_differences(part) for part in _seed_variances(scores[whole])), scores.shape[1] - 1.0
        for both, of_whole in zip(found, together, strict=True):
            both[np.ix_(whole, whole)] = of_whole
    return found


def _seed_variances(scores: Array) -> tuple[Array, Array]:
    """B and E of (M, S, n) scores that lack none (2), as covariances of the methods."""
    _, seeds, n = scores.shape
    means = scores.mean(2, keepdims=True)  # (M, S, 1)
    moved = (means - means.mean(1, keepdims=True))[..., 0]
    rest = scores - means - scores.mean(1, keepdims=True) + means.mean(1, keepdims=True)
    products, free = np.tensordot(rest, rest, ([1, 2], [1, 2])), max(seeds - 1, 1)
    return moved @ moved.T / free / seeds, products / (free * max(n - 1, 1)) / (n * seeds)


def _of_differences(covariance: Array) -> Array:
    """Variances of the differences of every two, and each one's own on the diagonal."""
    alone = covariance.diagonal()
    found = np.maximum(0, alone[:, None] + alone - 2 * covariance)
    np.fill_diagonal(found, alone)
    return found


def _signs(averaged: Array) -> Array:
    """The exact sign test's p of every two rows of (M, n) scores whose differences have one size; 0 elsewhere."""
    p = np.zeros((len(averaged), len(averaged)))
    for k, one in enumerate(averaged):
        differs = averaged - one
        size = np.abs(differs).max(1, keepdims=True)
        some = np.abs(differs) > NIL * size
        alike = (~some | (np.abs(differs) >= (1 - NIL) * size)).all(1)
        up, many = (some & (differs > 0)).sum(1), some.sum(1)
        p[k, alike] = np.minimum(1, 2 * bdtr(np.minimum(up, many - up), many, 0.5))[alike]
    return p


def _freedom(*parts: tuple[Array, Array]) -> Array:
    """Degrees of freedom of a sum of variances, each with its own; both sums of squares without bias (Welch 1947)."""
    whole = sum((variance for variance, _ in parts), np.zeros(1)) ** 2
    return _ratio(whole, sum((variance**2 / (freedom + 2) for variance, freedom in parts), np.zeros(1)), np.inf) - 2


def _width(sampled: Array, rest: Array, n: int, between: Array, freedom: Array) -> tuple[Array, Array]:
    """V and its degrees of freedom (3), given B and its own degrees of freedom."""
    variance = np.maximum(sampled - rest, 0) + between
    share = _ratio(between, variance)
    return variance, 1 / ((1 - share) / (n - 1) + share / freedom)


def _ratio(above: Array, below: Array, otherwise: float = 0.0) -> Array:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), otherwise), where=below > 0))


def intervals(boot: Bootstrap, level: float = LEVEL) -> tuple[Array, Array]:
    """Lower and upper limits of the means (4); NaN where a single sample cannot tell."""
    n, sampled = boot.samples, boot.error.diagonal()
    if n < 2:
        return np.full(len(boot.mean), np.nan), np.full(len(boot.mean), np.nan)
    between, rest, freedom = (each.diagonal() for each in (boot.between, boot.rest, boot.freedom))
    variance, freedom = _width(sampled, rest, n, between, freedom)
    drawn = sampled * (n - 1) / n + boot.seeded  # what resampling n of n leaves
    a = _ratio(boot.third, (sampled + boot.seeded) ** 1.5) / 6
    tail = float(ndtri((1 + level) / 2))
    stretch = stdtrit(freedom, (1 + level) / 2) / tail * np.sqrt(_ratio(variance, drawn, 1.0))
    ordered = np.sort(boot.draws, axis=0)
    low, high = (_quantile(ordered, ndtr(a + (a + z) / (1 - a * (a + z)))) for z in (-tail, tail))
    sure = _of_hits(boot.hit, n, level) * (boot.bounds[1] - boot.bounds[0]) + boot.bounds[0]
    return (
        np.fmin(boot.mean + stretch * (low - boot.mean), sure[0]),
        np.fmax(boot.mean + stretch * (high - boot.mean), sure[1]),
    )


def _of_hits(share: Array, n: int, level: float) -> Array:
    """Clopper's and Pearson's limits of a share of hits, (2, M)."""
    hits = share * n
    low = np.where(hits > 0, betaincinv(hits, n - hits + 1, (1 - level) / 2), 0.0)
    high = np.where(hits < n, betaincinv(hits + 1, n - hits, (1 + level) / 2), 1.0)
    return np.where(np.isfinite(share), [low, high], np.nan)


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
    """Tell every two methods apart, or say that they tie (5)."""
    methods, n = len(boot.mean), boot.samples
    i, j = np.triu_indices(methods, 1)  # (P,)
    difference = boot.mean[i] - boot.mean[j]
    difference[np.abs(difference) <= NIL * (np.abs(boot.mean[i]) + np.abs(boot.mean[j]))] = 0.0
    alone = boot.error.diagonal()
    sampled = alone[i] + alone[j] - 2 * boot.error[i, j]
    sampled[sampled <= NIL * (alone[i] + alone[j])] = 0.0
    drawn = np.ascontiguousarray(boot.draws.T)  # (M, B)
    scale = _ratio(np.ones(len(i)), np.sqrt(sampled * (n - 1) / n + boot.seeded[i] + boot.seeded[j]))
    between, rest = boot.between[i, j], boot.rest[i, j]
    single = np.ones(len(i))
    if n > 1:
        tails = 2 * _tails(np.abs(difference), sampled, rest, n, between, boot.freedom[i, j])
        single = np.where(difference == 0, 1.0, np.maximum(tails, boot.signs[i, j]))
    z = -ndtri(single / 2)
    stepped, largest = step_down(z, lambda k: np.abs(drawn[i[k]] - drawn[j[k]] - difference[k]) * scale[k])
    p = holm(single) if n < FEW or between.any() else stepped
    strict = float(np.quantile(largest, level)) if len(i) else 0.0
    needed = samples_needed(np.abs(difference), sampled * n, np.maximum(0, between - rest), strict)
    return Pairs(_square(difference, methods, 0.0, -1), _square(p, methods, 1.0), _square(needed, methods, np.inf))


def _tails(difference: Array, sampled: Array, rest: Array, n: int, between: Array, freedom: Array) -> Array:
    """How likely a difference of zero comes out this large or larger (6)."""
    ordinary = np.maximum(sampled - rest, 0)[:, None]  # what the samples say
    degrees = np.where(np.isfinite(freedom), freedom, 1.0)[:, None]
    weight = CHI ** (degrees / 2) * np.exp(-CHI / 2)  # the density of chi squared, on a logarithmic grid
    errors = np.sqrt(ordinary + between[:, None] * degrees / CHI)
    found = stdtr(n - 1.0, -_ratio(np.broadcast_to(difference[:, None], errors.shape), errors, np.inf))
    return np.asarray((weight * found).sum(1) / weight.sum(1))


def _square(values: Array, methods: int, diagonal: float, mirrored: int = 1) -> Array:
    matrix = np.full((methods, methods), diagonal)
    i, j = np.triu_indices(methods, 1)
    matrix[i, j], matrix[j, i] = values, mirrored * values
    return matrix


def step_down(z: Array, drawn: Callable[[int], Array]) -> tuple[Array, Array]:
    """Adjusted p values of (P,) statistics (5), and the (B,) draws of the largest of all.

    `drawn` gives the draws of one pair where nothing differs: one at a time stays in the processor's cache.
    """
    adjusted, largest = np.empty_like(z), np.zeros(1)
    order = np.argsort(z, kind="stable")
    for k in order.tolist():
        largest = np.maximum(largest, drawn(k))  # over the pairs up to this one
        adjusted[k] = (1 + np.count_nonzero(largest >= z[k])) / (len(largest) + 1)
    adjusted[order] = np.maximum.accumulate(adjusted[order][::-1])[::-1]
    return adjusted, largest


def samples_needed(difference: Array, spread: Array, seeded: Array, strict: float, power: float = POWER) -> Array:
    """Samples at which a difference reaches z = strict with this power; infinite where more samples do not help."""
    room = (difference / (strict + float(ndtri(power)))) ** 2 - seeded
    return np.ceil(_ratio(spread, room, np.inf))


def taus(means: Array) -> Array:
    """Kendall's tau-b of every two of K orders, (…, K, M) -> (…, K, K), over the methods that both have a mean for.

    NaN where one of the two is all ties. All numbers up to the root are whole, and exact in single precision.
    """
    i, j = np.triu_indices(means.shape[-1], 1)
    difference = means[..., i] - means[..., j]  # (…, K, P), NaN where a method is missing
    both = np.isfinite(difference).astype(np.float32)
    ahead = (difference > 0).astype(np.float32) - (difference < 0)
    agree = ahead @ ahead.swapaxes(-1, -2)  # (…, K, K)
    untied = np.abs(ahead) @ both.swapaxes(-1, -2)
    return _ratio(agree.astype(float), np.sqrt(untied.astype(float) * untied.swapaxes(-1, -2)), np.nan)


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

    @property
    def apart(self) -> Mask:
        """The pairs that either test tells apart, each at half the level: the better of two p values errs twice."""
        return np.asarray(np.minimum(self.nemenyi, self.wilcoxon) <= (1 - LEVEL) / 2)


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
