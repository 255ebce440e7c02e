"""A suite of toys, small enough to be run many times."""

from __future__ import annotations

from mibench.suites.suite import Suite, Task

TOY = Suite(
    name="toy",
    tasks=(Task(model="quadrants"),),
    methods=("bright", "learned"),
    controls=("noise", "upside:bright"),
    chance="noise",
    known_good=("bright",),
    metrics=("inside", "drop", "moved"),
    samples=8,
    calibration=16,
    gate_samples=4,
    timed_samples=1,
)


def toy(**changes: object) -> Suite:
    """The suite with something changed."""
    return Suite(**(TOY.model_dump() | changes))
