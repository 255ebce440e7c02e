"""Exact counts of what every plug-in that is found asks of a network: FLOPs, forward, resumed and backward passes.

They are counted on the tiny networks of the conformance check: for an explainer its fit and one sample's explanation,
for a metric the scores of six rows of five samples. `counts.csv` holds what is committed; renew it by

    python -m tests.benchmarks.counts
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from mibench.conformance.bench import Bench, benches, ready, rows_of, scene_of
from mibench.conformance.metric_rules import scored
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, FittedExplainer, Known, Probe, Unsupported
from mibench.run.costs import counted

TABLE = Path(__file__).with_name("counts.csv")
KEY = ["network", "stage", "plugin"]


def works() -> list[tuple[str, str]]:
    """The stage and the name of all that is counted, by listing the rooms."""
    explainers = {
        name: cls
        for name, cls in sorted(registry.plugins("methods").items())
        if issubclass(cls, Explainer) and not issubclass(cls, Known)
    }
    fits = [("fit", name) for name, cls in explainers.items() if issubclass(cls, FittedExplainer)]
    return [
        *fits,
        *(("explain", name) for name in explainers),
        *(("score", name) for name in registry.names("metrics")),
    ]


def work(stage: str, name: str, bench: Bench) -> Callable[[Probe], object]:
    """One stage of one plug-in as a function of the probe; a fit is kept for the explanation."""
    if stage == "score":
        metric, scene, rows = registry.metric(name), scene_of(bench), rows_of(bench)
        return lambda probe: scored(metric, replace(scene, probe=probe), rows)  # a new scene shares nothing
    explainer = registry.explainer(name)
    if stage == "fit":
        assert isinstance(explainer, FittedExplainer)
        return lambda probe: bench.fits.update({name: explainer.learn(probe, bench.calibration, 0)})
    explainer = ready(explainer, bench)
    return lambda probe: explainer.explain(probe, bench.samples.x[:1], bench.target[:1], bench.seeds[:1])


def count(bench: Bench) -> Iterator[dict[str, object]]:
    """A row for each stage of each plug-in that does not refuse the network."""
    for stage, name in works():
        try:
            figures = counted(bench.probe, work(stage, name, bench))
        except Unsupported:
            continue
        yield dict(zip(KEY, (bench.name, stage, name), strict=True)) | {what: int(n) for what, n in figures.items()}


def changes(known: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """What is counted otherwise than it is known, in words; a plug-in that is not known yet has no change."""
    both = known.join(found, how="left", rsuffix=" found")
    return [
        f"{' '.join(row.Index)}: {what} {known.at[row.Index, what]} -> {found[what].get(row.Index, 'refused')}"
        for row in both.itertuples()
        for what in known.columns
        if found[what].get(row.Index) != known.at[row.Index, what]
    ]


def read() -> pd.DataFrame:
    """The committed table."""
    return pd.read_csv(TABLE).set_index(KEY)


if __name__ == "__main__":
    torch.set_num_threads(1)
    table = pd.DataFrame([row for bench in benches() for row in count(bench)]).set_index(KEY)
    for line in changes(read(), table) if TABLE.exists() else []:
        print(line)
    table.to_csv(TABLE, lineterminator="\n")
    print(f"wrote {TABLE}: {len(table)} rows")
