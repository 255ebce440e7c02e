"""Quantus called with everything explicit, for its defaults give wrong numbers without a word.

Maps are a checked copy, normalised per image by us (Quantus divides by the maximum of the whole batch), the baseline,
`abs`, `softmax` and `channel_first` are given, no aggregate is taken, all samples are one batch, and no device is named
(it would reach the explainer). The global generators are seeded before each call and given back after it, as is what
numpy 2.4 has dropped and Quantus 0.6 still uses. The network is `scene.predict`, in the batches of the scene.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mibench.errors import UsageError, mend
from mibench.metrics.sharing import image
from mibench.network.noise import perturbed
from mibench.plugins.contract import PERTURBED, Evidence, Scene

INSTALL = "pip install 'quantus>=0.6,<0.7'"
Array = np.ndarray[Any, Any]
OURS: Mapping[str, object] = {  # what no caller may change
    "normalise": False,
    "return_aggregate": False,
    "disable_warnings": True,
    "display_progressbar": False,
}


def library() -> Any:
    """The package quantus, or the error with the mend where it cannot be imported."""
    try:
        return importlib.import_module("quantus")
    except (ImportError, OSError) as error:
        raise UsageError(f"Quantus cannot be imported ({mend(error)}): {INSTALL}") from error


def call(
    name: str,
    scene: Scene,
    maps: Tensor,
    *,
    softmax: bool = True,
    network: nn.Module | None = None,
    more: Mapping[str, object] | None = None,
    **settings: Any,
) -> Any:
    """What a metric of Quantus returns for maps (B, H, W) or (B, C, H, W); `more` goes with the call."""
    image(scene)
    if not maps.isfinite().all():
        raise ValueError("Quantus was given a map with NaN or infinite values")
    quantus = library()
    with guarded(scene.seeds[0]):
        metric = getattr(quantus, name)(**{"abs": False, **settings, **OURS})
        return metric(
            model=network or Network(scene),
            x_batch=scene.x.numpy().copy(),
            y_batch=scene.target.numpy().copy(),
            a_batch=(maps if maps.dim() == 4 else maps[:, None]).double().numpy().copy(),
            s_batch=None if scene.mask is None else scene.mask[:, None].numpy(),
            channel_first=True,
            softmax=softmax,
            device=None,
            batch_size=len(scene.x),
            **(more or {}),
        )


class Network(nn.Module):
    """The scene's network as a module that gives logits."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._predict = scene.predict
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of any number of inputs."""
        return self._predict(x)


def layered(scene: Scene) -> nn.Module:
    """A copy of the network itself, on the processor, for what draws weights or looks into layers."""
    return copy.deepcopy(scene.probe.model).cpu().eval()


@contextlib.contextmanager
def guarded(seed: int) -> Iterator[None]:
    """numpy's and torch's generators seeded and given back, and numpy's old name for the trapezoidal rule there."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]), contextlib.ExitStack() as undo:
        undo.callback(np.random.set_state, before)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        if not hasattr(np, "trapz"):
            undo.enter_context(replaced(np, "trapz", np.trapezoid))
        yield


@contextlib.contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """An attribute with another value, given its own back at the end, even after an error."""
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def any_step() -> contextlib.AbstractContextManager[None]:
    """Steps that do not divide the pixels, which Quantus refuses and then treats as we do."""
    return replaced(library().helpers.asserts, "assert_features_in_step", lambda **_: None)


def part(scene: Scene, numbers: Sequence[int]) -> Scene:
    """Some samples of a scene."""
    where = torch.tensor(numbers, dtype=torch.long)
    return dataclasses.replace(
        scene,
        x=scene.x[where],
        label=scene.label[where],
        target=scene.target[where],
        baselines={name: each[where] for name, each in scene.baselines.items()},
        seeds=tuple(scene.seeds[number] for number in numbers),
        mask=None if scene.mask is None else scene.mask[where],
        truth=None,  # no metric of Quantus knows it
    )


def some(row: Evidence, numbers: Sequence[int]) -> Evidence:
    """The evidence of some samples, first samples first; variants are of those that have them."""
    where = torch.tensor(numbers, dtype=torch.long)
    variants = {name: each[where[where < len(each)]] for name, each in row.variants.items()}
    return Evidence(row.map[where], row.raw[where], row.spec, variants=variants)


def scored(found: object, count: int) -> Tensor:
    """One number a sample, (B,), of what a metric returned; the mean of a curve where it returned one."""
    numbers = np.asarray(found, dtype=float)
    if numbers.ndim == 0 or len(numbers) != count:
        raise ValueError(f"Quantus returned an array of shape {numbers.shape} for {count} samples")
    return torch.from_numpy(numbers.reshape(count, -1).mean(1))


def against_second(name: str, scene: Scene, row: Evidence, variant: str, *, first: bool, **settings: Any) -> Tensor:
    """The scores (B,) of a metric that explains again: it gets the saved second maps. NaN where there is none.

    Where it explains the trained network `first`, it gets the maps themselves.
    """
    scores = torch.full((len(row.map),), torch.nan, dtype=torch.float64)
    maps = row.variants.get(variant, row.raw[:0])
    numbers = maps.flatten(1).isfinite().all(1).nonzero()[:, 0].tolist()
    if numbers:
        plain = [row.map[numbers].double()[:, None].numpy()] if first else []
        in_turn = iter([*plain, _over_largest(maps[numbers].double())])
        found = call(
            name,
            part(scene, numbers),
            row.map[numbers],
            network=layered(scene),
            more={"explain_func": lambda **_: next(in_turn)},
            **settings,
        )
        scores[numbers] = scored(found, len(numbers))
    return scores


def against_perturbed(
    name: str, scene: Scene, row: Evidence, *, network: nn.Module | None = None, **settings: Any
) -> Tensor:
    """The scores (B,) of a metric that perturbs and explains again: it gets the run's own inputs and saved maps."""
    scores = torch.full((len(row.map),), torch.nan, dtype=torch.float64)
    names = sorted(name for name in row.variants if name.startswith(PERTURBED))
    numbers = list(range(min((len(row.variants[each]) for each in names), default=0)))
    if numbers:
        here = part(scene, numbers)
        inputs = iter([perturbed(here.x, here.seeds, each).flatten(1).double().numpy() for each in names])
        maps = iter([_over_largest(row.variants[each][numbers]) for each in names])
        settings |= {"nr_samples": len(names), "perturb_func": lambda arr, **_: next(inputs).astype(arr.dtype)}
        more = {"explain_func": lambda **_: next(maps)}
        found = call(name, here, row.map[numbers], softmax=False, network=network, more=more, **settings)
        scores[numbers] = scored(found, len(numbers))
    return scores


def _over_largest(maps: Tensor) -> Array:
    """Maps (V, H, W) over their largest magnitudes as Quantus takes them, (V, 1, H, W)."""
    largest = maps.abs().amax((1, 2), keepdim=True).clamp(min=1e-30)
    return (maps / largest).double()[:, None].numpy()
