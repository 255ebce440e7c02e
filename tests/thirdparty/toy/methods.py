"""Explainers as somebody else might write them: a good one, a fitted one, and ones that go wrong in every way."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import time
from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Tensor

from mibench.errors import RecordError
from mibench.plugins.contract import (
    Explainer,
    Explanation,
    FittedExplainer,
    MapSpec,
    Parameters,
    Probe,
    Samples,
    State,
    Unsupported,
    Wrapper,
)


class Bright(Explainer):
    """Shows where the image is bright."""

    name = "bright"
    title = "Brightness"
    seeded = False

    class Parameters(Parameters):
        power: float = Field(1.0, gt=0)

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        if x.dim() != 4:
            raise Unsupported("only images are bright")
        return Explanation({"map": x.mean(1).abs() ** self.parameters.power})


class Learned(FittedExplainer):
    """Shows how far a sample is from the mean that it learned; gives two maps, a fact and a signal."""

    name = "learned"
    title = "Distance from the mean"
    maps = (MapSpec("decision", signed=True), MapSpec("total", "total", "nats"))

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        return State({"mean": calibration.x.mean(0)}, {"seed": seed})

    def restore(self, probe: Probe, state: State) -> None:
        self.mean = state.tensors["mean"]

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        logits = probe.logits(x).gather(1, target[:, None])[:, 0]
        away = (x - self.mean.to(x.device)).mean(1) * logits[:, None, None]
        return Explanation({"decision": away, "total": away.abs()}, {"score": logits}, {"source": x})


class Pupil(FittedExplainer):
    """Shows how far a sample is from the mean that `learned` learned, without a sign."""

    name = "pupil"
    title = "Distance from another's mean"
    maps = (MapSpec("total", "total", "nats"),)

    @property
    def learner(self) -> FittedExplainer:
        return Learned()

    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        return self.learner.learn(probe, calibration, seed)

    def restore(self, probe: Probe, state: State) -> None:
        self.learned = Learned()
        self.learned.restore(probe, state)

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        return Explanation({"total": self.learned.explain(probe, x, target, seeds).maps["total"]})


class Noise(Explainer):
    """Shows noise of each sample's own seed."""

    name = "noise"
    title = "Noise"
    control = True

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        draws = [torch.rand(probe.pixels, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return Explanation({"map": torch.stack(draws)})


class Upside(Wrapper):
    name = "upside"
    title = "Another map with its sign changed"

    def wrap(self, explanation: Explanation, spec: MapSpec) -> Explanation:
        return Explanation(
            {spec.name: explanation.maps[spec.name].amax((1, 2), keepdim=True) - explanation.maps[spec.name]}
        )


class Faulty(Explainer):
    """Goes wrong in the way that its parameter names."""

    name = "faulty"
    title = "Goes wrong"

    class Parameters(Parameters):
        how: str = "raise"

    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        if self.parameters.how == "spoil-target":
            target.zero_()
            return Explanation({"map": x.mean(1)})
        return Explanation({"map": FAULTS[self.parameters.how](probe, x)})


def fails(probe: Probe, x: Tensor) -> Tensor:
    raise ValueError("the explainer had a bad day")


def hangs(probe: Probe, x: Tensor) -> Tensor:
    time.sleep(600)
    return x.mean(1)


def segfaults(probe: Probe, x: Tensor) -> Tensor:
    ctypes.string_at(0)
    return x.mean(1)


def exits(probe: Probe, x: Tensor) -> Tensor:
    os._exit(7)


def grabs_memory(probe: Probe, x: Tensor) -> Tensor:
    return torch.empty(2**50)


def refuses(probe: Probe, x: Tensor) -> Tensor:
    raise Unsupported("this network is not to my taste")


def shapes_wrongly(probe: Probe, x: Tensor) -> Tensor:
    return x.mean(1)[:, :-1]


def gives_nan(probe: Probe, x: Tensor) -> Tensor:
    return x.mean(1) * torch.nan


def gives_some_nan(probe: Probe, x: Tensor) -> Tensor:
    return torch.where((x.mean((1, 2, 3)) > x.mean())[:, None, None], x.mean(1), torch.nan)


def gives_nothing(probe: Probe, x: Tensor) -> Tensor:
    return torch.zeros_like(x.mean(1))


def changes_weights(probe: Probe, x: Tensor) -> Tensor:
    next(probe.model.parameters()).mul_(2)
    return x.mean(1)


def leaves_hook(probe: Probe, x: Tensor) -> Tensor:
    next(probe.model.children()).register_forward_hook(lambda module, inputs, output: output * 2)
    return x.mean(1)


def leaves_training(probe: Probe, x: Tensor) -> Tensor:
    probe.model.train()
    return x.mean(1)


def leaves_gradients(probe: Probe, x: Tensor) -> Tensor:
    probe.model.requires_grad_(True)
    return x.mean(1)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("I say nothing")


def raises(error: BaseException) -> Callable[[Probe, Tensor], Tensor]:
    def fault(probe: Probe, x: Tensor) -> Tensor:
        raise error

    return fault


def spoils_x(probe: Probe, x: Tensor) -> Tensor:
    shown = x.mean(1).clone()
    x.zero_()
    return shown


def spoils_task(probe: Probe, x: Tensor) -> Tensor:
    """Changes what the harness keeps, wherever that is."""
    for kept in gc.get_objects():
        if type(kept).__name__ == "Task" and "scoring" in vars(kept):
            kept.scoring.x.zero_()
    return x.mean(1)


def changes_dtype(probe: Probe, x: Tensor) -> Tensor:
    torch.set_default_dtype(torch.float64)
    return x.mean(1)


def turns_gradients_off(probe: Probe, x: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    return x.mean(1)


FAULTS = {
    "exit-call": raises(SystemExit(0)),
    "interrupt": raises(KeyboardInterrupt()),
    "base": raises(BaseException("base")),
    "generator-exit": raises(GeneratorExit()),
    "mute": raises(Mute()),
    "full": raises(OSError(errno.ENOSPC, "No space left on device")),
    "record": raises(RecordError("mine")),
    "surrogate": raises(ValueError("bad \udcff surrogate \x00 nul")),
    "long": raises(ValueError("A" * 10**6)),
    "spoil-x": spoils_x,
    "spoil-task": spoils_task,
    "dtype": changes_dtype,
    "gradients-off": turns_gradients_off,
    "raise": fails,
    "hang": hangs,
    "segfault": segfaults,
    "exit": exits,
    "memory": grabs_memory,
    "refuse": refuses,
    "shape": shapes_wrongly,
    "nan": gives_nan,
    "some-nan": gives_some_nan,
    "zero": gives_nothing,
    "weights": changes_weights,
    "hook": leaves_hook,
    "training": leaves_training,
    "gradients": leaves_gradients,
}
