"""`mibench.open`: a network at its cut points, ready for explainers and metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mibench.api import scenes
from mibench.api.borrowing import borrowed, device_of
from mibench.api.checking import check_inputs, seeds_of, shape_text, targets_of
from mibench.api.maps import Maps
from mibench.errors import MibenchError, ModelError, UsageError
from mibench.models import layers
from mibench.network.devices import numerics
from mibench.network.probe import OpenProbe, refuse_unknown
from mibench.plugins import contract, registry
from mibench.plugins.contract import Explainer, Explanation, FittedExplainer, Kind, Metric, Samples, Split
from mibench.run.explaining import in_batches, plain_state
from mibench.run.scoring import predictor
from mibench.run.task import normalised, open_checked

Numbers = Sequence[float]


def open(
    model: nn.Module | str,
    *,
    local: str = "",
    representation: str = "",
    classes: Sequence[str] = (),
    depths: Sequence[str] = (),
    shape: Sequence[int] = (),
    mean: Numbers = (0.0,),
    std: Numbers = (1.0,),
    name: str = "",
) -> Net:
    """A network for explainers and metrics: any nn.Module, or the name of one of the zoo such as "resnet18".

    It is used in eval mode with frozen parameters, on the device that it is on, and left as it was found. `local` is
    the layer whose output is cut into local features ("input" for the input itself), `representation` the layer
    whose output is z, `LAYER.input` what goes into a layer; what is not named is proposed, as by `mibench layers`.
    `shape` is that of one input; where it is not given, that of the first samples. `mean` and `std`, one number a
    channel, are the statistics that normalised the samples, so that black can replace what is removed. `name` is
    the name of the network in tables.
    """
    if isinstance(model, str):
        network, cuts, label = _of_the_zoo(
            model, Cuts(local, representation, tuple(depths), tuple(shape), tuple(classes))
        )
        return Net(network, cuts, name or label)
    if not isinstance(model, nn.Module):
        raise UsageError(f"mibench.open takes a torch.nn.Module or a network's name, not {type(model).__name__}")
    device_of(model)
    refuse_unknown(model, *filter(None, (local, representation, *depths)))
    cuts = Cuts(local, representation, tuple(depths), tuple(shape), tuple(classes), tuple(mean), tuple(std))
    return Net(model, cuts, name or type(model).__name__)


@dataclass(frozen=True)
class Cuts:
    """What is known of a network; what is empty is found out when it is opened."""

    local: str = ""
    representation: str = ""
    depths: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    kind: Kind | None = None
    data: str = ""  # what the network learned from


def _of_the_zoo(spec: str, given: Cuts) -> tuple[nn.Module, Cuts, str]:
    """A network of the zoo, opened where its authors open it unless other layers are given."""
    zoo = registry.model(spec)
    try:
        classes = given.classes or registry.data(zoo.data).classes
    except MibenchError:  # data that the user must name, such as a folder of pictures
        classes = ()
    known = Cuts(
        given.local or zoo.local,
        given.representation or zoo.representation,
        given.depths or (() if given.local else zoo.depths),
        given.shape or zoo.shape,
        classes,
        zoo.mean,
        zoo.std,
        None if given.local else zoo.kind,
        zoo.data,
    )
    return zoo.load(), known, registry.label(zoo)


class Net:
    """A network as explainers and metrics meet it; `mibench.open` makes one."""

    def __init__(self, model: nn.Module, cuts: Cuts, name: str) -> None:
        self.model, self.cuts, self.name = model, cuts, name
        self._probe: OpenProbe | None = None
        self._versions: list[int] = []

    def __repr__(self) -> str:
        if self._probe is None:
            return f"<{self.name}, to be opened by its first samples>"
        probe = self._probe
        places = f"{probe.local} and {probe.network.representation}"
        return f"<{self.name} at {places}: inputs {shape_text(probe.shape)}, {len(probe.classes)} classes>"

    def probe(self, x: Tensor) -> OpenProbe:
        """The network opened for samples like these; it is opened once."""
        shape, device = tuple(check_inputs(x).shape[1:]), device_of(self.model)
        if self._probe is None:
            self._probe = self._opened(self.cuts.shape or shape, device)
            self._versions = self._changes()
        if shape != self._probe.shape:
            given, wanted = shape_text(shape), shape_text(self._probe.shape)
            raise UsageError(f"x holds samples of {given}, but {self.name} was opened for {wanted}: open it again")
        if (self._changes(), device) != (self._versions, self._probe.device):
            raise ModelError(f"{self.name} has been trained or moved since it was opened: open it again, and fit again")
        return self._probe

    def _changes(self) -> list[int]:
        """How often each parameter was written, and where it is: training and moving show."""
        return [number for each in self.model.parameters() for number in (each._version, each.data_ptr())]

    def _opened(self, shape: tuple[int, ...], device: torch.device) -> OpenProbe:
        cuts = self.cuts
        with borrowed(self.model):
            found = layers.proposal(self.model, self.name, shape, cuts.local, cuts.representation)
            if cuts.classes and len(cuts.classes) != found.classes:
                raise UsageError(f"{len(cuts.classes)} classes are named, but {self.name} has {found.classes}")
            return open_checked(
                self.model,
                self.name,
                kind=cuts.kind or found.kind,
                local=found.local,
                representation=found.representation,
                depths=cuts.depths,
                shape=shape,
                classes=cuts.classes or tuple(f"class {number}" for number in range(found.classes)),
                device=device,
            )

    def samples(self, split: Split = "scoring", count: int = 64, data: str = "") -> Samples:
        """The first samples of a split of `data` such as "folder:PATH", normalised for the network.

        A network of the zoo has data of its own; samples come with all that is known of them (mask, truth).
        """
        shape = self.cuts.shape or (self._probe.shape if self._probe else ())
        if not shape or not (data or self.cuts.data):
            lacking = "its shape: open(…, shape=(3, 32, 32))" if not shape else 'the data: samples(data="folder:PATH")'
            raise UsageError(f"to load samples for {self.name}, give {lacking}")
        raw = registry.data(data or self.cuts.data).load(split, count, shape)
        return replace(raw, x=normalised(raw.x.float(), self.cuts.mean, self.cuts.std))

    @contextlib.contextmanager
    def at_work(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """While a plug-in works with the network and these tensors, which it must leave as they are."""
        try:
            with numerics(str(device_of(self.model)), "fp32"), borrowed(self.model, tensors):
                yield
        finally:
            self._versions = self._changes()  # what a plug-in wrote and restored does not count as training

    def predictions(self, x: Tensor) -> Tensor:
        """The class that the network gives each sample, (B,)."""
        probe = self.probe(x)
        with self.at_work({}):
            return predictor(probe, 0)(x.detach().float()).argmax(1)

    def fit(self, explainer: Explainer, x: Tensor | None, y: Tensor | None, seed: int) -> None:
        """Let an explainer learn from calibration samples and their labels; one that does not learn is only bound."""
        if not isinstance(explainer, FittedExplainer):
            return
        if x is None or y is None:
            owner = type(explainer).__name__
            raise UsageError(f"{owner} learns from calibration samples and their labels: fit(net, x, y)")
        probe = self.probe(x)
        label = targets_of(y, len(x), len(probe.classes))
        ids = tuple(f"sample {number}" for number in range(len(x)))
        own, labels = x.detach().to("cpu", torch.float32, copy=True), label.to("cpu", copy=True)  # the probe moves them
        with self.at_work({"x": x, "y": label}):
            state = explainer.learner.learn(probe, Samples(own, labels, ids), seed)
            explainer.restore(probe, plain_state(state))

    def explain(self, explainer: Explainer, x: Tensor, target: Tensor | int | None, seed: int | Sequence[int]) -> Maps:
        """Maps of samples, on the CPU; the samples are moved to the network's device."""
        probe = self.probe(x)
        wanted = self.predictions(x) if target is None else targets_of(target, len(x), len(probe.classes), "target")
        with self.at_work({"x": x, "target": wanted}):
            found = in_batches(explainer, probe, x.detach().float(), wanted, seeds_of(x, seed), 0)
        return self.shown(found, explainer.maps, x, wanted)

    def shown(self, found: Explanation, specs: tuple[contract.MapSpec, ...], x: Tensor, target: Tensor) -> Maps:
        """An explanation to be looked at."""
        return Maps(found.maps, found.facts, found.signals, specs, x.detach().cpu(), target, self.probe(x).classes)

    def score(
        self,
        metric: Metric,
        x: Tensor,
        y: Tensor | int,
        map: Tensor | contract.Maps,
        reference: Tensor | None,
        mask: Tensor | None,
        seed: int | Sequence[int],
    ) -> Tensor:
        """One metric's scores (B,) of maps, as a run gives them."""
        scene = self.scene(x, y, reference, mask, seed)
        with self.at_work({}):
            return scenes.scored(metric, scene, scenes.seen(map, scene))

    def scene(
        self,
        x: Tensor,
        y: Tensor | int,
        reference: Tensor | None = None,
        mask: Tensor | None = None,
        seed: int | Sequence[int] = 0,
    ) -> contract.Scene:
        """What maps of the classes y of x are scored on; metrics share what they compute from one scene."""
        probe = self.probe(x)
        target = targets_of(y, len(x), len(probe.classes))
        others = x if reference is None else check_inputs(reference, "reference")
        return scenes.scene_of(probe, x, target, others, mask, seeds_of(x, seed), self.cuts.mean, self.cuts.std)
