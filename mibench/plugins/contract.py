"""What a plug-in must be: the types that every run passes through. Imports nothing of ours but the errors.

An `Explainer` turns samples of a network opened by a `Probe` into named maps; a `Metric` turns maps into
one score a sample. Everything that the harness must know about either (unit, direction, range, what is
needed) is data on the class, so no code elsewhere ever depends on a plug-in's name.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Protocol, Self, TypeAlias, final, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import TypeVar

from mibench.errors import UsageError

if TYPE_CHECKING:  # what plans a run reads this file too, and needs no tensor
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor, nn

Kind = Literal["grid", "tokens", "columns"]
Unit = Literal["none", "nats", "bits"]
Role = Literal["decision", "total", "redundant", "mask"]
Claim = Literal[
    "marginal", "conditional", "additive"
]  # what a number of nats at a cell may mean: information.pointwise
CLAIMS: tuple[Claim, ...] = get_args(Claim)
Family = Literal[
    "faithfulness", "localisation", "randomisation", "robustness", "complexity", "information", "completeness"
]
Direction = Literal["higher", "lower"]
VARIANTS = (  # the maps that the sanity checks compare: of another class, of the logit less the mean logit (of the same
    "other-class",  # class and of another), of random weights, and of a second run
    "centred",
    "centred-other-class",
    "random-weights",
    "repeat",
)
PERTURBED = "perturbed"  # whoever needs it gets the variants "perturbed:1", … of noisy inputs (`network.noise`)
SMALLEST = 8  # pixels along the shorter side under which nothing is to be seen


class Unsupported(Exception):
    """Raised by a plug-in that cannot treat this network or these data; the harness writes a `skipped` row."""


class Parameters(BaseModel):
    """Typed parameters of a plug-in, written `name[key=value,…]`; the paper's values are the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


P_co = TypeVar("P_co", bound=Parameters, default=Parameters, covariant=True)  # the default has no parameters
Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None


class Configured(Generic[P_co]):
    """What has parameters: `class Iba(FittedExplainer[Parameters])` names their class, `Iba(beta=5)` sets them."""

    Parameters: type[P_co]
    parameters: P_co

    def __init_subclass__(cls, **more: object) -> None:
        """Find the parameters' class in the brackets of a base class, and show its fields as those of `__init__`."""
        super().__init_subclass__(**more)
        inside = [each for base in vars(cls).get("__orig_bases__", ()) for each in get_args(base)]
        for each in inside:
            if inspect.isclass(each) and issubclass(each, Parameters) and "Parameters" not in vars(cls):
                cls.Parameters = each  # type: ignore[assignment]  # what the brackets name is P_co
        argument = [each for name, each in inspect.signature(cls.__init__).parameters.items() if name == "argument"]
        fields = inspect.signature(cls.Parameters).parameters.values()
        cls.__signature__ = inspect.Signature([*argument, *fields])  # type: ignore[attr-defined]

    def __init__(self, parameters: P_co | None = None, **values: object) -> None:
        if parameters is not None and (values or not isinstance(parameters, Parameters)):
            raise UsageError(
                f"{type(self).__name__} takes its parameters by name: {type(self).__name__}{_fields(self)}"
            )
        try:
            self.parameters = self.Parameters(**values) if parameters is None else parameters
        except ValidationError as error:
            raise UsageError(_refusal(self, error, values)) from error

    def __repr__(self) -> str:
        """The call that makes it again; parameters that have their defaults are left out."""
        changed = (f"{name}={value!r}" for name, value in self.parameters.model_dump(exclude_defaults=True).items())
        return f"{type(self).__name__}({', '.join(changed)})"


Configured.Parameters = Parameters  # type: ignore[misc]  # where no brackets are


def _fields(plugin: Configured) -> str:
    """The parameters as a call of the class shows them."""
    return f"({', '.join(f'{name}=…' for name in plugin.Parameters.model_fields)})"


def _refusal(plugin: Configured, error: ValidationError, values: Mapping[str, object]) -> str:
    """What is wrong with the first parameter that is wrong, in one line."""
    first, owner = error.errors()[0], type(plugin).__name__
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"{owner} has no parameter {key!r}: write {owner}{_fields(plugin)}"
    given = ", ".join(f"{name}={value!r}" for name, value in values.items() if key in ("", name))
    return f"{owner}({given}) is not possible: {first['msg'].removeprefix('Value error, ')}"


@dataclass(frozen=True)
class Truth:
    """What is known about each sample because we made it.

    `cells` has the role of each grid cell; `information` gives amounts in nats for each cell, where they are known:
    of the representation (y, r) total, decision and redundant; of the explained class y the three claims that a map
    can make. The claims follow from `beliefs`, p(c | x_S) for every class and every subset S of the K cells `sources`
    that are informative of the class, so that they can be computed for any class.
    """

    grid: tuple[int, int]
    cells: Mapping[str, Tensor]  # role of a cell ("signal", "redundant", …) -> (N, h, w) bool
    information: Mapping[str, Tensor]  # "total" | "decision" | "redundant" | a claim -> (N, h, w) nats
    sources: Tensor | None = None  # (N, K) places of the informative cells, row by row
    beliefs: Tensor | None = None  # (N, 2^K, C) of an ideal observer; bit k of a subset's number: source k is seen
    network: Tensor | None = None  # the same of the explained network: the mean of its probabilities

    def __getitem__(self, index: slice) -> Truth:
        return self.changed(lambda tensor: tensor[index])

    def changed(self, change: Callable[[Tensor], Tensor]) -> Truth:
        """The same of every tensor changed."""
        optional = (None if each is None else change(each) for each in (self.sources, self.beliefs, self.network))
        cells = {name: change(each) for name, each in self.cells.items()}
        return Truth(self.grid, cells, {name: change(each) for name, each in self.information.items()}, *optional)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by a name."""
        optional = {"sources": self.sources, "beliefs": self.beliefs, "network's beliefs": self.network}
        there = {name: each for name, each in optional.items() if each is not None}
        return {**self.cells, **{f"{name} (nats)": each for name, each in self.information.items()}, **there}

    @property
    def judge(self) -> Tensor:
        """The beliefs by which maps are judged: the network's where they are known, for it is what is explained."""
        beliefs = self.beliefs if self.network is None else self.network
        assert beliefs is not None
        return beliefs

    def placed(self, values: Tensor) -> Tensor:
        """Values of the sources (N, K) on the grid (N, h, w); all other cells hold 0."""
        assert self.sources is not None
        flat = values.new_zeros(len(values), self.grid[0] * self.grid[1])
        return flat.scatter(1, self.sources, values).reshape(-1, *self.grid)


@dataclass(frozen=True)
class Samples:
    """Inputs in the model's normalised space, with what is known of them."""

    x: Tensor  # (N, C, H, W), or (N, F) for tables
    label: Tensor  # (N,) int64
    ids: tuple[str, ...]  # one stable name a sample
    mask: Tensor | None = None  # (N, H, W) bool: where the explained class is, if known
    truth: Truth | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice) -> Samples:
        truth = None if self.truth is None else self.truth[index]
        mask = None if self.mask is None else self.mask[index]
        return Samples(self.x[index], self.label[index], self.ids[index], mask, truth)


@dataclass(frozen=True)
class Features:
    """One forward pass, opened at the two cut points."""

    local: Tensor  # as the layer gives it: (B, C, h, w), (B, T, C) or (B, F)
    representation: Tensor  # (B, D)
    logits: Tensor  # (B, classes)


class Probe(Protocol):
    """A network in eval mode, its parameters frozen, opened at a local layer and at a representation."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def local(self) -> str: ...  # the local layer's name; "input" for the input itself
    @property
    def depths(self) -> tuple[str, ...]: ...  # clean cut points from shallow to deep, `local` among them
    @property
    def shape(self) -> tuple[int, ...]: ...  # of one input: (C, H, W) or (F,)
    @property
    def grid(self) -> tuple[int, int]: ...  # (h, w) of the local features; tables are (1, F)
    @property
    def pixels(self) -> tuple[int, int]: ...  # (H, W) of the input; tables are (1, F)
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def device(self) -> torch.device: ...

    def logits(self, x: Tensor) -> Tensor: ...
    def features(self, x: Tensor) -> Features: ...
    def resume(self, local: Tensor) -> Features: ...  # the layers after the cut only
    def cells(self, local: Tensor) -> Tensor: ...  # (B, K, C), K = h * w in row-major order
    def replace(self, local: Tensor, cells: Tensor) -> Tensor: ...  # the inverse: local with other cells
    def upsample(self, grid: Tensor) -> Tensor: ...  # (B, h, w) -> (B, H, W), bilinear
    def at(self, layer: str) -> Probe: ...  # the same network, cut elsewhere


@dataclass(frozen=True)
class MapSpec:
    """What one named map claims to be."""

    name: str
    role: Role = "decision"
    unit: Unit = "none"
    signed: bool = False  # negative values speak against the class; False: the map is never negative
    claim: Claim | None = None  # which truth the map's nats or bits are to be held against; None: it claims none


@dataclass(frozen=True)
class Explanation:
    """Maps of a batch by name, (B, H, W) at input resolution, and what else was measured of each sample."""

    maps: Mapping[str, Tensor]
    facts: Mapping[str, Tensor] = field(default_factory=dict)  # name -> (B,) figures: total bits, convergence …
    signals: Mapping[str, Tensor] = field(default_factory=dict)  # name -> (B, …) in input space: a source signal …


@dataclass(frozen=True)
class State:
    """What fitting learned: tensors (saved as safetensors) and facts (saved as JSON)."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Json] = field(default_factory=dict)


class Maps(Protocol):
    """An explanation to be looked at: `maps["map"]`, units, facts, and a figure."""

    @property
    def maps(self) -> Mapping[str, Tensor]: ...
    @property
    def facts(self) -> Mapping[str, Tensor]: ...
    @property
    def units(self) -> Mapping[str, Unit]: ...
    def __getitem__(self, name: str) -> Tensor: ...  # (B, H, W)
    def plot(self, samples: int = 4) -> Figure: ...


class Opened(Protocol):
    """A network as `mibench.open` gives it: it lets one explainer or metric do what a run lets it do."""

    def fit(self, explainer: Explainer, x: Tensor | None, y: Tensor | None, seed: int) -> None: ...
    def explain(
        self, explainer: Explainer, x: Tensor, target: Tensor | int | None, seed: int | Sequence[int]
    ) -> Maps: ...
    def score(
        self,
        metric: Metric,
        x: Tensor,
        y: Tensor | int,
        map: Tensor | Maps,
        reference: Tensor | None,
        mask: Tensor | None,
        seed: int | Sequence[int],
    ) -> Tensor: ...


class Explainer(Configured[P_co], ABC):
    """One way of explaining. `maps[0]` is the map that the authors use to explain decisions.

    A concrete explainer is final, sets the class data, and writes `explain`; one that learns first derives
    from `FittedExplainer`. Randomness comes only from `seeds` (one a sample), so that a sample's map does not
    depend on its batch. The network must be left as it was found, even after an error.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str] = ""
    maps: ClassVar[tuple[MapSpec, ...]] = (MapSpec("map"),)
    control: ClassVar[bool] = False  # controls are shown but never ranked
    seeded: ClassVar[bool] = True  # False: the same fit and the same maps whatever the seed, so that one seed is run
    of_class: ClassVar[bool] = True  # False: maps of a representation, the same whatever the class; no class gate

    network: Opened | None = None  # that `fit` was given

    def __init_subclass__(cls, **more: object) -> None:
        """Refuse a class that puts something else in the place of what is final."""
        super().__init_subclass__(**more)
        if taken := {"fit", "__call__"} & vars(cls).keys():
            raise TypeError(f"{cls.__name__} defines {taken.pop()}, which is final: what learns is named `learn`")

    @abstractmethod
    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        """Explain why the network gives `target` (B,) on `x`."""

    @final
    def fit(self, network: Opened, x: Tensor | None = None, y: Tensor | None = None, *, seed: int = 0) -> Self:
        """Learn from calibration samples x (N, …) with labels y (N,), if it learns at all; returns itself, ready."""
        network.fit(self, x, y, seed)
        self.network = network
        return self

    @final
    def __call__(self, x: Tensor, target: Tensor | int | None = None, *, seed: int | Sequence[int] = 0) -> Maps:
        """Explain the classes `target` (B,), one for all, or those predicted; with a seed, or one a sample."""
        if self.network is None:
            raise UsageError(f"{type(self).__name__} is not fitted: call fit(network, x, y) before it explains")
        return self.network.explain(self, x, target, seed)


class FittedExplainer(Explainer[P_co]):
    """An explainer that learns from calibration data before it explains."""

    @property
    def learner(self) -> FittedExplainer:
        """The explainer whose `learn` gives this one's state: itself, unless another learns exactly the same.

        Explainers whose learners have the same parameters are fitted once a run and restore the same state.
        """
        return self

    @abstractmethod
    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        """Learn from calibration samples, which are on the CPU (the probe moves them); return what `explain` needs."""

    @abstractmethod
    def restore(self, probe: Probe, state: State) -> None:
        """Make ready to explain with what `learn` returned, in this process or another."""


class Known(Explainer[P_co]):
    """A control that explains nothing and shows what is known of a task's own samples: a map as good as they come."""

    control = True
    seeded = False
    of_class = False

    @abstractmethod
    def show(self, probe: Probe, samples: Samples, target: Tensor) -> Explanation:
        """What is known of these samples and of the class `target` (B,) of each, or `Unsupported`."""

    @final
    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        raise Unsupported("it shows what is known of a task's samples and explains nothing")


class Wrapper(ABC):
    """A row made from another explainer's maps, written `wrapper:inner` (for example an inverted control)."""

    name: ClassVar[str]
    title: ClassVar[str]
    control: ClassVar[bool] = True

    @abstractmethod
    def wrap(self, explanation: Explanation, spec: MapSpec) -> Explanation:
        """Change the inner explainer's map named `spec.name` (the only one in `explanation.maps`)."""


@dataclass(frozen=True)
class Evidence:
    """What a metric may see of one row of the board: saved maps, never the explainer."""

    map: Tensor  # (B, H, W) float32, finite, divided by its own largest magnitude (per image)
    raw: Tensor  # (B, H, W) as explained, in `spec.unit`
    spec: MapSpec
    siblings: Mapping[str, Tensor] = field(default_factory=dict)  # every map of the same explainer, raw
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    variants: Mapping[str, Tensor] = field(default_factory=dict)  # variant -> raw maps of the first V samples


@dataclass(frozen=True)
class Scene:
    """The samples on which all explainers are scored, with the network as a function.

    `predict` takes any number of inputs in the model's normalised space and returns logits (n, classes) on the
    CPU; it batches, counts and never tracks gradients. `baselines` are named full-size replacements for x.
    """

    x: Tensor  # (B, C, H, W) or (B, F), CPU float32
    label: Tensor  # (B,)
    target: Tensor  # (B,) the explained class
    predict: Callable[[Tensor], Tensor]
    probe: Probe
    baselines: Mapping[str, Tensor]  # "mean" (the default) | "blur" | "black" | "uniform" -> like x
    seeds: tuple[int, ...]  # one a sample
    mask: Tensor | None = None
    truth: Truth | None = None
    shared: dict[object, object] = field(default_factory=dict, init=False, repr=False, compare=False)  # by metrics


Split = Literal["training", "calibration", "scoring"]
Normalise = Callable[["Tensor"], "Tensor"]  # raw inputs as a model wants them


class DataNotice(UserWarning):
    """What the user should know of samples: `load` may warn of it, and the run shows it before it computes."""


class Data(Configured[P_co], ABC):
    """A source of samples with fixed, disjoint splits, written `name`, `name[key=value]` or `name:argument`.

    Samples come raw (images in [0, 1], tables in their own units); the model that looks at them normalises.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    targets: ClassVar[Literal["prediction", "label"]] = "prediction"  # the class that is explained

    def __init__(self, parameters: P_co | None = None, argument: str = "", **values: object) -> None:
        super().__init__(parameters, **values)
        self.argument = argument

    @property
    def paths(self) -> tuple[str, ...]:
        """The files and folders that it reads: those of the user, which must be there."""
        return ()

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]: ...

    @abstractmethod
    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first `count` samples of a split (None: all), at the model's input shape (C, H, W) or (F,)."""

    def network_beliefs(
        self, probe: Probe, normalise: Normalise, split: Split, count: int
    ) -> Mapping[str, Tensor] | None:
        """Where the data can hide their sources: p_net(c | x_S) of a network for the first samples of a split.

        "beliefs" (N, 2^K, C), their standard "errors", and "outside" (N, C), its mean over all that is not a source.
        """
        return None


class Model(Configured[P_co], ABC):
    """A network of the zoo with its cut points, its preprocessing and the way to get its weights."""

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[Kind] = "grid"
    floor: ClassVar[float] = 0.0  # the accuracy under which a trained network is refused
    takes: ClassVar[str] = ""  # what must follow the name and a colon
    architecture: ClassVar[str] = ""  # its kind (cnn, vgg, residual, vit, mlp …), which what is known of scores is for

    def __init__(self, parameters: P_co | None = None, argument: str = "", **values: object) -> None:
        super().__init__(parameters, **values)
        self.argument = argument

    shape: tuple[int, ...]  # (C, H, W) or (F,)
    local: str  # the layer whose output is cut into local features ("input" for tables)
    representation: str  # the layer whose (flattened) output is z; LAYER.input: what goes into it
    depths: tuple[str, ...]  # clean cut points, shallow to deep
    data: str  # the data it learned from, and is explained on by default
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that its weights are read from: those of the user, which must be there."""
        return ()

    @abstractmethod
    def load(self) -> nn.Module:
        """The trained network (trained and cached on first use, or from weights), in eval mode, parameters frozen."""


class Metric(Configured[P_co], ABC):
    """One score a sample for each row of the board. Direction, range and unit are data, and tested."""

    name: ClassVar[str]
    title: ClassVar[str]
    family: ClassVar[Family]
    direction: ClassVar[Direction]
    range: ClassVar[tuple[float, float]]
    unit: ClassVar[str] = ""
    version: ClassVar[int] = 1
    paper: ClassVar[str] = ""
    default: ClassVar[bool] = True  # in the default set of METRICS; False: offered
    needs: ClassVar[frozenset[str]] = frozenset()  # mask, truth, image, signals:NAME, map:NAME, VARIANTS, PERTURBED
    no_score: ClassVar[str] = "the metric gives no number for this sample"  # the reason where a score is NaN
    chance: ClassVar[float | None] = None  # the expected score of a random map, where it is known
    gate: ClassVar[bool] = False  # a sanity check, or a number without a direction: shown, not ranked
    limit: ClassVar[float] = 0.9  # of a gate that is a similarity: up to here it is passed …
    fails: ClassVar[float | None] = None  # … and from here on failed; None: there is nothing between
    judged: ClassVar[Literal["limit", "panel", "never"]] = "limit"  # by that, by the panel's limit, or only shown
    takes: ClassVar[str] = ""  # what must follow the name and a colon, which `__init__` gets as `argument`

    @final
    def __call__(
        self,
        network: Opened,
        x: Tensor,
        y: Tensor | int,
        map: Tensor | Maps,
        *,
        reference: Tensor | None = None,
        mask: Tensor | None = None,
        seed: int | Sequence[int] = 0,
    ) -> Tensor:
        """The scores (B,) of maps that explain the classes y of x; NaN where no score can be given.

        `reference` are samples whose mean takes the place of what is removed (x itself where none are given), `mask`
        (B, H, W) is where the class is.
        """
        return network.score(self, x, y, map, reference, mask, seed)

    @abstractmethod
    def score(self, scene: Scene, rows: Mapping[str, Evidence]) -> Mapping[str, Tensor]:
        """Score every row on the same samples: (B,) each, NaN where no score can be given (`no_score` has the reason).

        Rows come together so that perturbed inputs can be shared; a row's scores must not depend on the others.
        """
