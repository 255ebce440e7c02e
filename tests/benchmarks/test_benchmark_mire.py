"""What an epoch of MIRE costs on one core, beside the core's own matrix peak; all in processor time, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mibench.contract import Samples
from mibench.methods import mire
from mibench.methods._calibration import Calibration, look
from mibench.methods._descent import descend
from mibench.models.cnn_m import CnnM
from mibench.models.planted import TwoHeads
from mibench.probe import OpenProbe, open_probe

QUARTER = 4  # a quarter of an epoch is measured


def seconds(function: Callable[[], Any]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def peak(dtype: torch.dtype) -> float:
    """The core's multiplications and additions a second in a large matrix product."""
    matrix = torch.randn(2048, 2048, dtype=dtype)
    return 2 * 2048**3 / min(seconds(lambda: matrix @ matrix) for _ in range(4))


def planted() -> OpenProbe:
    network = TwoHeads(6).explained().eval().requires_grad_(False)
    classes = tuple("abcdef")
    return open_probe(network, kind="grid", local="relu3", representation="relu4", shape=(3, 32, 32), classes=classes)


def digits() -> OpenProbe:
    network: nn.Module = CnnM().build(10).eval().requires_grad_(False)
    classes = tuple("0123456789")
    return open_probe(network, kind="grid", local="pool", representation="relu3", shape=(1, 28, 28), classes=classes)


def epoch(data: Calibration, samples: int, **parameters: Any) -> tuple[float, float]:
    """Seconds of an epoch of so many samples, and its floating point operations."""
    p = mire.Parameters(epochs=1, **parameters)
    order, noise = (torch.Generator().manual_seed(0) for _ in range(2))
    shape = data.locals(torch.arange(1)).shape
    model = mire.Decomposition(p, shape, data.probe.grid, mire.statistics(data), order)

    def backward(index: torch.Tensor) -> torch.Tensor:
        value, parts = mire.objective(model, data, index, data.prediction, noise)
        (-value).backward()
        return parts

    def learn(count: int) -> None:
        descend(model, p, count, order, backward, mire.PARTS)

    learn(p.batch)
    with FlopCounterMode(display=False) as counted:
        learn(p.batch)
    return QUARTER * seconds(lambda: learn(samples // QUARTER)), counted.get_total_flops() * samples / p.batch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("opened", "samples", "batch", "bound"),
    [(planted, 8000, 128, 2.5), (digits, 4000, 64, 5.0)],
    ids=["planted", "cnn-m"],
)
def test_an_epoch_is_fast_on_one_core(opened: Callable[[], OpenProbe], samples: int, batch: int, bound: float) -> None:
    probe = opened()
    x = torch.randn((samples // QUARTER, *probe.network.shape), generator=torch.Generator().manual_seed(1))
    data = look(probe, Samples(x, torch.zeros(len(x), dtype=torch.int64), tuple(map(str, range(len(x))))))
    taken = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for joint in (64, 0):
            fastest = peak(dtype)
            cost, operations = epoch(data, samples, batch=batch, precision=precision, joint=joint)
            taken[precision, joint] = cost
            share = operations / cost / fastest
            print(
                f"{precision}, {'z mapped to 64' if joint else 'z as it is'}: {cost:.2f} s an epoch, "
                f"{operations / 1e9:.0f} GFLOP, {share:.0%} of this core's {fastest / 1e9:.0f} GFLOP/s"
            )
    assert min(taken["fp32", 64], taken["bf16", 64]) < bound
