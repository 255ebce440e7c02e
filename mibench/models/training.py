"""Small networks learn on first use, from their own seed, and are kept as safetensors with their accuracy.

The file's name holds a digest of the sources and parameters that decide what is learned, so nothing stale is ever
loaded; it appears whole or not at all, so that two processes may learn at the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from mibench.errors import Damaged, ModelError
from mibench.models import cache, shipped
from mibench.record import fingerprint
from mibench.record.environment import cache_folder

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to learn: Adam with a rate that rises and falls once (one cycle)."""

    epochs: int
    batch: int = 64
    rate: float = 5e-3
    decay: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Lesson:
    """Who learns what from where."""

    name: str  # the model's spec; errors and files carry it
    floor: float
    recipe: Recipe
    sources: tuple[str, ...]  # modules, and digests of files, that decide what is learned
    retrain: bool = False  # whether weights that come with the package are left alone

    def path(self) -> Path:
        """The cache file of exactly this lesson."""
        modules = [each for each in (__name__, *self.sources) if each in sys.modules]
        code = fingerprint.contents(inspect.getsource(sys.modules[each]) for each in modules)
        others = [each for each in self.sources if each not in sys.modules]
        content = digest(text.encode() for text in (self.name, repr(self.recipe), code, *others))
        readable = "".join(letter if letter.isalnum() or letter in "-=." else "_" for letter in self.name)
        return cache_folder() / "models" / f"{readable[:80]}-{content}.safetensors"


def trained(lesson: Lesson, build: Callable[[], Net], teach: Callable[[Net, Recipe], float]) -> Net:
    """The network that `build` makes and `teach` trains (returning its accuracy on held-out samples).

    Its weights come with the package, or from the cache, where they are there.
    """
    path = lesson.path()
    with _seeded(lesson.recipe.seed):
        network = build()
        accuracy = None if lesson.retrain else _shipped(network, lesson)
        if accuracy is None:
            accuracy = cache.restore(network, path)
        if accuracy is None:
            cache.make_folder(path.parent)
            started = time.perf_counter()
            accuracy = teach(network.train(), lesson.recipe)
            facts = {"name": lesson.name, "accuracy": accuracy, "seconds": round(time.perf_counter() - started, 2)}
            cache.keep(network, path, facts)
    if accuracy < lesson.floor:
        raise ModelError(
            f"{lesson.name} is right on only {accuracy:.1%} of its held-out samples, below its floor of "
            f"{lesson.floor:.1%}: choose easier parameters, or delete {path} to train it again"
        )
    return frozen(network)


def _shipped(network: nn.Module, lesson: Lesson) -> float | None:
    """Load the weights that come with the package: their accuracy, or None where there are none."""
    path = shipped.path(lesson.name, lesson.recipe.seed)
    if not path.exists():
        return None
    try:
        tensors, facts = cache.read(path)
        network.load_state_dict(tensors)
        return float(facts["accuracy"])
    except (Damaged, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}, which comes with the package, is damaged: install mibench again") from error


def descend(network: nn.Module, loss: Callable[[Tensor], Tensor], count: int, recipe: Recipe) -> None:
    """Minimise `loss`, a function of the indices of a batch, over `count` samples."""
    generator = torch.Generator().manual_seed(recipe.seed)
    batch = min(recipe.batch, count)
    steps = recipe.epochs * (count // batch)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    for _ in range(recipe.epochs):
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - batch + 1, batch):
            optimiser.zero_grad()
            loss(order[start : start + batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def accuracy(network: nn.Module, x: Tensor, label: Tensor, batch: int = 256) -> float:
    """The share of samples whose largest logit is the label's, measured in eval mode."""
    network.eval()
    with torch.no_grad():
        answers = [network(x[start : start + batch]).argmax(1) for start in range(0, len(x), batch)]
    return float((torch.cat(answers) == label).float().mean())


def digest(parts: Iterable[bytes]) -> str:
    """A short hash of several pieces of bytes."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def frozen(network: Net) -> Net:
    """The network in eval mode, its parameters without gradients."""
    return network.eval().requires_grad_(False)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initial weights and dropout come from torch's global generator: seeded here, and given back as it was.

    One thread, because the order of a sum, and with it every later weight, depends on how many there are.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
