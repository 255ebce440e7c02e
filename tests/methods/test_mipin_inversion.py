"""Going down one layer: closed forms against explicit least squares, and what needs no learning."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.methods.mipin.filters import FilterSums, Windows, descended
from mibench.methods.mipin.inversion import affine, undo, unpool
from mibench.methods.mipin.ridge import DenseSums, SpreadSums
from mibench.network.chain import Dense, Scale


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def least_error(columns: list[Tensor], wanted: Tensor) -> float:
    """The least squared error with which any sum of the columns meets what is wanted."""
    design, wanted = torch.stack([c.double().flatten() for c in columns], 1), wanted.double().flatten()[:, None]
    solution = torch.linalg.lstsq(design, wanted, driver="gelsd").solution
    return float((design @ solution - wanted).square().sum())


def squared(error: Tensor) -> float:
    return float(error.double().square().sum())


NAMES = "kernel_size", "stride", "padding", "dilation", "groups"
SETTINGS = [*product((2, (3, 2)), (1, 2), (0, 1), (1, 2), (1, 2)), (1, 1, 0, 1, 1), (3, 3, 1, 1, 1), (2, 3, 0, 1, 1)]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_no_transposed_filters_rebuild_better_than_the_closed_form(setting: tuple) -> None:
    convolution = nn.Conv2d(4, 6, **dict(zip(NAMES, setting, strict=True)))
    x = drawn(5, 4, 8, 7)
    s = F.relu(F.conv2d(x, drawn(*convolution.weight.shape, seed=1), None, *setting[1:]))
    windows = Windows.of(convolution, s, x)
    sums = FilterSums(windows)
    for some in (slice(0, 3), slice(3, 5)):
        sums.add(s[some], x[some])
    inverse = sums.solve()
    found = squared(windows.rebuild(inverse, s, x) - x)
    units = torch.eye(inverse.weight.numel()).reshape(-1, *inverse.weight.shape)
    filters = [windows.rebuild(type(inverse)(unit, None), s, x) for unit in units]
    biases = [torch.zeros_like(x).index_fill(1, torch.tensor([channel]), 1.0) for channel in range(4)]
    assert found == pytest.approx(least_error(filters + biases, x), rel=1e-5)


def test_a_mean_over_windows_is_undone_by_filters_for_each_channel() -> None:
    pool, x = nn.AvgPool2d(2), drawn(6, 3, 8, 8)
    s = pool(x)
    windows = Windows.of(pool, s, x)
    sums = FilterSums(windows)
    sums.add(s, x)
    inverse = sums.solve()
    assert inverse.weight.shape == (3, 1, 2, 2)
    for channel in range(3):  # every place of a window from the window's mean, with one bias for the channel
        places = x[:, channel].unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)  # (B, 4, 4, taps)
        columns = [torch.zeros_like(places).index_fill(3, torch.tensor([tap]), 1.0) for tap in range(4)]
        columns = [column * s[:, channel, ..., None] for column in columns] + [torch.ones_like(places)]
        error = squared((windows.rebuild(inverse, s, x) - x)[:, channel])
        assert error == pytest.approx(least_error(columns, places), rel=1e-5)


@pytest.mark.parametrize("rows", [7, 30], ids=["dual", "primal"])
def test_a_dense_layer_is_ridge_regression_in_primal_and_dual_form(rows: int) -> None:
    s, x, penalty = drawn(rows, 12).double(), drawn(rows, 5, seed=1).double(), 0.3
    sums = DenseSums(penalty)
    for some in (slice(0, 4), slice(4, None)):
        sums.add(s[some].float(), x[some].float())
    inverse = sums.solve()
    centred_s, centred_x = s - s.mean(0), x - x.mean(0)
    weight = centred_x.T @ centred_s @ torch.linalg.inv(centred_s.T @ centred_s + rows * penalty * torch.eye(12))
    assert (inverse.basis is not None) == (rows < 12)
    assert torch.allclose(inverse.multiplied_out().weight, weight.float(), atol=1e-5)
    assert torch.allclose(inverse.bias, (x.mean(0) - weight @ s.mean(0)).float(), atol=1e-5)
    layer = Dense("dense", nn.Linear(5, 12))
    assert torch.allclose(undo(layer, inverse, s.float(), x.float()), (s @ weight.T).float() + inverse.bias, atol=1e-5)


@pytest.mark.parametrize("rows", [7, 30], ids=["dual", "primal"])
def test_a_singular_gram_matrix_has_the_solution_of_least_norm(rows: int) -> None:
    s = drawn(rows, 6).repeat(1, 2)  # every source twice
    x = s[:, :6] @ drawn(6, 4, seed=1)
    sums = DenseSums(penalty=0.0)
    sums.add(s, x)
    weight = sums.solve().multiplied_out().weight
    assert torch.allclose(weight[:, :6], weight[:, 6:], atol=1e-4)
    assert torch.allclose(weight.norm(), torch.linalg.lstsq(s, x, driver="gelsd").solution.norm(), rtol=0.05)


def test_filters_of_a_singular_gram_matrix_rebuild_as_well() -> None:
    x, s = drawn(6, 2, 7, 7), drawn(6, 3, 5, 5, seed=1)
    errors = []
    for out in (s, torch.cat([s, s[:, :1], torch.zeros_like(s[:, :1])], 1)):  # a channel twice, and a dead one
        windows = Windows.of(nn.Conv2d(2, out.shape[1], 3), out, x)
        sums = FilterSums(windows)
        sums.add(out, x)
        inverse = sums.solve()
        assert bool(inverse.weight.isfinite().all())
        errors.append(squared(windows.rebuild(inverse, out, x) - x))
    assert errors[1] == pytest.approx(errors[0], rel=1e-5)


def test_sources_that_are_always_zero_rebuild_the_mean() -> None:
    x = drawn(9, 3, 4, 4)
    for sums, s in ((DenseSums(0.0), torch.zeros(9, 5)), (SpreadSums(), torch.zeros(9, 3))):
        sums.add(s, x.flatten(1) if isinstance(sums, DenseSums) else x)
        inverse = sums.solve()
        assert float(inverse.multiplied_out().weight.abs().max()) == 0
        assert torch.allclose(inverse.bias.flatten(), x.mean(0).flatten(), atol=1e-6)


def test_every_cell_of_a_mean_has_a_regression_of_its_own() -> None:
    x = drawn(20, 3, 2, 2).relu()
    s = x.mean((2, 3)) * 2 + 1
    sums = SpreadSums()
    sums.add(s[:9], x[:9])
    sums.add(s[9:], x[9:])
    inverse = sums.solve()
    for channel, row, column in product(range(3), range(2), range(2)):
        pair = torch.stack([s[:, channel], x[:, channel, row, column]]).double()
        slope = torch.cov(pair)[0, 1] / pair[0].var()
        assert float(inverse.weight[channel, row, column]) == pytest.approx(float(slope), abs=1e-5)


def test_switches_put_a_source_where_the_largest_value_was() -> None:
    pool, x = nn.MaxPool2d(2, return_indices=True), drawn(4, 3, 6, 6)
    pooled, switches = pool(x)
    s = drawn(*pooled.shape, seed=1)
    assert torch.equal(unpool(nn.MaxPool2d(2), s, x), F.max_unpool2d(s, switches, 2))


def test_windows_that_share_their_largest_value_rebuild_it_once() -> None:
    pool, x = nn.MaxPool2d(3, stride=1), drawn(2, 2, 7, 7)
    rebuilt = unpool(pool, pool(x), x)
    assert torch.allclose(rebuilt[rebuilt != 0], x[rebuilt != 0])


def test_batch_norm_is_undone_by_its_own_numbers() -> None:
    norm = nn.BatchNorm2d(3)
    norm.running_mean, norm.running_var = drawn(3), drawn(3, seed=1).abs() + 0.5
    norm.weight.data, norm.bias.data = drawn(3, seed=2), drawn(3, seed=3)
    norm = norm.eval().requires_grad_(False)
    x = drawn(4, 3, 5, 5, seed=4)
    scale, shift = affine(norm, x)
    assert torch.allclose(norm(x), x * scale + shift, atol=1e-5)
    assert torch.allclose(undo(Scale("norm", norm), None, norm(x), x), x, atol=1e-4)
    assert torch.allclose(undo(Scale("norm", norm), None, norm(x), x, linear=True), norm(x) / scale, atol=1e-4)


def test_gradient_descent_comes_near_the_closed_form_and_never_below_it() -> None:
    convolution, x = nn.Conv2d(2, 4, 3), drawn(24, 2, 8, 8)
    s = F.conv2d(x, drawn(4, 2, 3, 3, seed=1)).relu()
    windows = Windows.of(convolution, s, x)
    sums = FilterSums(windows)
    sums.add(s, x)
    best = squared(windows.rebuild(sums.solve(), s, x) - x)
    generator = torch.Generator().manual_seed(0)
    steps = descended(windows, lambda: [(s, x)], 2000, generator)
    assert best < squared(windows.rebuild(steps, s, x) - x) < 1.01 * best
