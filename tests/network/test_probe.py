"""A probe opens a network at its cut points and leaves it as it was found."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mibench.errors import ModelError
from mibench.network.probe import OpenProbe, _agrees, _Replay, open_probe
from mibench.plugins.contract import Features

CLASSES = tuple("abc")


def frozen(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


class Traceable(nn.Module):
    """A small residual network whose forward keeps the batch size, as EfficientNet-Lite's does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.size(0)
        x = self.stem(x)
        x = x + self.block(x)
        return self.head(self.pool(x).view(batch, -1))  # type: ignore[no-any-return]


class Untraceable(Traceable):
    """The same network with a branch on the data, which torch.fx cannot trace."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x.sum()) > 1e9:
            x = x * 0
        return super().forward(x)


def opened(model: nn.Module, local: str = "stem") -> OpenProbe:
    return open_probe(
        model, kind="grid", local=local, representation="pool", shape=(3, 6, 6), classes=CLASSES, depths=("stem",)
    )


@pytest.mark.parametrize("network", [Traceable, Untraceable])
@pytest.mark.parametrize("local", ["stem", "input", "stem.1"])
def test_resuming_gives_the_numbers_of_the_whole_forward(network: type[nn.Module], local: str) -> None:
    probe = opened(frozen(network()), local)
    x = torch.randn(5, 3, 6, 6)
    whole = probe.features(x)
    again = probe.resume(whole.local)
    assert torch.allclose(again.logits, whole.logits, atol=1e-6)
    assert torch.allclose(again.representation, whole.representation, atol=1e-6)
    assert torch.allclose(probe.logits(x), whole.logits, atol=1e-6)


@pytest.mark.parametrize("network", [Traceable, Untraceable])
def test_resuming_does_not_run_the_layers_before_the_cut(network: type[nn.Module]) -> None:
    model = frozen(network())
    probe = opened(model)
    local = probe.features(torch.randn(2, 3, 6, 6)).local
    calls: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            forward = module.forward

            def counted(x: Tensor, name: str = name, forward: object = forward) -> Tensor:
                calls.append(name)
                return forward(x)  # type: ignore[operator, no-any-return]

            object.__setattr__(module, "forward", counted)
    probe.resume(local)
    assert "stem.0" not in calls
    assert {"block.0", "head"} <= set(calls)


def test_an_untraceable_network_is_replayed() -> None:
    assert isinstance(opened(frozen(Untraceable()))._suffix, _Replay)
    assert not isinstance(opened(frozen(Traceable()))._suffix, _Replay)


@pytest.mark.parametrize("network", [Traceable, Untraceable])
def test_a_cut_around_which_values_pass_is_refused(network: type[nn.Module]) -> None:
    with pytest.raises(ModelError, match="pass around"):
        opened(frozen(network()), "block")


def test_resuming_does_not_write_into_the_features_it_is_given() -> None:
    probe = opened(frozen(Traceable()), "stem.1")  # followed by a ReLU in place
    features = probe.features(torch.randn(4, 3, 6, 6))
    assert float(features.local.min()) < 0
    before = features.local.clone()
    probe.resume(features.local)
    assert torch.equal(features.local, before)


def test_gradients_flow_from_the_logits_to_the_cut() -> None:
    probe = opened(frozen(Traceable()))
    local = probe.features(torch.randn(2, 3, 6, 6)).local.detach().requires_grad_()
    probe.resume(local).logits.sum().backward()
    assert local.grad is not None
    assert float(local.grad.abs().sum()) > 0


def test_cells_and_replace_are_inverse() -> None:
    probe = opened(frozen(Traceable()))
    local = probe.features(torch.randn(2, 3, 6, 6)).local
    cells = probe.cells(local)
    assert cells.shape == (2, 36, 4)
    assert torch.equal(cells[0, 7], local[0, :, 1, 1])  # row-major
    assert torch.equal(probe.replace(local, cells), local)


def test_the_network_is_left_as_it_was_found_even_after_an_error() -> None:
    model = frozen(Untraceable())
    state = copy.deepcopy(model.state_dict())
    probe = opened(model)
    with pytest.raises(RuntimeError):
        probe.features(torch.randn(2, 5, 6, 6))
    with pytest.raises(RuntimeError):
        probe.resume(torch.randn(2, 5, 6, 6))
    for module in model.modules():
        assert not module._forward_hooks
        assert "forward" not in module.__dict__
        assert not module.training
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_a_layer_that_is_not_there_gets_the_nearest_names() -> None:
    with pytest.raises(ModelError, match=r"'stm'.*stem"):
        opened(frozen(Traceable()), "stm")


def test_a_network_in_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match="eval mode"):
        opened(Traceable())


def test_a_table_is_opened_at_its_columns() -> None:
    model = frozen(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    probe = open_probe(model, kind="columns", local="input", representation="1", shape=(4,), classes=CLASSES)
    features = probe.features(torch.randn(5, 4))
    assert probe.grid == probe.pixels == (1, 4)
    assert probe.cells(features.local).shape == (5, 4, 1)
    assert features.representation.shape == (5, 8)
    assert torch.allclose(probe.resume(features.local).logits, features.logits)


def test_tokens_keep_their_class_token() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 8))
            self.patches = nn.Conv2d(3, 8, 2, stride=2)
            self.embedding = nn.Identity()
            self.encoder, self.norm, self.head = layer, nn.LayerNorm(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = self.embedding(torch.cat([self.token.expand(len(x), -1, -1), x], 1))
            return self.head(self.norm(self.encoder(x))[:, 0])  # type: ignore[no-any-return]

    model = Tiny().eval().requires_grad_(False)
    probe = open_probe(model, kind="tokens", local="embedding", representation="norm", shape=(3, 6, 6), classes=CLASSES)
    x = torch.randn(2, 3, 6, 6)
    features = probe.features(x)
    assert probe.grid == (3, 3)
    assert torch.equal(features.representation, model.norm(model.encoder(features.local))[:, 0])
    cells = probe.cells(features.local)
    assert torch.equal(probe.replace(features.local, cells), features.local)
    assert torch.allclose(probe.resume(features.local).logits, features.logits, atol=1e-5)


class Sequence(nn.Module):
    """A vector for every token, the class token first among the extra ones."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.tokens, self.head = nn.Unflatten(1, (count, 2)), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tokens(x)[:, 0])  # type: ignore[no-any-return]


def sequence(count: int) -> OpenProbe:
    model = frozen(Sequence(count))
    cuts = {"local": "tokens", "representation": "tokens"}
    return open_probe(model, kind="tokens", **cuts, shape=(2 * count,), classes=CLASSES)


def test_up_to_five_tokens_beside_a_square_are_extra_ones() -> None:
    for extra in (0, 1, 5):
        probe = sequence(9 + extra)
        assert (probe.grid, probe.extra_tokens) == ((3, 3), extra)
    with pytest.raises(ModelError, match="the 15 tokens of layer 'tokens'"):
        sequence(15)


def agrees(suffix: object, precision: torch.dtype | None = None) -> bool:
    """Whether a way on from the cut, made from the right one, passes as the network's."""
    probe = open_probe(
        frozen(Traceable()),
        kind="grid",
        local="stem",
        representation="pool",
        shape=(3, 6, 6),
        classes=CLASSES,
        autocast=precision,
    )
    with torch.no_grad():
        opened = probe.features(probe.network.example())
        return _agrees(probe.network, lambda local: suffix(*probe._suffix(local)), opened)  # type: ignore[operator]


def test_a_way_on_from_the_cut_must_give_the_networks_numbers() -> None:
    assert agrees(lambda z, logits: (z, logits))
    assert agrees(lambda z, logits: (z * 1.00001, logits * 1.00001))
    assert not agrees(lambda z, logits: (z, logits * 1.001))
    assert not agrees(lambda z, logits: (z * 1.001, logits))
    for moved in (0.01, -0.01):
        assert not agrees(lambda z, logits, by=moved: (z, logits + torch.tensor([0.0, 0.0, by])))


def test_a_way_on_may_differ_more_in_half_precision_but_not_by_a_tenth() -> None:
    assert agrees(lambda z, logits: (z, logits * 1.02), torch.bfloat16)
    assert not agrees(lambda z, logits: (z, logits * 1.1), torch.bfloat16)


def test_a_way_on_that_holds_for_two_samples_only_is_refused() -> None:
    assert not agrees(lambda z, logits: (z, logits if len(logits) == 2 else logits * 2))
    assert not agrees(lambda z, logits: (z, logits if len(logits) == 1 else logits * 2))


def test_opening_leaves_the_features_alone_where_the_way_on_works_in_place() -> None:
    probe = opened(frozen(Traceable()), "stem.1")
    with torch.no_grad():
        features = probe.features(probe.network.example())
    before = Features(features.local.clone(), features.representation, features.logits)

    def in_place(local: Tensor) -> tuple[Tensor, Tensor]:
        answer = probe._suffix(local.clone())
        local.zero_()
        return answer  # type: ignore[no-any-return]

    assert _agrees(probe.network, in_place, features)
    assert torch.equal(features.local, before.local)


def test_features_that_are_not_in_order_in_memory_can_be_resumed_by_a_view() -> None:
    class Viewed(Traceable):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4 * 36, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            return self.head(h.view(h.size(0), -1))  # type: ignore[no-any-return]

    probe = open_probe(
        frozen(Viewed()), kind="grid", local="stem", representation="head.input", shape=(3, 6, 6), classes=CLASSES
    )
    features = probe.features(torch.randn(2, 3, 6, 6))
    moved = features.local.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not moved.is_contiguous()
    assert torch.allclose(probe.resume(moved).logits, features.logits, atol=1e-6)
    assert torch.equal(features.representation, features.local.flatten(1))


def test_a_network_cannot_be_cut_at_what_goes_into_a_layer() -> None:
    with pytest.raises(ModelError, match=r"cannot be cut at 'block\.input': name the layer before it"):
        opened(frozen(Traceable()), "block.input")
