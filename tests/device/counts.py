"""Exact counts of what every plug-in asks of an accelerator: launches, waits of the host, copies, draws.

Counted on the pretend device and its tiny networks: for an explainer its fit, and the explanation of 5 and of 64
samples at once; for a metric the scores of six rows of five samples. A GPU is starved by what grows with the batch, and
by what makes the host wait. `counts.csv` holds what is committed; renew it by

    python -m tests.device.counts
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from mibench.conformance import accelerator
from mibench.conformance.bench import COUNT, Bench
from mibench.network.devices import numerics
from mibench.plugins import registry
from mibench.plugins.contract import Unsupported
from tests.device import pretend
from tests.device.kinds import KINDS, bench, enlarged

TABLE = Path(__file__).with_name("counts.csv")
KEY = ["network", "plugin", "stage"]
FIGURES = ["launches", "waits", "to_device", "to_host", "draws"]
MANY = 64


def works(there: Bench, names: list[str] | None = None) -> Iterator[tuple[str, str, pretend.Counts]]:
    """Plug-in, stage and counts of all that a network is asked for, or of some explainers."""
    for name in names or accelerator.explainers():
        try:
            with pretend.counted() as counts:
                state = accelerator.learned(name, there)
            if state is not None:
                yield name, "fit", counts
            explainer = accelerator.ready(name, there, state)
            for samples in (there, enlarged(there, MANY)):
                x, target = (each.to(there.probe.device) for each in (samples.samples.x, samples.target))
                with pretend.counted() as counts:
                    explainer.explain(there.probe, x, target, samples.seeds)
                yield name, f"explain {len(x)}", counts
        except Unsupported:
            continue
    for name in registry.names("metrics") if names is None else ():
        try:
            with pretend.counted() as counts:
                accelerator.scores(name, replace(there))
            yield name, "score", counts
        except Unsupported:
            continue


def count(kind: str, device: str, names: list[str] | None = None) -> pd.DataFrame:
    """The rows of one network."""
    there = accelerator.carried(bench(kind), device)
    with numerics(device, "fp32"):
        rows = [
            {"network": kind, "plugin": name, "stage": stage} | {each: getattr(counts, each) for each in FIGURES}
            for name, stage, counts in works(there, names)
        ]
    return pd.DataFrame(rows).set_index(KEY)


def read() -> pd.DataFrame:
    """The committed table."""
    return pd.read_csv(TABLE).set_index(KEY)


def more(known: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """What is asked more often than the table says, in words; versions of torch differ by a few launches."""
    both = known.loc[known.index.intersection(found.index)]
    return [
        f"{' '.join(row.Index)}: {what} {known.at[row.Index, what]} -> {found.at[row.Index, what]}"
        for row in both.itertuples()
        for what in FIGURES
        if found.at[row.Index, what] > 1.1 * known.at[row.Index, what] + 2 * (what != "draws")
    ]


def growing(table: pd.DataFrame) -> dict[str, float]:
    """By network and explainer: how many times as many launches a batch of 64 takes as one of 5, where more."""
    launches = table["launches"].unstack("stage")
    ratio = launches[f"explain {MANY}"] / launches[f"explain {COUNT}"].clip(lower=1)
    return {" ".join(key): float(times) for key, times in ratio.items() if times > 1.1}


if __name__ == "__main__":
    torch.set_num_threads(1)
    pretend.register()
    table = pd.concat([count(kind, "pretend:0") for kind in KINDS])
    for line in more(read(), table) if TABLE.exists() else []:
        print(line)
    table.to_csv(TABLE, lineterminator="\n")
    print(f"wrote {TABLE}: {len(table)} rows; launches grow with the batch for {growing(table) or 'none'}")
