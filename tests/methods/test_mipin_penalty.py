"""The penalty that MIP-IN chooses is the one of least cross-validated error, from the fitting samples alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mibench.methods.mipin.mipin import MIPIN
from mibench.methods.mipin.penalty import PENALTIES, cross_validated, of_covariances, of_rows
from mibench.methods.mipin.ridge import DenseSums
from tests.methods.small_networks import calibration, fully_connected


def drawn(rows: int, sources: int, noise: float) -> tuple[Tensor, Tensor]:
    """Sources of unequal spread (N, G) and what is made of them (N, 6), with noise."""
    generator = torch.Generator().manual_seed(rows)
    s = torch.randn((rows, sources), generator=generator).double() * torch.linspace(0.1, 1.5, sources).double()
    way = torch.randn((sources, 6), generator=torch.Generator().manual_seed(1)).double()
    return s, s @ way + noise * torch.randn((rows, 6), generator=generator).double() + 3.0


def gcv(s: Tensor, x: Tensor, penalty: float) -> float:
    """The criterion by its explicit hat matrix: mean squared residual over (1 - mean leverage) squared."""
    count = len(s)
    centred = s - s.mean(0)
    inner = torch.linalg.inv(centred.T @ centred + count * penalty * torch.eye(s.shape[1]).double())
    hat = centred @ inner @ centred.T + torch.ones(count, count).double() / count
    residual = x - hat @ x
    return float(residual.square().sum() / count / (1 - hat.trace() / count) ** 2)


@pytest.mark.parametrize("rows", [15, 60], ids=["dual", "primal"])
@pytest.mark.parametrize("noise", [0.01, 1.0, 4.0])
def test_the_penalty_of_least_cross_validated_error_is_chosen(rows: int, noise: float) -> None:
    s, x = drawn(rows, 20, noise)
    expected = min(PENALTIES, key=lambda penalty: gcv(s, x, penalty))
    centred_s, centred_x = s - s.mean(0), x - x.mean(0)
    covariance, cross = centred_s.T @ centred_s / rows, centred_s.T @ centred_x / rows
    variance = centred_x.square().sum() / rows
    assert float(of_covariances(covariance, cross, variance, rows)) == pytest.approx(expected)
    if rows < 20:
        assert float(of_rows(centred_s @ centred_s.T, centred_x)) == pytest.approx(expected)
    chosen, told = DenseSums("auto"), DenseSums(expected)
    for sums in (chosen, told):
        sums.add(s[:9].float(), x[:9].float())
        sums.add(s[9:].float(), x[9:].float())
    assert torch.equal(chosen.solve().multiplied_out().weight, told.solve().multiplied_out().weight)


def test_noise_needs_a_larger_penalty_which_beats_the_papers() -> None:
    quiet, loud = (of_rows(*gram(*drawn(15, 20, noise))) for noise in (0.01, 4.0))
    assert quiet < loud
    s, x = drawn(15, 20, 4.0)
    new_s, new_x = drawn(400, 20, 4.0)
    errors = []
    for penalty in ("auto", PENALTIES[0]):
        sums = DenseSums(penalty)  # type: ignore[arg-type]
        sums.add(s, x)
        inverse = sums.solve()
        rebuilt = new_s.float() @ inverse.multiplied_out().weight.T + inverse.bias
        errors.append(float((rebuilt - new_x).square().mean()))
    assert errors[0] < errors[1]


def gram(s: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    s, x = s - s.mean(0), x - x.mean(0)
    return s @ s.T, x


def test_sources_that_say_nothing_get_the_least_penalty() -> None:
    nothing = torch.zeros(3).double()
    assert float(cross_validated(nothing, nothing, torch.tensor(2.0).double(), 9)) == pytest.approx(PENALTIES[0])


def test_each_class_chooses_from_its_own_samples() -> None:
    probe = fully_connected()
    samples = calibration(probe, 60)
    whole, part = MIPIN(), MIPIN()
    one = samples.label == 0
    alone = type(samples)(samples.x[one], samples.label[one], tuple(map(str, range(int(one.sum())))))
    states = [explainer.learn(probe, given, 0) for explainer, given in ((whole, samples), (part, alone))]
    for name, tensor in states[1].tensors.items():
        if name != "classes":
            assert torch.allclose(states[0].tensors[name][0], tensor[0], atol=1e-5), name
