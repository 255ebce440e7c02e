"""Explainers that show where the image is bright, and misbehave in the way that their parameter names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mibench.plugins.contract import Explainer, Explanation, FittedExplainer, Parameters, Probe, Samples, State

from .deeds import ANYWHERE


class Hostile(Explainer):
    """Misbehaves while it explains."""

    name = "hostile"
    title = "Misbehaves while it explains"
    control = True  # not among "all" methods
    seeded = False

    class Parameters(Parameters):
        does: str = ""

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        good = x.mean(1).abs().detach().clone()
        return misbehave(self.parameters.does, probe, x, target, good)


class HostileFit(FittedExplainer):
    """Misbehaves while it learns; explains properly."""

    name = "hostile-fit"
    title = "Misbehaves while it learns"
    control = True
    seeded = False

    class Parameters(Parameters):
        does: str = ""

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        does = self.parameters.does
        good = calibration.x.mean((0, 1))
        if does in STATES:
            return STATES[does](good)
        misbehave(does, probe, calibration.x, calibration.label, good[None])
        return State({"mean": good})

    def restore(self, probe: Probe, state: State) -> None:
        self.mean = state.tensors["mean"]

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        return Explanation({"map": (x.mean(1) - self.mean).abs()})


def misbehave(does: str, probe: Probe, x: Tensor, target: Tensor, good: Tensor) -> Any:
    """Do what the name says; the good map is the answer wherever the answer itself is not what is bad."""
    if does in ANSWERS:
        return ANSWERS[does](good, x)
    if does in INPUTS:
        INPUTS[does](x, target)
    elif does in NETWORK:
        NETWORK[does](probe)
    elif does:
        ANYWHERE[does]()
    return Explanation({"map": good})


def answer(change: Callable[[Tensor], Any]) -> Callable[[Tensor, Tensor], Any]:
    """An explanation whose map is a changed one."""
    return lambda good, x: Explanation({"map": change(good)})


def one_nan(good: Tensor) -> Tensor:
    good[0, 0, 0] = torch.nan
    return good


class Angry(Tensor):
    """A tensor with which nothing can be done."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise ValueError("leave me alone")


def zeros(x: Tensor) -> Tensor:
    return torch.zeros(len(x), 6)


def add_one(probe: Probe) -> None:
    next(probe.model.parameters()).data.add_(1)


def replace_forward(probe: Probe) -> None:
    probe.model.forward = zeros


def replace_forward_of_class(probe: Probe) -> None:
    type(probe.model).forward = lambda self, x: zeros(x)


def replace_class(probe: Probe) -> None:
    probe.model.__class__ = nn.Identity


INPUTS: Mapping[str, Callable[[Tensor, Tensor], object]] = {
    "mutatex": lambda x, target: x.zero_(),
    "mutatet": lambda x, target: target.zero_(),
}
NETWORK: Mapping[str, Callable[[Probe], object]] = {
    "mutatew": add_one,
    "hook": lambda probe: probe.model.register_forward_hook(lambda *_: None),
    "train": lambda probe: probe.model.train(),
    "modelattr": replace_forward,
    "classattr": replace_forward_of_class,
    "probeattr": replace_class,
}
ANSWERS: Mapping[str, Callable[[Tensor, Tensor], Any]] = {
    "meta": answer(lambda good: good.to("meta")),
    "fp16": answer(Tensor.half),
    "grad": answer(lambda good: good.requires_grad_(True) * 2),
    "noncontig": answer(lambda good: good.transpose(1, 2).contiguous().transpose(1, 2)),
    "inf": answer(lambda good: good / 0),
    "nan": answer(lambda good: good * torch.nan),
    "nan1": answer(one_nan),
    "complex": answer(lambda good: torch.complex(good, good)),
    "int": answer(lambda good: (good * 100).long()),
    "bool": answer(lambda good: good > good.mean()),
    "sparse": answer(Tensor.to_sparse),
    "quant": answer(lambda good: torch.quantize_per_tensor(good, 0.1, 0, torch.quint8)),
    "hugeval": answer(lambda good: good * 1e38 * 10),
    "f64huge": answer(lambda good: good.double() * 1e300),
    "tiny": answer(lambda good: good * 1e-44),
    "none": answer(lambda good: None),
    "numpy": answer(Tensor.numpy),
    "list": lambda good, x: {"map": good},
    "returnnone": lambda good, x: None,
    "shape": answer(lambda good: good[:, :3]),
    "hugeshape": answer(lambda good: torch.zeros(1).expand(len(good), 40000, 40000)),
    "extra": lambda good, x: Explanation({"map": good, "x": good}),
    "facts": lambda good, x: Explanation({"map": good}, {"f": torch.zeros(99)}),
    "factname": lambda good, x: Explanation({"map": good}, {"../<b>": torch.zeros(len(x))}),
    "factstr": lambda good, x: Explanation({"map": good}, {"f": ["a"] * len(x)}),
    "bigsignal": lambda good, x: Explanation({"map": good}, {}, {"s": torch.zeros(len(x), 64 << 20)}),
    "angry": answer(lambda good: good.as_subclass(Angry)),
    "manyfacts": lambda good, x: Explanation({"map": good}, {f"f{n}": torch.zeros(len(x)) for n in range(10**4)}),
    "bigfact": lambda good, x: Explanation({"map": good}, {"f" * 10**6: torch.zeros(len(x))}),
    "alias": lambda good, x: Explanation({"map": good}, {}, {"s": x}),
}
STATES: Mapping[str, Callable[[Tensor], Any]] = {
    "statenone": lambda good: None,
    "statename": lambda good: State({"../mean": good}),
    "statenan": lambda good: State({"mean": good * torch.nan}),
    "statefacts": lambda good: State({"mean": good}, {"f": object()}),
}
