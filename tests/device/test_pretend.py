"""The pretend device has the rules of a GPU: what it does not refuse, and does not count, it could not prove."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.device import pretend


def test_it_refuses_to_mix_devices_and_generators(device: str) -> None:
    x = torch.ones(3, device=device)
    for other in ("cpu", "pretend:1"):
        with pytest.raises(RuntimeError, match="on the same device"):
            x + torch.ones(3, device=other)
        with pytest.raises(RuntimeError, match="on the same device"):
            nn.functional.conv2d(torch.ones(1, 1, 3, 3, device=device), torch.ones(1, 1, 2, 2, device=other))
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=device, generator=torch.Generator())
    with pytest.raises(TypeError):
        x.numpy()
    assert (x + torch.tensor(2.0)).cpu().tolist() == [3.0, 3.0, 3.0], "a number of the CPU's may meet a tensor"
    assert x[torch.tensor([0, 2])].cpu().tolist() == [1.0, 1.0], "and so may indices"


def test_it_counts_launches_copies_waits_and_draws(device: str) -> None:
    with pretend.counted() as counts:
        x = torch.ones(4, 4).to(device)  # a copy
        y = (x @ x).relu()  # two launches
        assert y.sum().item() == 64.0  # a launch, and a wait
        y.nonzero()  # a launch, and a wait for its size
        y.cpu()  # a copy back
        torch.rand(2, device=device)  # a launch that draws
    assert (counts.launches, counts.waits, counts.to_device, counts.to_host, counts.draws) == (5, 2, 1, 1, 1)


def test_the_gradient_of_a_network_is_the_cpus(device: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    x = torch.randn(5, 1, 8, 8)
    there = copy.deepcopy(network).to(device)
    assert copy.deepcopy(there)[0].weight.device == torch.device(device)
    for net, inputs in ((network, x), (there, x.to(device))):
        net(inputs).square().sum().backward()
    for a, b in zip(network.parameters(), there.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad.cpu(), rtol=1e-5, atol=1e-4)


def test_its_generator_draws_what_the_cpus_draws_and_keeps_its_place(device: str) -> None:
    here, there = torch.Generator().manual_seed(4), torch.Generator(device).manual_seed(4)
    for count in (3, 1, 5, 2):  # odd numbers leave the second value of a pair
        own = torch.randn(count, generator=here)
        assert torch.equal(own, torch.randn(count, generator=there, device=device).cpu())
    state = there.get_state()
    first = torch.randn(3, generator=there, device=device).cpu()
    there.set_state(state)
    assert torch.equal(first, torch.randn(3, generator=there, device=device).cpu())


def test_its_memory_has_an_end_and_is_given_back(device: str) -> None:
    before = torch.pretend.memory_allocated(device)
    with pretend.room(10_000):
        held = torch.ones(2000, device=device)
        with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
            torch.ones(2000, device=device)
        del held
        torch.ones(2000, device=device)
    assert torch.pretend.memory_allocated(device) == before


def test_autocast_multiplies_in_bf16_and_sums_in_float32(device: str) -> None:
    x = torch.ones(2, 4, device=device)
    with torch.autocast("pretend", dtype=torch.bfloat16):
        assert (x @ x.T).dtype == torch.bfloat16
        assert (x @ x.T).softmax(1).dtype == torch.float32
