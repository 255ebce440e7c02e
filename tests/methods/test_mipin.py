"""MIP-IN written again, layer by layer and by explicit matrices, and what theory says that it must give."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from mibench.methods.mipin import learning, mipin
from mibench.methods.mipin.inversion import descend
from mibench.methods.mipin.mipin import MIPIN
from mibench.network.chain import walk
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins.contract import Explanation, Samples, Unsupported
from tests.methods.small_networks import (
    CLASSES,
    Residual,
    calibration,
    convolutional,
    frozen,
    fully_connected,
    some,
    table,
    transformer,
)


def opened(*layers: nn.Module, shape: tuple[int, ...] = (2, 8, 8), weights: int = 0) -> OpenProbe:
    model = frozen(nn.Sequential(*layers), weights)
    kind = "grid" if len(shape) == 3 else "columns"
    last = str(len(layers) - 2)
    return open_probe(model, kind=kind, local="input", representation=last, shape=shape, classes=CLASSES)


def small_cnn() -> OpenProbe:
    return opened(
        nn.Conv2d(2, 3, 3, stride=2, padding=1),  # (B, 3, 4, 4)
        nn.ReLU(),
        nn.Conv2d(3, 4, 2),  # (B, 4, 3, 3)
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, stride=1),  # (B, 4, 2, 2)
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


def fitted(probe: OpenProbe, samples: Samples | None = None, **parameters: object) -> MIPIN:
    explainer = MIPIN(MIPIN.Parameters(**parameters))
    state = explainer.learn(probe, samples or calibration(probe, 60), seed=0)
    explainer.restore(probe, replace(state, tensors=load(save(dict(state.tensors)))))
    return explainer


def explained(probe: OpenProbe, samples: Samples | None = None, **parameters: object) -> Explanation:
    return fitted(probe, samples, **parameters).explain(probe, *some(probe, 6))


# ---------------------------------------------------------------- written again


def naive_ridge(s: Tensor, x: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    s_mean, x_mean = s.mean(0), x.mean(0)
    gram = sum(torch.outer(a - s_mean, a - s_mean) for a in s) / len(s)
    cross = sum(torch.outer(b - x_mean, a - s_mean) for a, b in zip(s, x, strict=True)) / len(s)
    weight = cross @ torch.linalg.pinv(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), hermitian=True)
    return weight, x_mean - weight @ s_mean


def naive_filters(s: Tensor, x: Tensor, stride: int, padding: int, k: int) -> tuple[Tensor, Tensor]:
    """Filters and biases by least squares on every place of every sample, from windows written out."""
    extra = x.shape[2] - ((s.shape[2] - 1) * stride - 2 * padding + k)
    shape = (s.shape[1], x.shape[1], k, k)
    columns = []
    for index in range(s.shape[1] * k * k):  # the filters from one source channel to the first channel below
        unit = torch.zeros(s.shape[1], 1, k, k, dtype=s.dtype)
        unit.view(-1)[index] = 1
        columns.append(F.conv_transpose2d(s, unit, None, stride, padding, extra)[:, 0].flatten())
    design = torch.stack([*columns, torch.ones_like(columns[0])], 1)
    wanted = x.transpose(0, 1).flatten(1).T  # (places, C_in)
    solution = torch.linalg.lstsq(design, wanted, driver="gelsd").solution
    return solution[:-1].T.reshape(shape[1], shape[0], k, k).transpose(0, 1), solution[-1]


def naive(probe: OpenProbe, x: Tensor, c: int, samples: Samples, penalty: float) -> tuple[Tensor, Tensor]:
    """S_0 and A_0 of class c for x, from what is learned on the samples of that class (the small CNN, step by step)."""
    model = probe.model.double()
    layers = list(model)
    own = samples.x[samples.label == c].double()

    def upwards(x: Tensor) -> dict[str, Tensor]:
        relu1 = layers[0](x).relu()
        relu2 = layers[2](relu1).relu()
        pooled, switches = F.max_pool2d(relu2, 2, 1, return_indices=True)
        hidden = layers[7](pooled.flatten(1)).relu()
        logit = layers[9](hidden)[:, [c]]
        there = {"x": x, "relu1": relu1, "relu2": relu2, "pooled": pooled}
        return there | {"switches": switches, "hidden": hidden, "logit": logit}

    def place(s: Tensor, at: dict[str, Tensor]) -> Tensor:
        """The mean of the sources whose window's largest value is at a place."""
        total, count = torch.zeros_like(at["relu2"]).flatten(2), torch.zeros_like(at["relu2"]).flatten(2)
        where = at["switches"].flatten(2)
        total.scatter_add_(2, where, s.reshape(where.shape))
        count.scatter_add_(2, where, torch.ones_like(where, dtype=s.dtype))
        return (total / count.clamp(min=1)).reshape(at["relu2"].shape)

    fit, new = upwards(own), upwards(x.double())
    s, s_new, a_new = fit["logit"], new["logit"], new["logit"]
    for below in ("hidden", "pooled"):
        weight, bias = naive_ridge(s, fit[below].flatten(1), penalty)
        s = (s @ weight.T + bias) * (fit[below].flatten(1) != 0)
        s_new = (s_new @ weight.T + bias) * (new[below].flatten(1) != 0)
        a_new = (a_new @ weight.T) * (new[below].flatten(1) != 0)
    s, s_new, a_new = place(s, fit), place(s_new, new), place(a_new, new)
    for below, stride, padding, k, extra in (("relu1", 1, 0, 2, 0), ("x", 2, 1, 3, 1)):
        weight, bias = naive_filters(s, fit[below], stride, padding, k)
        masks = [(there[below] != 0) if below != "x" else 1 for there in (fit, new)]
        s = F.conv_transpose2d(s, weight, bias, stride, padding, extra) * masks[0]
        s_new = F.conv_transpose2d(s_new, weight, bias, stride, padding, extra) * masks[1]
        a_new = F.conv_transpose2d(a_new, weight, None, stride, padding, extra) * masks[1]
    probe.model.float()
    return s_new.float(), a_new.float()


def test_source_and_attribution_are_those_of_the_algorithm_written_out() -> None:
    probe, penalty = small_cnn(), 0.05
    samples = calibration(probe, 90)
    explanation = explained(probe, samples, penalty=penalty)
    x, target, _ = some(probe, 6)
    for n, c in enumerate(target.tolist()):
        source, attribution = naive(probe, x[[n]], c, samples, penalty)
        scale = float(source.abs().max())
        assert torch.allclose(explanation.signals["source"][n], source[0], atol=2e-3 * scale)
        scale = float(attribution.abs().max())
        assert torch.allclose(explanation.maps["map"][n], attribution[0].mean(0), atol=2e-3 * scale)


def test_attribution_is_the_logit_times_the_product_of_the_layers_matrices() -> None:
    probe = small_cnn()
    explainer = fitted(probe)
    x, target, seeds = some(probe, 1)
    c, chain = int(target[0]), explainer._chain
    values, inverses = chain.activations(x), explainer._inverses(probe, int(target[0]))
    product = torch.eye(1)
    for place in reversed(range(len(chain.layers))):  # each layer's own matrix, column by column
        only = replace(chain, layers=chain.layers[place : place + 1], base=chain.base if place == 0 else "inner")
        above = values[place + 1] if place + 1 < len(chain.layers) else values[-1][:, [c]]
        units = torch.eye(above.numel()).reshape(-1, *above.shape[1:])
        below = values[place].expand(len(units), *values[place].shape[1:])
        step = {0: inverses[place]} if place in inverses else {}
        matrix = descend(only, [below], units, step, linear=True).flatten(1).T  # (below, above)
        product = matrix @ product
    y = values[-1][0, c]
    explanation = explainer.explain(probe, x, target, seeds)
    assert torch.allclose(explanation.maps["map"], (y * product).reshape(2, 8, 8).mean(0), atol=1e-6)
    zero = descend(chain, values, torch.zeros(1, 1), inverses)
    linear_part = explanation.signals["source"] - zero
    assert torch.allclose(linear_part.flatten(), (y * product)[:, 0], atol=1e-5)


# ---------------------------------------------------------------- theory


def test_a_linear_network_is_inverted_as_one_regression() -> None:
    """Regressing on a regression changes nothing: W_1 … W_L = Cov(X, y) / Var(y), if no step is penalised."""
    probe = table(nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3))
    samples = calibration(probe, 400)
    explanation = explained(probe, samples, penalty=0.0, fit_on="all")
    x, target, _ = some(probe, 6)
    for n, c in enumerate(target.tolist()):
        fit, y = probe.logits(samples.x)[:, c], probe.logits(x[[n]])[0, c]
        covariance = ((samples.x - samples.x.mean(0)) * (fit - fit.mean())[:, None]).mean(0)
        weight = covariance / fit.var(correction=0)
        assert torch.allclose(explanation.maps["map"][n, 0], y * weight, atol=1e-4)
        expected = samples.x.mean(0) + weight * (y - fit.mean())
        assert torch.allclose(explanation.signals["source"][n], expected, atol=2e-4)


def test_on_white_inputs_a_linear_network_is_attributed_along_its_gradient() -> None:
    """With Cov(X) = I, Cov(X, y) = w: the attribution is y w / |w|^2, and the source signal keeps the logit."""
    probe = table(nn.Linear(5, 8), nn.Linear(8, 3))
    raw = calibration(probe, 300)
    centred = (raw.x - raw.x.mean(0)).double()
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(centred.T @ centred / len(centred))).T
    explanation = explained(probe, replace(raw, x=white.float()), penalty=0.0, fit_on="all")
    x, target, _ = some(probe, 6)
    inputs = x.clone().requires_grad_()
    y = probe.logits(inputs).gather(1, target[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(y.sum(), inputs)
    expected = y[:, None] * gradient / gradient.square().sum(1, keepdim=True)
    assert torch.allclose(explanation.maps["map"][:, 0], expected, atol=1e-4)
    kept = probe.logits(explanation.signals["source"]).gather(1, target[:, None])[:, 0]
    assert torch.allclose(kept, y, atol=1e-4)


def test_what_the_sample_left_silent_stays_silent() -> None:
    probe = opened(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 3))
    probe.model[0].bias.sub_(0.5)
    x, _, _ = some(probe, 6)
    silent = (probe.model[0](x) <= 0).all(1)  # (B, H, W): every channel is silent here, and 1 x 1 filters stay here
    assert bool(silent.any())
    maps = explained(probe).maps["map"]
    assert float(maps[silent].abs().max()) == 0
    assert bool(maps[~silent].ne(0).all())
    assert bool(explained(probe, forward_relu=False).maps["map"].ne(0).all())


def test_without_the_forward_relu_all_samples_of_a_class_look_the_same() -> None:
    layers = nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)
    probe = table(*layers)
    x, _, seeds = some(probe, 4)
    target = torch.zeros(4, dtype=torch.int64)
    maps = fitted(probe, forward_relu=False).explain(probe, x, target, seeds).maps["map"]
    logits = probe.logits(x)[:, 0]
    assert torch.allclose(maps / logits[:, None, None], maps[:1] / logits[0], atol=1e-5)


@pytest.mark.parametrize("rectifier", [nn.GELU(), nn.LeakyReLU(), nn.ReLU()], ids=["gelu", "leaky", "relu"])
def test_only_a_rectifier_that_gives_zeros_makes_the_map_the_sample_s_own(rectifier: nn.Module) -> None:
    probe = table(nn.Linear(5, 8), rectifier, nn.Linear(8, 3))
    x, _, seeds = some(probe, 4)
    maps = fitted(probe).explain(probe, x, torch.zeros(4, dtype=torch.int64), seeds).maps["map"]
    shapes = maps / probe.logits(x)[:, :1, None]
    assert torch.allclose(shapes, shapes[:1].expand_as(shapes), atol=1e-5) is not isinstance(rectifier, nn.ReLU)


# ---------------------------------------------------------------- layers and networks


def test_batch_norm_after_a_convolution_is_folded_and_elsewhere_inverted() -> None:
    folded = opened(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3))
    plain = walk(folded.model, folded.shape, "input")
    assert [type(layer).__name__ for layer in plain.layers] == ["Convolution", "Rectifier", "Reshape", "Dense"]
    x, _, _ = some(folded, 3)
    assert torch.allclose(plain.activations(x)[-1], folded.logits(x), atol=1e-4)
    first = opened(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3))
    rest = opened(*list(first.model)[1:])
    samples, normed = calibration(first, 60), first.model[0](calibration(first, 60).x)
    explainer, x = fitted(first, samples), some(first, 6)[0]
    inner = fitted(rest, replace(samples, x=normed)).explain(rest, first.model[0](x), *some(first, 6)[1:])
    outer = explainer.explain(first, *some(first, 6))
    assert torch.allclose(first.model[0](outer.signals["source"]), inner.signals["source"], atol=1e-3)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(2, 4, 3, groups=2, dilation=2), nn.LeakyReLU(), nn.Flatten(), nn.Linear(64, 3)),
        (nn.Conv2d(2, 4, 3, padding=1), nn.ReLU6(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 3)),
        (nn.Conv2d(2, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
        (
            nn.Conv2d(2, 4, 3),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 8),
            nn.ELU(),
            nn.Linear(8, 3),
        ),
        (nn.Flatten(), nn.Linear(128, 8), nn.BatchNorm1d(8), nn.Hardswish(), nn.Linear(8, 3)),
    ],
    ids=lambda layers: type(layers[1]).__name__,
)
def test_the_source_of_many_layers_keeps_more_of_the_logit_than_the_mean(layers: tuple) -> None:
    probe = opened(*layers)
    samples = calibration(probe, 240)
    explanation = explained(probe, samples, fit_on="all")
    x, target, _ = some(probe, 6)

    def logit(x: Tensor) -> Tensor:
        return probe.logits(x).gather(1, target[:, None])[:, 0]

    lost = (logit(x) - logit(explanation.signals["source"])).abs().mean()
    assert lost < (logit(x) - logit(samples.x.mean(0).expand_as(x))).abs().mean()


def test_a_layer_that_is_used_twice_is_inverted_in_each_place() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.again(F.relu(self.again(F.relu(self.first(x)))))))

    model = frozen(Twice())
    probe = open_probe(model, kind="columns", local="input", representation="first", shape=(5,), classes=CLASSES)
    unrolled = nn.Sequential(OrderedDict(a=model.first, r=nn.ReLU(), b=model.again, s=nn.ReLU(), c=model.again))
    unrolled.extend([nn.ReLU(), model.head]).eval()
    other = open_probe(unrolled, kind="columns", local="input", representation="a", shape=(5,), classes=CLASSES)
    assert torch.allclose(explained(probe).maps["map"], explained(other).maps["map"], atol=1e-5)


def test_a_table_has_a_map_of_one_row() -> None:
    explanation = explained(table())
    assert explanation.maps["map"].shape == (6, 1, 5)
    assert explanation.signals["source"].shape == (6, 5)


# ---------------------------------------------------------------- what is kept and when


def test_learning_a_class_when_it_is_explained_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = small_cnn()
    for fit_on in ("class", "all"):
        now = explained(probe, fit_on=fit_on, depth="input")
        monkeypatch.setattr(mipin, "KEEP", 0)
        later = explained(probe, fit_on=fit_on, depth="input")
        monkeypatch.undo()
        assert torch.allclose(now.maps["map"], later.maps["map"], atol=1e-5)


def test_groups_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = small_cnn()
    whole = explained(probe)
    monkeypatch.setattr(learning, "AT_ONCE", 1)
    monkeypatch.setattr(learning, "BATCH", 7)
    parts = explained(probe)
    assert torch.allclose(whole.maps["map"], parts.maps["map"], atol=1e-5)


def test_the_paper_s_solver_learns_the_convolutions_by_steps_and_is_seeded() -> None:
    probe = small_cnn()
    closed, once, again = (explained(probe, **p).maps["map"] for p in ({}, *[{"solver": "sgd", "epochs": 3}] * 2))
    assert torch.equal(once, again)
    assert not torch.allclose(once, closed)


# ---------------------------------------------------------------- what cannot be explained


class Called(nn.Module):
    """A convolution that is a call on parameters, not a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


def test_a_residual_sum_on_the_way_is_named() -> None:
    with pytest.raises(Unsupported, match="values meet at 'add'"):
        fitted(convolutional(Residual), depth="input")


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(Unsupported, match=r"layer '1' \(GroupNorm\)"):
        fitted(opened(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 3)), depth="input")
    with pytest.raises(Unsupported, match=r"layer 'conv2d' \(conv2d\) cannot be inverted"):  # its weights do not meet x
        fitted(opened(Called(), nn.Flatten(), nn.Linear(144, 3)), depth="input")
    mirrored = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")
    with pytest.raises(Unsupported, match="'0' pads with 'reflect'"):
        fitted(opened(mirrored, nn.Flatten(), nn.Linear(256, 3)), depth="input")
    with pytest.raises(Unsupported, match="ends in layer '2', not in a dense layer"):
        fitted(opened(nn.Flatten(), nn.Linear(128, 3), nn.ReLU()))


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"cannot be traced by torch\.fx"):
        fitted(transformer())


def test_a_layer_that_is_dead_on_the_calibration_samples_is_named() -> None:
    probe = opened(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 8), nn.ReLU(), nn.Linear(8, 3))
    probe.model[0].bias.fill_(-100.0)
    with pytest.raises(Unsupported, match="layer '2' gives only zeros on the calibration samples of class 0"):
        fitted(probe)


def test_a_class_without_calibration_samples_is_named_when_it_is_explained() -> None:
    probe = small_cnn()
    samples = calibration(probe, 60)
    keep = samples.label != 2
    fewer = Samples(samples.x[keep], samples.label[keep], tuple(str(n) for n in range(int(keep.sum()))))
    explainer = fitted(probe, fewer)
    x, _, seeds = some(probe, 6)
    assert explainer.explain(probe, x, torch.tensor([0, 1] * 3), seeds).maps["map"].isfinite().all()
    with pytest.raises(Unsupported, match="class 'c' has fewer than two calibration samples"):
        explainer.explain(probe, *some(probe, 6))
    assert explained(probe, fewer, fit_on="all").maps["map"].isfinite().all()
    with pytest.raises(Unsupported, match="no class has two"):
        fitted(probe, calibration(probe, 2), fit_on="class")


def test_a_batch_norm_that_multiplies_by_zero_is_named() -> None:
    probe = opened(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3))
    probe.model[0].weight[1] = 0.0
    with pytest.raises(Unsupported, match="batch norm '0' multiplies a channel by zero"):
        explained(probe)


def test_the_network_is_left_as_it_was() -> None:
    for probe in (small_cnn(), fully_connected()):
        before = {name: value.clone() for name, value in probe.model.state_dict().items()}
        explained(probe)
        assert all(torch.equal(before[name], value) for name, value in probe.model.state_dict().items())
        assert not any(module._forward_hooks for module in probe.model.modules())
