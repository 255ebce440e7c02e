"""Partial information decomposition of the planted variants whose two or three sources are discrete.

I(x_1, x_2; y) splits into what both sources tell alike (redundant), what one alone tells (unique), and what only both
together tell (synergistic). The split needs a measure, and measures differ: BROJA (Bertschinger et al., 2014), which is
defined for two sources, and Williams and Beer's (2010), for any number. `dit` computes both; in nats here.

What the benchmark judges maps by depends on no such choice. Its means over samples are, with atoms R, U_k and S,

    marginal of k  R + U_k        conditional of k  U_k + S        additive of k  U_k + (R + S) / 2

under every measure: `claims` computes the right sides from the atoms, and the tests hold them against our own numbers.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mibench.data.planted import Parameters
from mibench.data.sources import Sources

FILE = "atoms.csv"
ALPHABET = 4
DIGITS = 4  # of a nat, as the table is written; the convex problem behind BROJA is solved no more exactly
PLANTS: Mapping[str, Mapping[str, Any]] = {  # two sources, and three
    "shared": {"variant": "shared"},
    "partial, p = .8": {"variant": "partial", "p": 0.8},
    "xor": {"variant": "xor"},
    "copies, p = .8": {"variant": "copies", "p": 0.8},
    "and": {"variant": "and"},
    "rdnxor": {"variant": "rdnxor"},
    "graded, two cells": {"variant": "graded", "cells": 2},
    "graded, three cells": {"variant": "graded", "cells": 3},
}
MEASURES = ("BROJA", "Williams and Beer")


@dataclass(frozen=True)
class Atom:
    """One atom of one variant under one measure; `node` is dit's, as {0}{1} for what 0 and 1 share."""

    plant: str
    measure: str
    node: str
    nats: float


def planted(plant: str, alphabet: int = ALPHABET) -> Sources:
    """The joint distribution of a variant's label and glyphs."""
    return Parameters(alphabet=alphabet, **PLANTS[plant]).distribution


def atoms(plant: str, measure: str, alphabet: int = ALPHABET) -> list[Atom]:
    """The atoms of a variant; none where the measure is not defined for so many sources."""
    import dit  # of the test extra

    joint = planted(plant, alphabet).joint.movedim(0, -1)  # (A, …, A): the sources, and last the label
    count = joint.dim() - 1
    if measure == "BROJA" and count != 2:
        return []
    kept = joint.nonzero()
    outcomes = ["".join(map(str, each)) for each in kept.tolist()]
    distribution = dit.Distribution(outcomes, joint[tuple(kept.T)].tolist())
    sources, label = [[k] for k in range(count)], [count]
    if (
        measure == "BROJA"
    ):  # admui starts from one place; dit's default starts at random and may stop far from the minimum
        found = dit.pid.PID_BROJA(distribution, sources, label, method="admui")
    else:
        found = dit.pid.PID_WB(distribution, sources, label)
    named = {_named(node): math.log(2) * float(found.get_pi(node)) for node in found._lattice}
    return [Atom(plant, measure, node, nats) for node, nats in sorted(named.items())]


def _named(node: Any) -> str:
    """A node of the lattice of antichains, as {0}{1}."""
    return "".join("{" + ":".join(map(str, sorted(source))) + "}" for source in sorted(map(tuple, node)))


def every() -> Iterator[Atom]:
    """All variants under all measures."""
    for plant in PLANTS:
        for measure in MEASURES:
            yield from atoms(plant, measure)


def claims(found: list[Atom]) -> dict[str, list[float]]:
    """What two sources' atoms make of the three truths, a mean of each source."""
    nats = {atom.node: atom.nats for atom in found}
    alike, together, alone = nats["{0}{1}"], nats["{0:1}"], [nats["{0}"], nats["{1}"]]
    return {
        "marginal": [alike + own for own in alone],
        "conditional": [own + together for own in alone],
        "additive": [own + (alike + together) / 2 for own in alone],
    }


def means(plant: str, alphabet: int = ALPHABET) -> dict[str, list[float]]:
    """The means of the three truths over samples, by our own sums over the joint distribution."""
    from mibench.information.pointwise import of_class

    distribution = planted(plant, alphabet)
    joint = distribution.joint
    seen = joint.nonzero()  # (M, 1 + K) label and glyphs
    likely = torch.nn.functional.one_hot(seen[:, 1:], alphabet).double().log()  # (M, K, A)
    weights = joint[tuple(seen.T)][:, None]
    nats = of_class(distribution.beliefs(likely), seen[:, 0])
    return {claim: (weights * each).sum(0).tolist() for claim, each in nats.items()}


def write(file: Path) -> None:
    """The table."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("variant", "alphabet", "measure", "atom", "nats"))
        for atom in every():
            nats = round(atom.nats, DIGITS) + 0.0  # no minus before a zero
            writer.writerow((atom.plant, ALPHABET, atom.measure, atom.node, f"{nats:.{DIGITS}f}"))


def read(file: Path) -> list[Atom]:
    """The table's lines."""
    with file.open(newline="", encoding="utf-8") as stream:
        return [Atom(row["variant"], row["measure"], row["atom"], float(row["nats"])) for row in csv.DictReader(stream)]
