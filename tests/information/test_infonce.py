"""InfoNCE finds the information of Gaussians, never more than its ceiling, and needs no score tensor to do so."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mibench.information import exact, infonce, mine
from mibench.information.critic import Critic, estimate


def pairs(count: int, dimensions: int, correlation: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dimensions, generator=generator)
    rest = torch.randn(count, dimensions, generator=generator)
    return x, correlation * x + math.sqrt(1 - correlation**2) * rest


def batch(count: int = 6, cells: int = 5, width: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(count, width, generator=generator)
    return query, torch.randn(count, cells, width, generator=generator)


def slow_infonce(query: Tensor, keys: Tensor) -> Tensor:
    """Equation (1), one term at a time."""
    count, cells = keys.shape[:2]
    found = torch.zeros(count, cells)
    for n in range(count):
        for k in range(cells):
            normaliser = 0.0
            for m in range(count):
                for j in range(cells):
                    normaliser += math.exp(float(query[n] @ keys[m, j]))
            found[n, k] = float(query[n] @ keys[n, k]) - math.log(normaliser / (count * cells))
    return found


def slow_mine(query: Tensor, keys: Tensor) -> Tensor:
    """The Donsker-Varadhan bound, one term at a time."""
    count, cells = keys.shape[:2]
    others = [
        math.exp(float(query[n] @ keys[m, j]))
        for n in range(count)
        for m in range(count)
        for j in range(cells)
        if m != n
    ]
    return torch.tensor([[float(query[n] @ keys[n, k]) for k in range(cells)] for n in range(count)]) - math.log(
        sum(others) / len(others)
    )


@pytest.mark.parametrize("chunk", [1, 4, 30, 1000])
def test_the_streamed_normaliser_is_the_double_sum_of_the_paper(chunk: int) -> None:
    query, keys = batch()
    torch.testing.assert_close(infonce.pointwise(query, keys, chunk=chunk), slow_infonce(query, keys))


def test_mine_is_the_mean_over_pairs_that_do_not_belong_together() -> None:
    query, keys = batch()
    torch.testing.assert_close(mine.pointwise(query, keys, chunk=7), slow_mine(query, keys))


@pytest.mark.parametrize("chunk", [3, 1000])
def test_gradients_are_those_of_the_score_tensor_held_whole(chunk: int) -> None:
    query, keys = (part.requires_grad_() for part in batch())
    weights = torch.linspace(-1, 1, len(query))
    whole = (query @ keys.flatten(0, 1).T).logsumexp(1)
    expected = torch.autograd.grad((weights * whole).sum(), (query, keys))
    streamed = infonce.log_partition(query, keys.flatten(0, 1), chunk=chunk)
    found = torch.autograd.grad((weights * streamed).sum(), (query, keys))
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain)


def test_memory_does_not_hold_the_scores() -> None:
    """Autograd keeps queries, keys and one number a query; all the scores would be 25 times that."""
    query, keys = torch.randn(200, 8, requires_grad=True), torch.randn(20_000, 8, requires_grad=True)
    kept = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        infonce.log_partition(query, keys, chunk=500).sum()
    assert kept <= query.numel() + keys.numel() + len(query)


def test_products_in_bfloat16_change_the_information_by_little() -> None:
    query, keys = batch(32, 16, 64)
    query = query / 4
    exactly = infonce.pointwise(query, keys)
    rounded = infonce.pointwise(query, keys, dtype=torch.bfloat16)
    assert float((exactly - rounded).abs().max()) < 0.02
    assert not torch.equal(exactly, rounded)


def test_a_new_sample_is_judged_as_in_a_batch_of_itself_and_the_reference() -> None:
    query, keys = batch(4)
    together = infonce.pointwise(query, keys)
    reference = keys[1:].flatten(0, 1)
    alone = infonce.pointwise_against(query[:1], keys[:1], reference)
    torch.testing.assert_close(alone, together[:1])


def test_the_estimate_never_exceeds_its_ceiling() -> None:
    query, keys = batch(4, 3)
    found = infonce.pointwise(20 * query, keys)
    assert float(found.max()) <= infonce.ceiling(12) + 1e-4
    assert bool(infonce.saturated(found.max(), infonce.ceiling(12)))
    assert not bool(infonce.saturated(torch.tensor(0.5), infonce.ceiling(12)))


def test_matching_pairs_alone_bound_nothing() -> None:
    """The erratum: with exp f(z_m, x_mj) in the sum, a critic of norms alone claims information that is not there."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1000, 1, 1, generator=generator)
    query = 5 * torch.ones(1000, 1)  # z is constant: it knows nothing
    assert float(infonce.pointwise(query, noise).mean()) <= 0
    z = torch.randn(1000, 1, generator=generator)  # independent of x
    pair_scores = z + noise[:, 0]
    printed = pair_scores - (pair_scores.exp().mean().log())
    proper = infonce.pointwise(torch.cat([z, torch.ones(1000, 1)], 1), torch.cat([torch.ones_like(noise), noise], 2))
    assert float(proper.mean()) <= 0
    assert float(printed.var()) > 1  # "pointwise information" of variables that share none


@pytest.mark.parametrize("correlation", [0.0, pytest.param(0.5, marks=pytest.mark.slow), 0.9])
def test_infonce_and_mine_find_the_information_of_a_pair(correlation: float) -> None:
    x, z = pairs(2000, 1, correlation)
    sample = float(exact.gaussian_pointwise(x, z, correlation).mean())
    for objective, tolerance in (("infonce", 0.03), ("mine", 0.05)):
        found = estimate(x[:, None], z, seed=0, objective=objective, epochs=40, folds=2)  # type: ignore[arg-type]
        assert found.value == pytest.approx(sample, abs=tolerance)


def test_a_strong_dependence_is_found_within_the_known_bias() -> None:
    """2,000 pairs of five dimensions at .9, truth 4.15: a held-out critic says at most half a nat too little."""
    x, z = pairs(2000, 5, 0.9)
    sample = float(exact.gaussian_pointwise(x, z, 0.9).mean())
    infonce_found = estimate(x[:, None], z, seed=0, folds=2)
    assert -0.47 < infonce_found.value - sample < 0
    assert not infonce_found.saturated
    assert infonce_found.ceiling == pytest.approx(math.log(1000))


@pytest.mark.slow
def test_mine_finds_a_strong_dependence_within_its_known_bias() -> None:
    x, z = pairs(2000, 5, 0.9)
    sample = float(exact.gaussian_pointwise(x, z, 0.9).mean())
    assert -0.5 < estimate(x[:, None], z, seed=0, objective="mine", folds=2).value - sample < 0


@pytest.mark.slow
def test_mine_falls_short_by_less_the_longer_it_learns() -> None:
    """Neither the folds nor whose truth is asked makes 60 epochs fall short by a third of a nat: they are too few."""
    x, z = pairs(2000, 5, 0.9)
    short, long = (estimate(x[:, None], z, seed=0, objective="mine", epochs=epochs).value for epochs in (60, 240))
    truth, sample = exact.gaussian_pair(0.9, 5), float(exact.gaussian_pointwise(x, z, 0.9).mean())
    print(f"MINE, truth {truth:.3f} ({sample:.3f} of these samples): {short:.3f} after 60 epochs, {long:.3f} after 240")
    assert abs(sample - truth) < 0.02
    assert short + 0.05 < long < truth
    assert long > truth - 0.28


@pytest.mark.slow
def test_near_certainty_is_underestimated() -> None:
    x, z = pairs(2000, 1, 0.99)
    found = estimate(x[:, None], z, seed=0, folds=2)
    assert exact.gaussian_pair(0.99) - 0.15 < found.value < exact.gaussian_pair(0.99) + 0.1


def test_pointwise_values_are_right_where_nothing_is_nearly_certain() -> None:
    x, z = pairs(2000, 1, 0.9)
    truth = exact.gaussian_pointwise(x, z, 0.9)
    found = estimate(x[:, None], z, seed=0, folds=2)
    assert float(torch.corrcoef(torch.stack([truth, found.pointwise[:, 0]]))[0, 1]) > 0.98


def test_a_seed_repeats_its_estimate_and_leaves_global_randomness_alone() -> None:
    x, z = pairs(512, 1, 0.5)
    state = torch.get_rng_state()
    first, second = (estimate(x[:, None], z, seed=3, epochs=2, folds=2).value for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fill a batch"):
        estimate(torch.randn(100, 1, 1), torch.randn(100, 1), seed=0)
    query, keys = batch(1)
    with pytest.raises(ValueError, match="only one sample"):
        mine.pointwise(query, keys)


def test_a_wide_representation_meets_the_features_in_a_narrow_space() -> None:
    generator = torch.Generator().manual_seed(0)
    critic = Critic(5, 300, generator, joint=32)
    assert critic.query(torch.randn(4, 300)).shape == (4, 32)
    assert critic.keys(torch.randn(4, 6, 5)).shape == (4, 6, 32)


@pytest.mark.parametrize(("dimensions", "folded"), [(30, False), (300, True)])
def test_the_critic_is_the_papers_product_of_z_and_g_from_either_side(dimensions: int, folded: bool) -> None:
    critic = Critic(5, dimensions, torch.Generator().manual_seed(0), joint=0, hidden=64)
    z, x = torch.randn(4, dimensions), torch.randn(4, 6, 5)
    product = torch.einsum("nd,nkd->nk", torch.nn.functional.pad(z, (0, 1), value=1.0), critic.g(x))
    ours = torch.einsum("nd,nkd->nk", critic.query(z), critic.keys(x))
    torch.testing.assert_close(ours, product / math.sqrt(dimensions + 1), atol=1e-5, rtol=1e-5)
    assert critic.folded is folded
    assert critic.keys(x).shape[-1] == min(65, dimensions + 1)
