"""A network and the samples on which it is explained, made from data alone and checked before anything is explained.

The samples are normalised as the network wants them. What costs time (calibration samples, hashes, the accuracy) is
computed when first used, because a worker seldom needs all of it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from mibench.errors import DataError, ModelError
from mibench.files.reading import noting
from mibench.information.pointwise import agreement, of_class
from mibench.models import trained
from mibench.models.kept import kept
from mibench.models.weights import check_finite
from mibench.network.devices import precision_of
from mibench.network.probe import OpenProbe, open_probe
from mibench.network.untouched import Seen, digests
from mibench.plugins import registry
from mibench.plugins.contract import SMALLEST, Data, DataNotice, Kind, Model, Samples, Split, Truth
from mibench.record import fingerprint
from mibench.record.cells import TaskSpec

HELD_OUT = 1000  # samples for the accuracy, if there are as many
BATCH = 64


def make_task(spec: TaskSpec, device: str = "cpu", precision: str = "fp32") -> Task:
    """Load the network and open it; samples are loaded when first used."""
    precision_of(precision, device)
    model = trained.of(registry.model(spec.model), spec.network, retrain=spec.retrain)
    check_shape(model)
    data = registry.data(spec.data or model.data)
    with noting() as files:
        probe = opened(model, data.classes, device, precision)
    outputs, classes = probe.logits(probe.network.example()).shape[1], len(data.classes)
    if outputs != classes:
        raise DataError(
            f"{registry.label(data)} has {classes} classes and {spec.model} gives {outputs}: "
            "choose a network for these data, or data with the network's classes"
        )
    return Task(spec, model, data, probe, precision, files=tuple(files))


def opened(model: Model, classes: tuple[str, ...], device: str = "cpu", precision: str = "fp32") -> OpenProbe:
    """The model's network at its cut points, or the error that its weights or its answers cannot be used."""
    exactness = precision_of(precision, device)
    network = model.load()
    for name, tensor in network.state_dict().items():
        check_finite(tensor, name, registry.label(model))
    return open_checked(
        network,
        registry.label(model),
        kind=model.kind,
        local=model.local,
        representation=model.representation,
        depths=model.depths,
        shape=model.shape,
        classes=classes,
        device=device,
        autocast=exactness.autocast,
        tolerance=exactness.tolerance,
    )


def open_checked(
    network: nn.Module,
    name: str,
    *,
    kind: Kind,
    local: str,
    representation: str,
    depths: tuple[str, ...],
    shape: tuple[int, ...],
    classes: tuple[str, ...],
    device: torch.device | str,
    autocast: torch.dtype | None = None,
    tolerance: float | None = None,
) -> OpenProbe:
    """A network at its cut points, after a look at its answers; errors call it by its name."""
    network.to(device)
    try:
        check_repeatable(network, name, shape, device)
        return open_probe(
            network,
            kind=kind,
            local=local,
            representation=representation,
            depths=depths,
            shape=shape,
            classes=classes,
            device=device,
            autocast=autocast,
            tolerance=tolerance,
        )
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # from the network's own forward
        raise ModelError(
            f"{name} cannot take an input of {'x'.join(map(str, shape))} or does not return a tensor of logits "
            f"({' '.join(str(error).split())[:160]}): correct its shape or its forward"
        ) from error


@dataclass(frozen=True, eq=False)
class Task:
    """One network on one data set."""

    spec: TaskSpec
    model: Model
    data: Data
    probe: OpenProbe
    precision: str = "fp32"
    data_notices: list[str] = field(default_factory=list)  # what the data report about the samples that were loaded
    files: tuple[Path, ...] = ()  # that its weights were read from
    seen: Seen = field(default_factory=Seen)  # what network and samples were like when an explainer last got them

    @property
    def name(self) -> str:
        """The task's name on boards."""
        return f"{registry.label(self.data)}/{registry.shown(registry.label(self.model))}"

    @cached_property
    def calibration(self) -> Samples:
        """What explainers are fitted on."""
        return self._load("calibration", self.spec.calibration)

    @cached_property
    def scoring(self) -> Samples:
        """What is explained and scored."""
        return self._load("scoring", self.spec.samples)

    @cached_property
    def network_beliefs(self) -> Mapping[str, Tensor] | None:
        """What the network makes of hidden sources, kept for a network and its data (`Data.network_beliefs`)."""
        module = fingerprint.sources([type(self.data).__module__])
        where = self.probe.device.type if self.precision == "fp32" else f"{self.probe.device.type} {self.precision}"
        made = f"{self.name} {self.spec.samples} {self.weights_hash} {module} {where}"
        return kept(f"beliefs-{_digest([made.encode()])}", self._network_beliefs)

    def _network_beliefs(self) -> dict[str, Tensor] | None:
        with torch.no_grad():
            found = self.data.network_beliefs(self.probe, self.normalise, "scoring", len(self.scoring))
        return None if found is None else {name: each.float() for name, each in found.items()}

    @cached_property
    def truth(self) -> Truth | None:
        """What is known of the scoring samples; the claims are computed from the network where the data can do so."""
        truth = self.scoring.truth
        if truth is None or self.network_beliefs is None:
            return truth
        beliefs = self.network_beliefs["beliefs"]
        claims = {name: truth.placed(nats).float() for name, nats in of_class(beliefs, self.target).items()}
        return replace(truth, information={**truth.information, **claims}, network=beliefs)

    @cached_property
    def truth_figures(self) -> dict[str, float]:
        """In nats: how far the network's own truth is from the data's, how well it is known, what the network leaks."""
        asked, truth = self.network_beliefs, self.truth
        if asked is None or truth is None or truth.beliefs is None:
            return {}
        return agreement(truth.beliefs, asked["beliefs"], asked["errors"], asked["outside"], self.target)

    @cached_property
    def target(self) -> Tensor:
        """The explained class of each scoring sample, (N,): the network's prediction, or the label."""
        return self.scoring.label if self.data.targets == "label" else self.predictions(self.scoring.x)

    @property
    def accuracy(self) -> float:
        """The share of held-out samples that the network gets right."""
        label, prediction = self.held_out
        return float((label == prediction).double().mean())

    @cached_property
    def held_out(self) -> tuple[Tensor, Tensor]:
        """Label and predicted class of each held-out sample, (H,): the scored ones, then others, up to HELD_OUT.

        A network with a floor was trained by us on the training split; for all others no split is known to be learned.
        """
        splits: tuple[Split, ...] = ("scoring", "calibration") if self.model.floor else get_args(Split)[::-1]
        labels, predictions = [], []
        seen, wanted = 0, max(HELD_OUT, self.spec.samples)
        for split in splits:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataNotice)  # of samples that are neither explained nor learned from
                raw = self.data.load(split, wanted - seen, self.model.shape)
            if len(raw):
                check_samples(raw, self)
                labels.append(raw.label)
                predictions.append(self.predictions(self.normalise(raw.x.float())))
                seen += len(raw)
            if seen >= wanted:
                break
        return torch.cat(labels), torch.cat(predictions)

    @cached_property
    def first_logits(self) -> Tensor:
        """The network's answers to the first scoring samples, (B, classes)."""
        with torch.no_grad():
            return self.probe.logits(self.scoring.x[:BATCH]).cpu()

    @cached_property
    def baselines(self) -> dict[str, Tensor]:
        """What may take the place of the scoring samples' features, in the network's normalised space."""
        x = self.scoring.x
        return baselines_of(x, self.calibration.x, self.normalise(torch.zeros_like(x)))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the samples that is in memory, by a name, so that changes to them can be seen."""
        here = vars(self)
        found: dict[str, Tensor] = {}
        for split in ("calibration", "scoring"):
            if split in here:
                found |= _named(split, here[split])
        found |= {f"baseline {name}": each for name, each in here.get("baselines", {}).items()}
        judged = here["truth"].tensors if here.get("truth") else {}
        found |= {f"truth's {name}": each for name, each in judged.items()}
        return found | ({"target": here["target"]} if "target" in here else {})

    @cached_property
    def weights_hash(self) -> str:
        """A hash of the network's parameters and buffers and of where it is cut."""
        cut = f"{self.model.local} {self.model.representation} {self.model.depths}"
        state = self.probe.model.state_dict()
        return _digest(
            [cut.encode(), *(part for name in sorted(state) for part in (name.encode(), _bytes(state[name])))]
        )

    @cached_property
    def data_hash(self) -> str:
        """A hash of the calibration and scoring samples, with all that is known of them and of the network on them."""
        parts = []
        for samples in (self.calibration, self.scoring):
            parts += [_bytes(samples.x), _bytes(samples.label), " ".join(samples.ids).encode()]
            parts += [b"" if samples.mask is None else _bytes(samples.mask)]
            if samples.truth:
                parts += [_bytes(each) for _, each in sorted(samples.truth.information.items())]
        if self.truth is not None and self.truth.network is not None:
            parts += [_bytes(self.truth.network)]
        return _digest(parts)

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw samples as the network wants them."""
        return normalised(raw, self.model.mean, self.model.std)

    def predictions(self, x: Tensor) -> Tensor:
        """The class that the network gives each sample, (N,)."""
        with torch.no_grad():
            return torch.cat([self.probe.logits(part).argmax(1).cpu() for part in torch.split(x, BATCH)])

    def _load(self, split: Split, count: int) -> Samples:
        """The first samples of a split, normalised and checked."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataNotice)
            raw = self.data.load(split, count, self.model.shape)
        for each in caught:
            if issubclass(each.category, DataNotice):
                self.data_notices.append(f"{split}: {each.message}")
            else:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        if len(raw) == 0:
            raise DataError(f"{registry.label(self.data)} has no samples in its {split} split; give it more")
        check_samples(raw, self)
        loaded = replace(raw, x=self.normalise(raw.x.float()))
        self.seen.samples.update(digests(_named(split, loaded)))
        return loaded


def baselines_of(x: Tensor, reference: Tensor, black: Tensor) -> dict[str, Tensor]:
    """What may take the place of the features of x, each like x: of other samples the mean and the range; black."""
    channels = [0, *range(2, x.dim())]
    shape = (1, -1, *[1] * (x.dim() - 2))
    mean = reference.mean(channels).reshape(shape)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(x.shape[1:], generator=generator)  # one and the same noise for all samples
    low, high = reference.amin(channels).reshape(shape), reference.amax(channels).reshape(shape)
    baselines = {"mean": mean.expand_as(x), "uniform": (low + (high - low) * drawn).expand_as(x)}
    if x.dim() == 4:
        from torchvision.transforms.functional import gaussian_blur  # slow to import, and not always wanted

        size = 2 * max(1, min(x.shape[-2:]) // 8) + 1
        baselines |= {"blur": gaussian_blur(x, [size, size]), "black": black}
    return {name: each.contiguous() for name, each in baselines.items()}


def normalised(raw: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Raw samples (N, …) less a mean and over a deviation, one number a channel or one for all."""
    average, deviation = (torch.tensor(figures).reshape(-1, *[1] * (raw.dim() - 2)) for figures in (mean, std))
    return (raw - average) / deviation


def check_shape(model: Model) -> None:
    """Refuse an input too small to be an image: a picture file of so few pixels a side is refused as well."""
    if len(model.shape) == 3 and min(model.shape[1:]) < SMALLEST:
        shape = "x".join(map(str, model.shape))
        raise ModelError(
            f"{registry.label(model)}: an input of {shape} (channels x height x width) is too small for an image, "
            f"whose patches are explained and removed: give a shape of at least {SMALLEST} pixels a side"
        )


def check_repeatable(network: nn.Module, name: str, shape: tuple[int, ...], device: torch.device | str) -> None:
    """Refuse a network whose outputs are not finite, or differ the second time."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((2, *shape), generator=generator).to(device)
    with torch.no_grad():
        first, second = network(x), network(x)
    if not isinstance(first, Tensor):
        raise ModelError(
            f"{name} returns a {type(first).__name__}, not one tensor of logits (samples, classes): let "
            "its forward return the logits alone"
        )
    first, second = first.float(), second.float()
    if first.dim() != 2:
        raise ModelError(
            f"{name} returns a tensor of shape {tuple(first.shape)} for two inputs, not logits "
            "(2, classes): correct its forward"
        )
    if not first.isfinite().all():
        raise ModelError(
            f"{name}: its logits of an ordinary input are NaN or infinite: load weights that do not overflow"
        )
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-4):  # some CUDA kernels add in any order
        raise ModelError(
            f"{name}: two forwards of the same input differ in eval mode; explanations of it cannot "
            "be compared: remove what is random in its forward"
        )


def check_samples(samples: Samples, task: Task) -> None:
    """Refuse samples of another shape, labels outside the classes, and values that are not finite."""
    name = registry.label(task.data)
    if tuple(samples.x.shape[1:]) != tuple(task.model.shape):
        given, wanted = ("x".join(map(str, shape)) for shape in (samples.x.shape[1:], task.model.shape))
        raise DataError(f"{name} gives samples of {given}, but {task.spec.model} expects {wanted}")
    outside = (samples.label < 0) | (samples.label >= len(task.data.classes))
    if outside.any():
        index = int(outside.nonzero()[0])
        label, classes = int(samples.label[index]), len(task.data.classes)
        raise DataError(f"{name}: sample {samples.ids[index]!r} has the label {label}, outside the {classes} classes")
    finite = samples.x.isfinite().flatten(1).all(1)
    if not finite.all():
        bad = samples.ids[int((~finite).nonzero()[0])]
        raise DataError(f"{name}: sample {bad!r} holds NaN or infinite values; correct or remove it")


def _named(split: str, samples: Samples) -> dict[str, Tensor]:
    """The tensors of a split's samples by names that no other split's have."""
    return {f"{split} {name}": each for name, each in _tensors(samples).items()}


def _tensors(samples: Samples) -> dict[str, Tensor]:
    """The tensors of samples by their names."""
    known = samples.truth.tensors if samples.truth else {}
    mask = {} if samples.mask is None else {"mask": samples.mask}
    return {"x": samples.x, "label": samples.label, **mask, **known}


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:24]
