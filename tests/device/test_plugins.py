"""On an accelerator every explainer gives the CPU's maps and every metric the CPU's scores, but for rounding.

Fitted, saved, restored, explained and scored on the pretend device, which refuses what a GPU refuses. The bound is
`accelerator.CLOSE` of the largest value for all; an exception would be a row of EXCEPTIONS with its reason.
"""

from __future__ import annotations

import pytest
import torch

from mibench.conformance import accelerator
from mibench.models.layers import proposal
from mibench.network.devices import numerics
from mibench.plugins import registry
from mibench.record import proofs
from tests.device import pretend
from tests.device.kinds import KINDS, QUICK, bench

EXCEPTIONS: dict[tuple[str, str], tuple[float, str]] = {}  # (kind, plug-in) -> another bound, and why


def failures(found: list[accelerator.Comparison]) -> list[str]:
    """What is farther apart than it may be."""
    return [
        f"{each.network} {each.plugin}: {each.difference:.1e} {each.reason}"
        for each in found
        if each.reason or each.difference > EXCEPTIONS.get((each.network, each.plugin), (accelerator.CLOSE,))[0]
    ]


def compared(kind: str, device: str, methods: list[str], metrics: list[str]) -> list[accelerator.Comparison]:
    here = bench(kind)
    with numerics(device, "fp32"):
        return list(accelerator.compare(here, accelerator.carried(here, device), methods, metrics))


@pytest.mark.parametrize("kind", KINDS)
def test_every_explainer_gives_the_cpus_maps_on_an_accelerator(kind: str, device: str) -> None:
    found = compared(kind, device, [QUICK.get(name, name) for name in accelerator.explainers()], [])
    assert failures(found) == []
    assert len(found) == len(accelerator.explainers())
    assert sum(each.explained for each in found) >= 12, "most of them do not refuse the network"


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_gives_the_cpus_scores_on_an_accelerator(kind: str, device: str) -> None:
    found = compared(kind, device, [], registry.names("metrics"))
    assert failures(found) == []
    assert sum(each.explained for each in found) >= 12


@pytest.mark.slow
def test_the_device_path_is_proved_by_default_and_kept_for_doctor(device: str) -> None:
    assert failures(accelerator.prove(device)) == []
    assert any(each["device"] == "pretend device in host memory" for each in proofs.proofs())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_explainer_runs_with_its_network_in_bf16(kind: str, device: str) -> None:
    here = bench(kind)
    there = accelerator.carried(here, device, torch.bfloat16)
    for name in accelerator.explainers():
        found = accelerator.compared(
            kind, name, lambda on, name=name: accelerator.explained(name, on).maps, there, there
        )
        assert not found.reason, f"{name}: {found.reason}"


@pytest.mark.parametrize("parameters", ["critic=mine", "joint=3", "mask=noise,reward=none,separate_critic=true"])
def test_mire_stays_on_the_device_with_every_critic_and_mask(parameters: str, device: str) -> None:
    assert failures(compared("grid", device, [f"mire[epochs=2,{parameters}]"], [])) == []


def test_mires_critic_in_bf16_differs_on_the_device_by_its_rounding(device: str) -> None:
    (found,) = compared("grid", device, ["mire[epochs=2,precision=bf16]"], [])
    assert not found.reason
    assert found.difference < 0.05


ESTIMATORS = ("edge", "binning", "mixed", "ksg")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_nif_stays_on_the_device_with_every_estimator(estimator: str, device: str) -> None:
    name = f"nif[estimator={estimator},reference=64,correction=permutation,beta=0.1,redundancy=32]"
    assert failures(compared("columns", device, [name], [])) == []


def test_what_needs_double_precision_says_so_on_a_device_that_has_none(device: str) -> None:
    there = accelerator.carried(bench("grid"), device)
    fine = []
    with pretend.without_doubles():
        for name in accelerator.explainers():
            found = accelerator.compared(
                "grid", name, lambda on, name=name: accelerator.explained(name, on).maps, there, there
            )
            assert not found.reason or "float64" in found.reason, f"{name}: {found.reason}"
            fine += [] if found.reason else [name]
    assert {"saliency", "gradcam", "occlusion", "smoothgrad"} <= set(fine)
    assert {"mire", "nif", "iba"}.isdisjoint(fine), "auto may pick a device without float64 when these do without it"


def test_cuts_are_proposed_without_moving_the_network_from_its_device(device: str) -> None:
    def network() -> torch.nn.Sequential:
        torch.manual_seed(0)
        layers = (torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(256, 5))
        return torch.nn.Sequential(*layers).eval().requires_grad_(False)

    moved = network().to(device)
    assert proposal(moved, "m:f", (3, 8, 8)) == proposal(network(), "m:f", (3, 8, 8))
    assert {str(each.device) for each in moved.parameters()} == {device}
