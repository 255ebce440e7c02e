"""Nothing asks more of a network than is committed: FLOPs and passes are exact, and any change of them is seen."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest

from mibench.conformance.bench import Bench, benches
from mibench.run.costs import counted
from tests.benchmarks import counts

RENEW = "if that is meant, renew the table: python -m tests.benchmarks.counts"


@pytest.mark.parametrize("bench", benches(), ids=lambda bench: bench.name)
def test_every_plugin_asks_of_a_network_what_the_committed_table_says(bench: Bench) -> None:
    known = counts.read().query("network == @bench.name")
    found = pd.DataFrame(counts.count(bench)).set_index(counts.KEY)
    new = found.index.difference(known.index)
    if len(new):
        warnings.warn(f"not in the table yet, so not gated: {', '.join(map(' '.join, new))}; {RENEW}", stacklevel=1)
    assert counts.changes(known, found) == [], RENEW


@pytest.mark.parametrize(
    ("stage", "plugin", "changed"),
    [
        ("fit", "iba-readout", "iba-readout[epochs=21]"),
        ("explain", "smoothgrad", "smoothgrad[copies=51]"),
        ("score", "faithfulness-correlation", "faithfulness-correlation[runs=101]"),
    ],
)
def test_one_pass_more_is_a_change(stage: str, plugin: str, changed: str) -> None:
    bench = next(benches())
    key = pd.MultiIndex.from_tuples([(bench.name, stage, plugin)], names=counts.KEY)
    known = counts.read().loc[key]
    for name, differs in ((plugin, False), (changed, True)):
        found = pd.DataFrame([counted(bench.probe, counts.work(stage, name, bench))], key)
        assert bool(counts.changes(known, found)) is differs
