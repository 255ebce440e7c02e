"""Whichever idiom a head is written in, every method explains the network, and as it explains the same in layers."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from torch import Tensor

from mibench.network.chain import walk
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Unsupported
from mibench.suites.suite import every_method
from tests.methods import heads
from tests.methods.small_networks import explained, frozen

FAST = {
    **{name: f"{name}[epochs=1]" for name in ("milr", "mire", "mire-noise", "iba-readout")},
    "iba": "iba[steps=2]",
    "nif": "nif[reference=32,redundancy=16]",
    "nif-min": "nif-min[reference=32,redundancy=16]",
}
BY_LAYERS = ("mipin", "mipin[depth=classifier]", "lrp", "deep-taylor", "patternnet", "patternattribution")
REFUSES = {  # what each kind of method cannot treat; everybody else explains these networks, too
    "a loop over sizes": {*BY_LAYERS},
    "a branch on values": {*BY_LAYERS},
    "log_softmax": {*BY_LAYERS},
    "standard deviation": {*BY_LAYERS},
    "a learned scale": {*BY_LAYERS},
    "F.linear": {*BY_LAYERS},
    "mean and maximum": {*BY_LAYERS} - {"lrp", "deep-taylor"},
}
GROUP = {name: next(iter(group)) for group in heads.GROUPS for name in group}
PLAIN = [name for name, first in GROUP.items() if name != first]


def opened(head: str) -> OpenProbe:
    return open_probe(
        frozen(heads.Written(head)),
        kind="grid",
        local="features",
        representation=heads.representation(head),
        shape=heads.SHAPE,
        classes=heads.CLASSES,
    )


@cache
def maps(method: str, head: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    found = dict(explained(registry.explainer(FAST.get(method, method)), opened(head)).maps)
    assert all(bool(each.isfinite().all()) for each in found.values())
    return found


def agrees_with_layers(method: str, head: str) -> None:
    """The maps are those of the network that is written with layers, to a hundred-thousandth."""
    theirs = maps(method, GROUP[head])
    for name, each in maps(method, head).items():
        scale = max(1.0, float(theirs[name].abs().max()))
        assert torch.allclose(each, theirs[name], rtol=1e-5, atol=1e-5 * scale), f"{method}, {head}: map {name}"


@pytest.mark.parametrize("head", ["F.avg_pool2d(h, h.size()[3])", "mean(-1).mean(-1)", "amax((2, 3))"])
@pytest.mark.parametrize("method", BY_LAYERS)
def test_an_idiom_gives_the_maps_of_the_same_network_in_layers(method: str, head: str) -> None:
    agrees_with_layers(method, head)


@pytest.mark.slow
@pytest.mark.parametrize("method", [*every_method(), "mipin[depth=classifier]"])
def test_every_method_sees_the_same_network_in_every_idiom(method: str) -> None:
    for head in PLAIN:
        agrees_with_layers(method, head)


@pytest.mark.slow
@pytest.mark.parametrize("method", [*every_method(), "mipin[depth=classifier]"])
def test_a_head_is_explained_or_refused_with_its_layer_and_a_mend(method: str) -> None:
    for head in heads.REFUSED:
        explained_or_refused(method, head)


def explained_or_refused(method: str, head: str) -> None:
    if method not in REFUSES[head]:
        maps(method, head)
        return
    with pytest.raises(Unsupported, match=r"(layer '|traced|\().*: (write|rewrite|choose|let)") as refused:
        maps(method, head)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("head", heads.REFUSED)
@pytest.mark.parametrize("method", ["lrp", "patternnet"])
def test_what_is_no_chain_of_layers_is_refused_with_its_layer_and_a_mend(method: str, head: str) -> None:
    explained_or_refused(method, head)


@pytest.mark.parametrize("head", PLAIN)
def test_the_chain_of_every_idiom_is_that_of_the_layers(head: str) -> None:
    """Layer by layer, with the same numbers."""
    x = torch.randn((2, *heads.SHAPE), generator=torch.Generator().manual_seed(3))
    chains = [walk(opened(each).model, heads.SHAPE, "input") for each in (head, GROUP[head])]
    kinds = [[type(layer).__name__ for layer in chain.layers] for chain in chains]
    assert kinds[0] == kinds[1] or "over" in head or "convolution" in head  # these may scale before they flatten
    ours, layers = (chain.activations(x)[-1] for chain in chains)
    assert torch.allclose(ours, layers, atol=1e-6)
    assert torch.allclose(ours, opened(head).logits(x), atol=1e-6)


@pytest.mark.parametrize("head", random.Random(0).sample(PLAIN, 8))
def test_the_vector_before_the_classifier_is_the_representation(head: str) -> None:
    x = torch.randn((3, *heads.SHAPE), generator=torch.Generator().manual_seed(3))
    probe = opened(head)
    found, again = probe.features(x), probe.resume(probe.features(x).local)
    assert torch.allclose(found.representation, again.representation, atol=1e-6)
    assert torch.allclose(found.representation, opened(GROUP[head]).features(x).representation, atol=1e-6)
