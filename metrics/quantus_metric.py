"""Any metric of Quantus on saved maps, through its own code: `quantus:NAME[setting=value]`.

Settings are those of the metric's constructor, and `softmax`; a function is named as Quantus names it, several values
are written a+b. What is left out has Quantus' own default, which is its own and seldom the paper's. How it is called:
`quantus_calls`. Direction and range are of the table below, for two of Quantus' own directions are wrong; a metric with
none that we could defend describes and is never ranked. What perturbs or explains again gets the run's own perturbed
inputs and saved maps; what needs maps that no run saves is refused with the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mibench.errors import UsageError
from mibench.metrics.localisation import mosaic, target
from mibench.metrics.quantus_calls import (
    OURS,
    against_perturbed,
    against_second,
    any_step,
    call,
    layered,
    library,
    part,
    scored,
)
from mibench.metrics.sharing import RowMetric, image
from mibench.plugins.contract import PERTURBED, Direction, Evidence, Family, Scene, Unsupported
from mibench.plugins.spec import Spec, parse, spelt, unknown

ANY, POSITIVE, SHARE, CORRELATION = (-torch.inf, torch.inf), (0.0, torch.inf), (0.0, 1.0), (-1.0, 1.0)
FAMILIES: Mapping[str, Family] = {"Axiomatic": "completeness"}  # where our name of a category differs
MASK, OTHER_CLASS, RANDOM = frozenset({"mask"}), frozenset({"other-class"}), frozenset({"random-weights"})


@dataclass(frozen=True)
class Known:
    """What we hold of a metric of Quantus."""

    direction: Direction | None  # None: it describes
    range: tuple[float, float] = ANY
    needs: frozenset[str] = frozenset()
    settings: Mapping[str, object] = field(default_factory=dict)  # without which there is not one number a sample
    grey: bool = False  # its code fails on colour images with maps of one channel
    alone: bool = False  # other samples of a batch change a score: each is a batch of its own
    refused: str = ""  # why it cannot be run on saved maps


LAST = {"skip_layers": True, "return_last_correlation": True}
KNOWN: Mapping[str, Known] = {
    "FaithfulnessCorrelation": Known("higher", CORRELATION),
    "FaithfulnessEstimate": Known("higher", CORRELATION),
    "PixelFlipping": Known("lower", settings={"return_auc_per_sample": True}),
    "RegionPerturbation": Known("higher"),  # Quantus declares lower: its number is the fall, not what is left
    "Selectivity": Known("lower"),
    "Monotonicity": Known(None, SHARE),  # 1 for any map: it replaces the baseline by itself
    "MonotonicityCorrelation": Known("higher", CORRELATION),
    "SensitivityN": Known(None, refused="it gives one number for each step of the whole batch and none for a sample"),
    "IROF": Known("higher", alone=True, grey=True),
    "ROAD": Known("lower", SHARE, alone=True, grey=True),
    "Infidelity": Known("lower", POSITIVE),
    "Sufficiency": Known("higher", SHARE),
    **{
        name: Known("higher", SHARE, MASK)
        for name in (
            *("PointingGame", "TopKIntersection", "RelevanceMassAccuracy", "RelevanceRankAccuracy"),
            *("AttributionLocalisation", "AUC", "Focus"),
        )
    },
    "Sparseness": Known("higher", SHARE),
    "Complexity": Known("lower", POSITIVE),
    "EffectiveComplexity": Known(None, POSITIVE),  # counts all pixels of a map without zeros
    "RandomLogit": Known("lower", CORRELATION, OTHER_CLASS),
    "MPRT": Known("lower", CORRELATION, RANDOM, LAST),
    "EfficientMPRT": Known("higher", ANY, RANDOM, {"skip_layers": True}),
    "SmoothMPRT": Known(None, refused="it ignores the maps that it is given and calls captum for others"),
    **{
        name: Known("lower", POSITIVE, frozenset({PERTURBED}))
        for name in (
            *("MaxSensitivity", "AvgSensitivity", "LocalLipschitzEstimate", "RelativeInputStability"),
            *("RelativeOutputStability", "RelativeRepresentationStability"),
        )
    },
    "Continuity": Known(None, refused="it needs maps of shifted images, which no run saves"),
    "Consistency": Known("higher", SHARE),  # Quantus declares lower: its number is how often like maps decide alike
    "Completeness": Known(None, SHARE),  # compares sums of floating-point numbers by ==
    "NonSensitivity": Known("lower", POSITIVE),
    "InputInvariance": Known(None, refused="it needs maps of a network with another bias, which no run saves"),
}


class Quantus(RowMetric):
    """A metric of Quantus by its own code; natively scored ones are faster, and equal to it where they claim it."""

    name = "quantus"
    title = "Quantus"
    takes = "NAME[setting=value]"
    family = "faithfulness"
    cost = "forwards"
    direction = "higher"
    range = ANY
    paper = "Hedström et al. 2023, Quantus, JMLR 24(34)"
    needs = frozenset({"image"})
    no_score = "Quantus gives no finite number for this sample, or it has no second map, mask or positive part"
    default = False

    def __init__(self, parameters: Any = None, argument: str = "", **values: object) -> None:
        super().__init__(parameters, **values)
        self.argument = argument
        if argument:
            self._declare(parse(argument))

    def _declare(self, asked: Spec) -> None:
        """Take over what is known of the metric that is named."""
        cls = metric_class(asked.name)
        self.known = KNOWN.get(asked.name, Known(None))
        if self.known.refused:
            raise UsageError(f"quantus:{asked.name} cannot be run on saved maps: {self.known.refused}")
        self.argument = spelt(asked.name, dict(sorted(asked.parameters.items())))
        self.quantus_name, self.settings = asked.name, settings_of(cls, asked)
        category = str(cls.evaluation_category.value)
        described = "" if self.known.direction else " (no direction that holds: describes)"
        values: Mapping[str, object] = {
            "title": f"{cls.name}, by Quantus{described}",
            "family": FAMILIES.get(category, category.lower()),
            "direction": self.known.direction or "higher",
            "gate": self.known.direction is None,  # shown, and not ranked
            "range": self.known.range,
            "needs": frozenset({"image"}) | self.known.needs,
        }
        for name, value in values.items():
            setattr(self, name, value)

    def judge(self, scene: Scene, row: Evidence) -> Tensor:
        if not self.argument:
            raise Unsupported(f"names no metric of Quantus: write quantus:{self.takes}")
        image(scene)
        if self.known.grey and scene.x.shape[1] > 1:
            raise Unsupported("Quantus' own code fails on colour images with maps of one channel")
        name, settings = self.quantus_name, {**self.known.settings, **self.settings}
        softmax = bool(settings.pop("softmax"))
        if PERTURBED in self.known.needs:
            network = layered(scene) if name == "RelativeRepresentationStability" else None
            return against_perturbed(name, scene, row, network=network, **settings)
        if self.known.needs & (OTHER_CLASS | RANDOM):
            [variant] = self.known.needs
            if name == "RandomLogit":
                settings = {"num_classes": len(scene.probe.classes), **settings}
            return against_second(name, scene, row, variant, first=variant in RANDOM, **settings)
        maps, more = row.map, {}
        finite = maps.flatten(1).isfinite().all(1)  # (B,) Quantus stops at others, or takes them for numbers
        numbers = finite.nonzero()[:, 0].tolist()
        if "mask" in self.known.needs:
            judged, maps = placed(scene, row)
            numbers = [each for each in judged if finite[each]]
            more = {"custom_batch": quarters(scene)[numbers]} if name == "Focus" else {}
        scores = torch.full((len(row.map),), torch.nan, dtype=torch.float64)
        for some in [[each] for each in numbers] if self.known.alone else [numbers] * bool(numbers):
            with any_step():
                found = call(name, part(scene, some), maps[some], softmax=softmax, more=more, **settings)
            if isinstance(found, dict):  # ROAD: a share for each percentage
                found = [sum(found.values()) / len(found)]
            scores[some] = scored(found, len(some))
        return scores


def metric_class(name: str) -> Any:
    """The class of Quantus of a name."""
    library()
    from quantus.metrics.base import Metric

    found = {cls.__name__: cls for cls in Metric.__subclasses__()}
    if name not in found:
        raise unknown("metric of Quantus", name, found)
    return found[name]


def settings_of(cls: Any, asked: Spec) -> dict[str, Any]:
    """The settings of a spec as Quantus takes them, with `softmax`, and `abs` as its constructor has it."""
    parameters = inspect.signature(cls.__init__).parameters
    known = {name: each.default for name, each in parameters.items()}
    kinds = {name: str(each.annotation) for name, each in parameters.items()}
    offered = known.keys() - {
        "self",
        "kwargs",
        *OURS,
        "normalise_func",
        "normalise_func_kwargs",
        "aggregate_func",
        "default_plot_func",
    }
    for key in asked.parameters:
        if key not in {*offered, "softmax"}:
            raise unknown(f"setting of quantus:{asked.name}", key, {*offered, "softmax"})
    own = inspect.signature(cls.__call__).parameters["softmax"].default
    return {
        "softmax": True if own is None or own is inspect.Parameter.empty else own,
        "abs": known["abs"],
        **{key: _setting(asked.name, key, text, kinds.get(key, "")) for key, text in asked.parameters.items()},
    }


def _setting(name: str, key: str, text: str, kind: str) -> Any:
    """A setting from its text: one value, or several with + between them where Quantus wants a list."""
    if key.endswith("_func"):
        return _function(name, key, text)
    return [_value(each) for each in text.split("+")] if "List" in kind else _value(text)


def _value(text: str) -> Any:
    """A number, true, false, none, or a word."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _function(name: str, key: str, text: str) -> Callable[..., Any]:
    """A function by the name that Quantus has for it."""
    constants = library().helpers.constants
    tables: Iterable[Mapping[str, Any]] = (
        constants.AVAILABLE_SIMILARITY_FUNCTIONS,
        constants.AVAILABLE_PERTURBATION_FUNCTIONS,
        constants.AVAILABLE_NORMALISATION_FUNCTIONS,
    )
    known = {each: function for table in tables for each, function in table.items()}
    if text not in known:
        raise unknown(f"{key} of quantus:{name}", text, known)
    found: Callable[..., Any] = known[text]
    return found


def placed(scene: Scene, row: Evidence) -> tuple[list[int], Tensor]:
    """The samples that localisation can judge, and the positive parts (B, H, W) of all maps."""
    positive, inside = row.map.clamp(min=0), target(scene).mean(1)
    judged = (inside > 0) & (inside < 1) & (positive.flatten(1).amax(1) > 0)
    return judged.nonzero()[:, 0].tolist(), positive


def quarters(scene: Scene) -> Any:
    """Which tiles (B, 4) of 2 x 2 mosaics show the class."""
    if not mosaic(scene):
        raise Unsupported("needs 2 x 2 mosaics: a mask here is no union of quarters of its image")
    halves = [half.chunk(2, 2) for half in target(scene).reshape(-1, *image(scene)).chunk(2, 1)]
    return torch.stack([tile.flatten(1).amax(1) for half in halves for tile in half], 1).long().numpy()
