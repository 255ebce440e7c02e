"""MIP-IN's closed forms against the paper's ways, in one process on one thread: no larger errors, for less time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from mibench.methods.mipin.classifier import invert_classifier
from mibench.methods.mipin.filters import FilterSums, Windows, descended
from mibench.methods.mipin.learning import Lesson
from mibench.methods.mipin.mipin import MIPIN
from mibench.methods.mipin.ridge import Inverse
from mibench.network.chain import walk
from tests.benchmarks.clock import seconds, timed

SAMPLES, STEP, EPOCHS = 200, 32, 20  # the paper's epochs; a class's own samples
CONVOLUTIONS = {  # of the appendix: (C_in, C_out, k, side of the input)
    "CNN-M conv1": (1, 16, 5, 28),
    "CNN-M conv2": (16, 64, 3, 24),
    "CNN-C conv1": (3, 32, 3, 32),
    "CNN-C conv2": (32, 64, 3, 30),
    "CNN-C conv3": (64, 64, 3, 14),
}


def made_up(channels: int, out: int, kernel: int, side: int) -> tuple[Windows, Tensor, Tensor]:
    """Smooth non-negative activations, and what a random convolution and its rectifier make of them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn((SAMPLES, channels, side // 2, side // 2), generator=generator)
    x = nn.functional.interpolate(coarse, side, mode="bilinear").relu()
    convolution = nn.Conv2d(channels, out, kernel).requires_grad_(False)
    convolution.weight.copy_(torch.randn(convolution.weight.shape, generator=generator) / kernel / channels**0.5)
    s = convolution(x).relu()
    return Windows.of(convolution, s, x), s, x


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolutions_closed_form_beats_descent_in_half_the_time(benchmark: BenchmarkFixture, name: str) -> None:
    benchmark.group, benchmark.name = "peer", f"inversion of {name}"
    windows, s, x = made_up(*CONVOLUTIONS[name])
    shuffle = torch.Generator().manual_seed(1)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(SAMPLES, generator=shuffle).split(STEP):
            yield s[index], x[index]

    def closed() -> Inverse:
        sums = FilterSums(windows)
        sums.add(s, x)
        return sums.solve()

    exact = benchmark.pedantic(closed, rounds=3)
    steps, theirs = timed(lambda: descended(windows, epoch, EPOCHS, torch.Generator().manual_seed(2)))
    error, their_error = (float((windows.rebuild(inverse, s, x) - x).square().mean()) for inverse in (exact, steps))
    times = theirs / benchmark.stats.stats.min
    benchmark.extra_info.update(peer=f"gradient descent, {EPOCHS} epochs", times=times)
    benchmark.extra_info.update(error=error, peer_error=their_error)
    assert error <= their_error
    assert times >= 2


@pytest.mark.slow
def test_all_classes_in_one_pass_cost_a_hundredth_of_a_loop(
    benchmark: BenchmarkFixture,
) -> None:
    """10,000 maps of 1,280 channels of 7 x 7 cells, 1,000 classes; the loop is timed on two classes."""
    benchmark.group, benchmark.name = "peer", "1000 classes of 1280 channels"
    classes, count = 1000, 10_000
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes)).eval()
    chain = walk(network.requires_grad_(False), (1280, 7, 7), "input")
    x = torch.randn((count // 10, 1280, 7, 7), generator=generator).relu_().repeat(10, 1, 1, 1)
    benchmark.pedantic(lambda: invert_classifier(chain, x.split(128), penalty=0.1, forward_relu=True))
    some = dict.fromkeys(range(2), torch.ones(count, dtype=torch.bool))
    lesson = Lesson(chain, x, MIPIN.Parameters(), 0)
    each = sum(seconds(lambda c=c, rows=rows: lesson.learn({c: rows})) for c, rows in some.items()) / len(some)
    times = each * classes / benchmark.stats.stats.min
    benchmark.extra_info.update(peer="the loop over classes", times=times)
    assert times >= 100
