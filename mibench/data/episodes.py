"""Few-shot episodes of labelled images: `episodes[ways=5,shots=1,episode=0]:DATA` (Snell et al. 2017).

The first half of the classes (in order) is for learning an embedding. An episode draws its classes from the other half,
and of each some support images from the training split; what is calibrated and scored on are the queries: the images
of these classes in those splits. The labels of support and queries are the ways, 0 to N - 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from pydantic import Field

from mibench.data.folder import ClassFolders
from mibench.errors import DataError
from mibench.plugins import contract, registry
from mibench.plugins.contract import Data, Samples, Split


class Parameters(contract.Parameters):
    """N-way K-shot, and which episode."""

    ways: int = Field(default=5, ge=2, le=100)
    shots: int = Field(default=1, ge=1, le=100)
    episode: int = Field(default=0, ge=0)


class Episodes(Data[Parameters]):
    """One episode: its support is fixed, its queries are the samples."""

    name = "episodes"
    title = "Episodes"

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of the labelled images."""
        return self.source().paths

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the episode's classes."""
        names = self.source().classes
        return tuple(names[label] for label in self._ways())

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first queries of a split; the training split is the support, and no query."""
        if split == "training":
            return self.support(shape)[:count]
        return self._as_ways(_of_classes(self.source(), split, self._ways(), count, shape))

    def support(self, shape: tuple[int, ...]) -> Samples:
        """The support images, `shots` of each way in their order."""
        ways, shots = self._ways(), self.parameters.shots
        found = self._as_ways(_of_classes(self.source(), "training", ways, None, shape))
        rows: list[int] = []
        for way in range(len(ways)):
            mine = (found.label == way).nonzero().flatten()
            if len(mine) < shots:
                name = self.classes[way]
                raise DataError(f"class {name!r} has {len(mine)} images to draw {shots} shots from; give it more")
            rows += mine[torch.randperm(len(mine), generator=self._generator(f"support {way}"))[:shots]].tolist()
        mask = None if found.mask is None else found.mask[rows]
        return Samples(found.x[rows], found.label[rows], tuple(found.ids[row] for row in rows), mask)

    def base(self, split: Split, shape: tuple[int, ...]) -> Samples:
        """Images of the classes that no episode shows."""
        return _of_classes(self.source(), split, range(len(self.source().classes) // 2), None, shape)

    def source(self) -> Data:
        """The labelled images that episodes are made of; MNIST where none are named."""
        return registry.data(self.argument or "mnist")

    def _ways(self) -> list[int]:
        """The labels of the episode's classes, in order."""
        count, ways = len(self.source().classes), self.parameters.ways
        new = range(count // 2, count)
        if len(new) < ways or count // 2 < 2:
            raise DataError(
                f"{self.argument or 'mnist'} has {count} classes, half of which are kept for learning: an episode of "
                f"{ways} ways needs {2 * ways - 1} or more"
            )
        return sorted(new[i] for i in torch.randperm(len(new), generator=self._generator("ways"))[:ways].tolist())

    def _as_ways(self, samples: Samples) -> Samples:
        ways = torch.tensor(self._ways())
        return replace(samples, label=(samples.label[:, None] == ways).long().argmax(1))

    def _generator(self, what: str) -> torch.Generator:
        key = f"episodes/{self.parameters.episode}/{what}"
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def _of_classes(
    source: Data, split: Split, labels: list[int] | range, count: int | None, shape: tuple[int, ...]
) -> Samples:
    """The first samples of a split with these labels; of a folder no other picture is read."""
    if isinstance(source, ClassFolders):
        return source.load_classes(split, labels, count, shape)
    every = source.load(split, None, shape)
    rows = [row for row, label in enumerate(every.label.tolist()) if label in labels][:count]
    mask = None if every.mask is None else every.mask[rows]
    return Samples(every.x[rows], every.label[rows], tuple(every.ids[row] for row in rows), mask)
