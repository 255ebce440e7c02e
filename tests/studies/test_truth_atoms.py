"""The committed atoms are those that dit computes, and the truths that judge maps follow from them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from leaderboards.studies.truth import atoms

dit = pytest.importorskip("dit")
TABLE = Path(atoms.__file__).parent / atoms.FILE
QUICK = ("xor", "graded, two cells")
PLANTS = [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in atoms.PLANTS]


@pytest.mark.parametrize("measure", atoms.MEASURES)
@pytest.mark.parametrize("plant", PLANTS)
def test_the_committed_atoms_are_computed_again(plant: str, measure: str) -> None:
    committed = {a.node: a.nats for a in atoms.read(TABLE) if (a.plant, a.measure) == (plant, measure)}
    assert {a.node: a.nats for a in atoms.atoms(plant, measure)} == pytest.approx(committed, abs=1e-3)


def test_every_variant_is_in_the_table_and_its_atoms_add_up() -> None:
    table = atoms.read(TABLE)
    for plant in atoms.PLANTS:
        whole = [sum(a.nats for a in table if (a.plant, a.measure) == (plant, m)) for m in atoms.MEASURES]
        together = sum(atoms.means(plant)["additive"])  # I(all sources; label)
        assert whole[1] == pytest.approx(together, abs=2e-3), plant
        assert plant == "graded, three cells" or whole[0] == pytest.approx(together, abs=2e-3), plant


@pytest.mark.parametrize("measure", atoms.MEASURES)
def test_the_three_truths_follow_from_the_atoms_under_every_measure(measure: str) -> None:
    table, checked = atoms.read(TABLE), 0
    for plant in atoms.PLANTS:
        found = [a for a in table if (a.plant, a.measure) == (plant, measure)]
        if len(found) == 4:
            checked += 1
            ours = atoms.means(plant)
            for claim, nats in atoms.claims(found).items():
                assert nats == pytest.approx(ours[claim], abs=2e-3), (plant, claim)
    assert checked == len(atoms.PLANTS) - 1


@pytest.mark.parametrize(
    ("plant", "node", "nats"),
    [
        ("shared", "{0}{1}", math.log(4)),
        ("xor", "{0:1}", math.log(4)),
        ("partial, p = .8", "{0}{1}", 0.961 * math.log(2)),
    ],
)
def test_certain_variants_are_one_atom_under_both_measures(plant: str, node: str, nats: float) -> None:
    found = [a.nats for a in atoms.read(TABLE) if (a.plant, a.node) == (plant, node)]
    assert found == pytest.approx([nats] * 2, abs=1e-3)
