"""Ideal maps of each claim, maps that say nothing, and the two things that no score of claims may do."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mibench.metrics import claims
from mibench.plugins import registry
from mibench.plugins.contract import CLAIMS, Claim, Evidence, MapSpec, Metric, Scene

RANKS = (claims.RankMarginal, claims.RankConditional, claims.RankAdditive)
PROFILES = (claims.ProfileMarginal, claims.ProfileConditional, claims.ProfileAdditive)


def row(here: Scene, cells: Tensor, claim: Claim | None, *, signed: bool = True) -> Evidence:
    """A map (N, h, w) of cells that claims to be one of the truths."""
    raw = here.probe.upsample(cells.float())
    spec = MapSpec("map", unit="nats", signed=signed, claim=claim)
    return Evidence(raw / raw.abs().amax((1, 2), keepdim=True).clamp_min(1e-9), raw, spec, {"map": raw})


def ideal(here: Scene, claim: str) -> Tensor:
    assert here.truth is not None
    return here.truth.information[claim]


def noise(here: Scene, seed: int = 0) -> Tensor:
    assert here.truth is not None
    return torch.rand(len(here.x), *here.truth.grid, generator=torch.Generator().manual_seed(seed))


def candidates(here: Scene) -> dict[str, Tensor]:
    encoder: Any = registry.explainer("encoder")
    spots = encoder.explain(here.probe, here.x, here.target, here.seeds).maps["map"]
    flat = noise(here)
    others = {
        "empty": torch.zeros_like(flat),
        "random": flat,
        "encoder": torch.nn.functional.avg_pool2d(spots, spots.shape[-1] // flat.shape[-1]),
    }
    return {claim: ideal(here, claim) for claim in CLAIMS} | others


def scores(claim: Claim) -> dict[str, Metric]:
    """The scores of one claim."""
    rank = next(each for each in RANKS if each().claim == claim)
    profile = next(each for each in PROFILES if each().claim == claim)
    return {
        "rank": rank(),
        "rank of sources": rank(rank.Parameters(over="sources")),
        "profile": profile(),
        "error": claims.ClaimedError(),
    }


def mean(metric: Metric, here: Scene, evidence: Evidence) -> float:
    return float(metric.score(here, {"row": evidence})["row"].nanmean())


def check_no_contradiction(here: Scene, claim: Claim) -> None:
    """Each ideal is first in the scores of its claim, and neither random, encoder nor (if it is something) empty is."""
    judged, something = 0, bool(ideal(here, claim).abs().max() > claims.RESOLUTION)
    for name, metric in scores(claim).items():
        found = {who: mean(metric, here, row(here, cells, claim)) for who, cells in candidates(here).items()}
        if found[claim] != found[claim]:
            continue  # this truth has no order or no positive part here, and nobody gets a score
        judged += 1
        best = (max if metric.direction == "higher" else min)(each for each in found.values() if each == each)
        assert found[claim] == pytest.approx(best, abs=1e-4), (name, found)
        for who in ("random", "encoder", *(["empty"] if something else [])):
            assert found[who] != pytest.approx(best, abs=0.005), (name, who, found)
    assert judged >= (2 if something else 1)  # where the claim is zero everywhere, the error alone


def check_noise_costs(here: Scene, claim: Claim) -> None:
    """The more of a truth is noise, the lower is every score."""
    truth = ideal(here, claim)
    if not bool(truth.abs().max() > claims.RESOLUTION):
        pytest.skip("there is no truth to drown: every cell holds nothing of this claim")
    scale = truth.abs().amax()
    for name, metric in scores(claim).items():
        steps = []
        for share in (0.0, 0.3, 0.6, 1.0):
            mixed = [(1 - share) * truth + share * scale * noise(here, seed) for seed in range(6)]
            steps.append(sum(mean(metric, here, row(here, each, claim)) for each in mixed) / 6)
        if steps[0] == steps[0]:
            falling = steps if metric.direction == "higher" else [-each for each in steps]
            assert falling[0] > falling[-1], (name, steps)
            few = name == "rank of sources"  # two sources keep their order while the noise is weak
            assert all(a > b or (few and a == b) for a, b in itertools.pairwise(falling)), (name, steps)
