"""Nothing asks more of an accelerator than is committed, and no batch of samples takes more launches than a few do."""

from __future__ import annotations

import pandas as pd
import pytest

from mibench.conformance import accelerator
from tests.device import counts
from tests.device.kinds import KINDS

RENEW = "if that is meant, renew the table: python -m tests.device.counts"
GROW = {"columns mipin": "an inverse for each class that the batch holds, three here at most"}
BRIEF = ("gradcam", "iba", "ig", "mipin", "nif", "occlusion", "saliency")  # for the ordinary run: no long fits


def test_launches_do_not_grow_with_the_batch_where_mathematics_allows() -> None:
    table = counts.read()
    assert counts.growing(table).keys() == GROW.keys()
    assert {name for _, name, stage in table.index if stage != "score"} == set(accelerator.explainers())
    assert {kind for kind, _, _ in table.index} == set(KINDS)


def test_no_explainer_draws_its_noise_on_the_device() -> None:
    assert (counts.read()["draws"] == 0).all()


def test_no_explainer_makes_the_host_wait_once_a_sample() -> None:
    waits = counts.read()["waits"].unstack("stage")
    assert (waits[f"explain {counts.MANY}"].dropna() <= waits[f"explain {counts.COUNT}"].dropna() + 1).all()


@pytest.mark.parametrize("kind", ["grid"])
def test_brief_explainers_ask_no_more_than_the_table_says(kind: str, device: str) -> None:
    assert counts.more(counts.read(), counts.count(kind, device, [*BRIEF])) == [], RENEW


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_asks_no_more_than_the_table_says(kind: str, device: str) -> None:
    found = counts.count(kind, device)
    assert counts.more(counts.read(), found) == [], RENEW
    assert found.index.difference(counts.read().index).empty, RENEW


def test_a_loop_over_the_samples_would_be_seen() -> None:
    known = counts.read()
    found: pd.DataFrame = known.sort_index()
    key = ("grid", "iba", f"explain {counts.MANY}")
    found.loc[key, "launches"] *= 2
    found.loc[key, "waits"] += counts.MANY
    assert len(counts.more(known, found)) == 2
    assert "grid iba" in counts.growing(found)
