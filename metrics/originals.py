"""Quantus' own number for each score of ours that claims it: one table, for the tests and for `mibench verify`.

Both get the same draws: the baseline, the random sets, the noise, the perturbed inputs, and the order of equal values,
which Quantus leaves to argsort. Where Quantus can only be wrong there is no number: a sample whose patches, segments or
pixels tie in a way that decides the score (ours gives the expectation), or no map that is similar. Where our definition
differs by a stated factor (the length of a curve), Quantus' number is divided by it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mibench.metrics import localisation
from mibench.metrics.concentration import Complexity, Sparseness
from mibench.metrics.faithfulness_agreement import (
    FaithfulnessCorrelation,
    FaithfulnessEstimate,
    Infidelity,
    MonotonicityCorrelation,
    SensitivityN,
    Sufficiency,
    random_sets,
)
from mibench.metrics.faithfulness_curves import (
    IROF,
    ROAD,
    PixelFlipping,
    RegionPerturbation,
    ROADLeRF,
    noises,
    segments,
)
from mibench.metrics.perturbation import descending, in_steps, tiles, total_by
from mibench.metrics.quantus_calls import (
    Array,
    against_perturbed,
    against_second,
    any_step,
    call,
    layered,
    library,
    part,
    replaced,
    scored,
)
from mibench.metrics.quantus_metric import quarters
from mibench.metrics.randomisation import MPRT, EfficientMPRT, RandomLogit
from mibench.metrics.robustness import (
    AvgSensitivity,
    LocalLipschitz,
    MaxSensitivity,
    RelativeInputStability,
    RelativeOutputStability,
    RelativeRepresentationStability,
)
from mibench.metrics.sharing import image, mean_by
from mibench.plugins.contract import Evidence, Metric, Scene, Unsupported

Recompute = Callable[[Any, Scene, Evidence], Tensor]
TINY = 1e-300  # no sum of single-precision numbers is smaller, but zero
CLOSE = 1e-12  # sums that differ by less are equal but for the order in which they were added


@dataclass(frozen=True)
class Original:
    """`scores` takes the metric, a scene and a row, and returns (B,), NaN for no number."""

    name: str  # in Quantus
    scores: Recompute
    whole: bool = False  # a sample's score depends on the other samples
    exception: str = ""  # why it may differ by more than rounding


def original(metric: Metric) -> Original | None:
    """Quantus' original of a metric, if it claims one."""
    return ORIGINALS.get(type(metric))


def untied(scene: Scene, values: Tensor) -> Tensor:
    """Values (B, H, W) in double precision whose equal ones follow each other in the order that we draw for them.

    Between two neighbours in float32 there are 2^29 numbers in float64: none overtakes another.
    """
    flat = values.flatten(1)
    behind = flat.shape[1] - 1 - descending(scene, flat)  # (B, F) of equal values the first to go has the most
    wide = flat.double()
    gap = torch.from_numpy(np.spacing(wide.abs().numpy()))
    return (wide + behind * gap).reshape(values.shape)


def put(scene: Scene, baseline: str) -> Callable[..., Array]:
    """A perturbation for Quantus that puts a baseline, pixel by pixel, where the indices or the mask are."""
    return _replacing(_baseline(scene, baseline))


def _baseline(scene: Scene, name: str) -> Array:
    if name not in scene.baselines:
        raise Unsupported(f"no baseline {name!r} for these data, only {', '.join(scene.baselines)}")
    values: Array = scene.baselines[name].numpy()
    return values


def _replacing(values: Array) -> Callable[..., Array]:
    """A perturbation that puts these values (B, C, H, W)."""

    def replacing(arr: Array, indices: Any = None, mask: Any = None, **_: Any) -> Array:
        if mask is not None:
            return np.where(mask, values, arr)
        changed, line = arr.copy(), np.arange(len(arr))[:, None]
        changed[line, indices] = values.reshape(len(arr), -1)[line, indices]
        return changed

    return replacing


def _slices(scene: Scene, steps: int) -> tuple[int, int]:
    """How many features Quantus counts in each of our steps (every channel is one), and how many steps there are."""
    height, width = image(scene)
    size = -(-height * width // steps)
    return size * scene.x.shape[1], in_steps(torch.arange(height * width)[None], steps)[1]


def _pixel_flipping(metric: PixelFlipping, scene: Scene, row: Evidence) -> Tensor:
    settings = metric.parameters
    features, steps = _slices(scene, settings.steps)
    with any_step():
        areas = call(
            "PixelFlipping",
            scene,
            untied(scene, row.map),
            features_in_step=features,
            perturb_func=put(scene, settings.baseline),
            return_auc_per_sample=True,
        )
    return scored(areas, len(row.map)) / (steps - 1)


def _region_perturbation(metric: RegionPerturbation, scene: Scene, row: Evidence) -> Tensor:
    settings = metric.parameters
    height, width = image(scene)
    patch = -(-height // settings.side)
    padding = library().helpers.utils.get_padding_size
    around = ((0, 0), (0, 0), padding(height, patch), padding(width, patch))
    values = np.pad(_baseline(scene, settings.baseline), around, mode="edge")  # Quantus pads the image alike
    found = call(
        "RegionPerturbation",
        scene,
        row.map,
        patch_size=patch,
        regions_evaluation=settings.regions,
        order="morf",
        perturb_func=_replacing(values),
    )
    curves = torch.from_numpy(np.asarray(found, dtype=float))  # (B, L)
    tile = tiles(scene, settings.side).expand(len(row.map), -1)
    sums = total_by(row.map.flatten(1).double(), tile, int(tile.max()) + 1)  # (B, tiles)
    score = curves.sum(1) / (curves.shape[1] + 1)
    return torch.where(_in_one_order(sums, curves.shape[1]), score, torch.nan)


def _irof(metric: IROF, scene: Scene, row: Evidence) -> Tensor:
    settings = metric.parameters
    every = segments(scene, settings.segments, settings.smoothing)  # (B, F)
    means = mean_by(row.map.flatten(1).double(), every)
    scores = torch.full((len(row.map),), torch.nan, dtype=torch.float64)
    for number, count in enumerate((every.amax(1) + 1).tolist()):
        if count < 2 or not _in_one_order(means[number : number + 1, :count], count):
            continue
        labels = every[number].reshape(image(scene)).numpy()
        here = part(scene, [number])
        with replaced(library().helpers.utils, "get_superpixel_segments", _always(labels)):
            found = call("IROF", here, row.map[number : number + 1], perturb_func=put(here, settings.baseline))
        scores[number] = float(found[0]) / count
    return scores


def _road(metric: ROAD | ROADLeRF, scene: Scene, row: Evidence, *, most_first: bool = True) -> Tensor:
    """Sample by sample, for Quantus forgets all batches but the first; a map for each channel, or it counts wrong."""
    settings = metric.parameters
    channels = scene.x.shape[1]
    place = untied(scene, row.map).flatten(1).argsort(1).argsort(1)  # (B, F), 0 is the lowest
    place = (place if most_first else place.shape[1] - 1 - place).reshape(row.map.shape)
    maps = place[:, None].expand(-1, channels, -1, -1)
    noise = (settings.noise * noises(scene)).numpy()  # (B, C, H, W)
    shares = [100 * (2 * step + 1) / (2 * settings.steps) * (1 + CLOSE) for step in range(settings.steps)]
    fill = library().functions.perturb_func.noisy_linear_imputation
    scores = []
    for number in range(len(maps)):

        def imputed(arr: Array, indices: Array, own: Array = noise[number], **_: Any) -> Array:
            pixel, times = np.unique(indices % arr[0].size, return_counts=True)
            holes = pixel[times == channels]  # a pixel goes in all its channels, or not at all
            filled: Array = fill(arr, holes, noise=0.0)
            filled.reshape(channels, -1)[:, holes] += own.reshape(channels, -1)[:, holes]
            return filled

        here = part(scene, [number])
        kept = call("ROAD", here, maps[number : number + 1], percentages=shares, perturb_func=imputed)
        scores.append(float(np.mean(list(kept.values()))))
    return torch.tensor(scores, dtype=torch.float64)


def _faithfulness_estimate(metric: FaithfulnessEstimate, scene: Scene, row: Evidence) -> Tensor:
    settings = metric.parameters
    with any_step():
        found = call(
            "FaithfulnessEstimate",
            scene,
            untied(scene, row.map),
            softmax=settings.output == "probability",
            features_in_step=_slices(scene, settings.steps)[0],
            perturb_func=put(scene, settings.baseline),
        )
    return scored(found, len(row.map))


def _monotonicity_correlation(metric: MonotonicityCorrelation, scene: Scene, row: Evidence) -> Tensor:
    settings = metric.parameters
    with any_step():
        found = call(
            "MonotonicityCorrelation",
            scene,
            untied(scene, row.map.abs()),
            softmax=settings.output == "probability",
            abs=True,
            nr_samples=1,
            eps=0.0,
            similarity_func=_spearman_of_slices,
            features_in_step=_slices(scene, settings.steps)[0],
            perturb_func=put(scene, settings.baseline),
        )
    return scored(found, len(row.map))


def _spearman_of_slices(a: Array, b: Array, **more: Any) -> Array:
    """Quantus' rank correlation of sums (B, S), without what `untied` added, so that equal slices are equal again."""
    digits, exponent = np.frexp(np.where(np.abs(a) < TINY, 0.0, a))
    found: Array = library().similarity_func.correlation_spearman(np.ldexp(digits.round(11), exponent), b, **more)
    return found


def _correlation(
    metric: FaithfulnessCorrelation | SensitivityN, scene: Scene, row: Evidence, shares: Sequence[float]
) -> Tensor:
    """FaithfulnessCorrelation on our random sets, averaged over their sizes."""
    settings = metric.parameters
    height, width = image(scene)
    scores = []
    for share in shares:
        sets = random_sets(scene.seeds, height * width, settings.runs, share).numpy()  # (B, R, F)
        draws = iter(
            np.concatenate([np.flatnonzero(one) + channel * one.size for channel in range(scene.x.shape[1])])
            for one in sets.swapaxes(0, 1).reshape(-1, height * width)
        )
        with replaced(np.random, "choice", lambda *_, draws=draws, **__: next(draws)):
            found = call(
                "FaithfulnessCorrelation",
                scene,
                row.map,
                softmax=settings.output == "probability",
                nr_runs=settings.runs,
                subset_size=int(sets[0, 0].sum()),
                perturb_func=put(scene, settings.baseline),
            )
        scores.append(scored(found, len(row.map)))
    return torch.stack(scores).mean(0)


def _faithfulness_correlation(metric: FaithfulnessCorrelation, scene: Scene, row: Evidence) -> Tensor:
    return _correlation(metric, scene, row, [metric.parameters.share])


def _sensitivity_n(metric: SensitivityN, scene: Scene, row: Evidence) -> Tensor:
    sizes = metric.parameters.sizes
    return _correlation(metric, scene, row, [0.8 * (size + 1) / sizes for size in range(sizes)])


def _infidelity(metric: Infidelity, scene: Scene, row: Evidence) -> Tensor:
    settings = metric.parameters
    height, width = image(scene)
    patch = -(-height // settings.side)
    if settings.scaled or height % patch or width % patch:
        raise Unsupported("Quantus scales no map, and its patches must divide the image")
    found = call(
        "Infidelity",
        scene,
        row.map,
        softmax=settings.output == "probability",
        perturb_patch_sizes=[patch],
        n_perturb_samples=1,
        perturb_func=put(scene, settings.baseline),
    )
    return scored(found, len(row.map))


def _sufficiency(metric: Sufficiency, scene: Scene, row: Evidence) -> Tensor:
    def over_the_largest(distances: Array) -> Array:
        largest: Array = distances / np.abs(distances).max()
        return largest

    if (row.map.flatten(1).std(0) == 0).any():
        raise Unsupported("Quantus divides by the zero deviation of a pixel that is the same in all maps")
    threshold = metric.parameters.threshold
    found = call("Sufficiency", scene, row.map, abs=True, threshold=threshold, normalise_func=over_the_largest)
    return scored(found, len(row.map))


def _localised(
    name: str, size: Callable[[Any, Tensor], Tensor] | None, metric: Metric, scene: Scene, row: Evidence
) -> Tensor:
    """A score of the positive part; with `size`, of so many (B,) of the highest pixels, no two of which tie for it."""
    positive, mask = row.map.clamp(min=0), localisation.target(scene)
    inside = mask.sum(1)
    judged = (inside > 0) & (inside < mask.shape[1]) & (positive.flatten(1).amax(1) > 0)
    more: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    if size is not None:
        count = size(metric, mask)  # (B,)
        judged &= _settled(positive.flatten(1), mask, count)
        if name == "TopKIntersection":
            settings["k"] = int(count[0])
    if name == "Focus":
        more["custom_batch"] = quarters(scene)[judged.numpy()]
    scores = torch.full((len(mask),), torch.nan, dtype=torch.float64)
    numbers = judged.nonzero()[:, 0].tolist()
    if numbers:
        found = call(name, part(scene, numbers), positive[numbers], abs=True, more=more, **settings)
        scores[numbers] = scored(found, len(numbers))
    return scores


def _settled(values: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """Whether equal values (B, F) at the count-th place (B,) leave open how many of the highest are in the mask."""
    ordered = values.sort(1, descending=True).values
    last = ordered.gather(1, count[:, None] - 1)
    following = ordered.gather(1, count[:, None].clamp(max=values.shape[1] - 1))
    equal = (values == last).double()
    inside = (equal * mask).sum(1)
    return (last != following)[:, 0] | (inside == 0) | (inside == equal.sum(1))


def _concentrated(name: str, metric: Metric, scene: Scene, row: Evidence) -> Tensor:
    return scored(call(name, scene, row.map, abs=True), len(row.map))


def _random_logit(metric: RandomLogit, scene: Scene, row: Evidence) -> Tensor:
    pearson = library().similarity_func.correlation_pearson
    classes = len(scene.probe.classes)
    settings = {"num_classes": classes, "similarity_func": pearson}
    first = row.variants.get(metric.against, row.raw[:0])
    rest = row.map[len(first) :]  # of which there is no second map
    largest = first.abs().amax((1, 2), keepdim=True).clamp(min=1e-30)
    centred = replace(row, map=torch.cat([first / largest, rest]))
    return against_second("RandomLogit", scene, centred, metric.variant, first=False, **settings)


def _mprt(metric: MPRT, scene: Scene, row: Evidence) -> Tensor:
    settings = {"abs": True, "skip_layers": True, "return_last_correlation": True, "layer_order": "top_down"}
    return against_second("MPRT", scene, row, metric.variant, first=True, **settings)


def _efficient_mprt(metric: EfficientMPRT, scene: Scene, row: Evidence) -> Tensor:
    settings = {"skip_layers": True, "layer_order": "top_down"}
    return against_second("EfficientMPRT", scene, row, metric.variant, first=True, **settings)


def _stable(name: str, metric: Metric, scene: Scene, row: Evidence) -> Tensor:
    return against_perturbed(name, scene, row)


def _representation_stable(metric: Metric, scene: Scene, row: Evidence) -> Tensor:
    """Quantus cannot look at a Sequential, whose output is its last module's."""
    network = layered(scene)
    probe: Any = scene.probe  # of the harness's own class, which keeps the names of its layers
    layer: str = probe.network.representation
    modules = dict(network.named_modules())
    while isinstance(modules.get(layer), nn.Sequential):
        layer = f"{layer}.{len(modules[layer]) - 1}"
    if layer not in modules:
        raise Unsupported(f"Quantus cannot look at {layer}, which is no module's output")
    return against_perturbed("RelativeRepresentationStability", scene, row, network=network, layer_names=[layer])


def _in_one_order(values: Tensor, first: int) -> Tensor:
    """Whether the `first` highest of values (B, n) have one order only, (B,)."""
    ordered = values.sort(1, descending=True).values
    gaps = (ordered[:, :-1] - ordered[:, 1:])[:, :first]
    return (gaps > CLOSE * ordered.abs().amax(1, keepdim=True)).all(1)


def _always(value: object) -> Callable[..., object]:
    return lambda *_, **__: value


def _own_size(metric: Any, mask: Tensor) -> Tensor:
    return mask.sum(1).long().clamp(min=1)


def _top(metric: Any, mask: Tensor) -> Tensor:
    return torch.full((len(mask),), max(1, int(metric.parameters.share * mask.shape[1])))


def _highest(metric: Any, mask: Tensor) -> Tensor:
    return torch.ones(len(mask), dtype=torch.long)


def _of(function: Callable[..., Tensor], name: str, *more: Any, **rest: Any) -> Original:
    """An original whose function takes Quantus' name first."""
    return Original(name, partial(function, name, *more), **rest)


ORIGINALS: Mapping[type[Metric], Original] = {
    PixelFlipping: Original("PixelFlipping", _pixel_flipping),
    RegionPerturbation: Original("RegionPerturbation", _region_perturbation),
    IROF: Original("IROF", _irof),
    ROAD: Original("ROAD", _road),
    ROADLeRF: Original("ROAD", partial(_road, most_first=False)),
    FaithfulnessEstimate: Original("FaithfulnessEstimate", _faithfulness_estimate),
    FaithfulnessCorrelation: Original("FaithfulnessCorrelation", _faithfulness_correlation),
    SensitivityN: Original("FaithfulnessCorrelation", _sensitivity_n),
    MonotonicityCorrelation: Original("MonotonicityCorrelation", _monotonicity_correlation),
    Infidelity: Original("Infidelity", _infidelity),
    Sufficiency: Original("Sufficiency", _sufficiency, whole=True),
    localisation.PointingGame: _of(_localised, "PointingGame", _highest),
    localisation.TopKIntersection: _of(_localised, "TopKIntersection", _top),
    localisation.RelevanceRankAccuracy: _of(_localised, "RelevanceRankAccuracy", _own_size),
    localisation.RelevanceMassAccuracy: _of(_localised, "RelevanceMassAccuracy", None),
    localisation.AttributionLocalisation: _of(_localised, "AttributionLocalisation", None),
    localisation.AUC: _of(_localised, "AUC", None),
    localisation.Focus: _of(_localised, "Focus", None),
    Sparseness: _of(_concentrated, "Sparseness"),
    Complexity: _of(_concentrated, "Complexity"),
    RandomLogit: Original("RandomLogit", _random_logit),
    MPRT: Original("MPRT", _mprt),
    EfficientMPRT: Original("EfficientMPRT", _efficient_mprt),
    MaxSensitivity: _of(_stable, "MaxSensitivity"),
    AvgSensitivity: _of(_stable, "AvgSensitivity"),
    LocalLipschitz: _of(_stable, "LocalLipschitzEstimate"),
    RelativeInputStability: _of(_stable, "RelativeInputStability"),
    RelativeRepresentationStability: Original("RelativeRepresentationStability", _representation_stable),
    RelativeOutputStability: _of(_stable, "RelativeOutputStability"),
}
