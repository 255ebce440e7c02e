"""A network as a chain of layers, walked on its traced graph from the logits down to the input.

Every layer on the way must have one input and be of a kind in the tables below: where two values meet (a residual sum),
or where nothing is known of a layer, the walk ends in `Unsupported`, which names the place. Batch norm that follows a
dense or convolutional layer is folded into it; dropout does nothing in eval mode and is left out.

Heads are walked in whichever idiom they are written (`_tracing`); a 1x1 convolution whose outputs are averaged over all
places into the logits is the dense layer on the averages, which are the same numbers.

A walk to the "classifier" ends sooner: below the dense layers and the pooling, at the top feature map.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from mibench.network.tracing import RELUS, Shape, Times, replace, shape_of, traced
from mibench.plugins.contract import Unsupported

Depth = Literal["input", "classifier"]


@dataclass(frozen=True)
class Layer:
    """One step from an activation to the next."""

    name: str
    run: Callable[..., Tensor]  # on the activation below it, (B, …)


class Dense(Layer):
    """nn.Linear on vectors."""

    run: nn.Linear


class Convolution(Layer):
    """nn.Conv2d, zero-padded."""

    run: nn.Conv2d


class MaxPool(Layer):
    """The largest of each window."""


class Mean(Layer):
    """Means over windows of each channel, (B, C, H, W) -> (B, C, h, w)."""


class Scale(Layer):
    """Batch norm where it cannot be folded: x scale + shift, channel by channel."""

    run: nn.BatchNorm1d | nn.BatchNorm2d  # a constant factor, too, is given as one


class Reshape(Layer):
    """(B, …) -> (B, F)."""


class Rectifier(Layer):
    """ReLU and its family, element by element."""


class Nothing(Layer):
    """Dropout in eval mode, an identity."""


MODULES: dict[type[nn.Module], type[Layer]] = {
    nn.Linear: Dense,
    nn.Conv2d: Convolution,
    nn.MaxPool2d: MaxPool,
    nn.AvgPool2d: Mean,
    nn.AdaptiveAvgPool2d: Mean,
    nn.BatchNorm1d: Scale,
    nn.BatchNorm2d: Scale,
    nn.Flatten: Reshape,
    Times: Scale,
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity), Nothing),
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU), Rectifier),
    **dict.fromkeys((nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish), Rectifier),
}
FUNCTIONS: dict[Any, type[Layer]] = {
    **dict.fromkeys((*RELUS, F.relu6), Rectifier),
    **dict.fromkeys((F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish, F.hardswish), Rectifier),
}


@dataclass(frozen=True)
class Chain:
    """The layers above a base, from there to the logits, and the way from the input to the base."""

    base: str  # the name of the activation below the first layer; "input" for the input itself
    to_base: Callable[[Tensor], Tensor]
    layers: tuple[Layer, ...]

    @property
    def device(self) -> torch.device:
        """Where the layers are."""
        linear = (layer.run.weight.device for layer in self.layers if isinstance(layer, Dense | Convolution))
        return next(linear, torch.device("cpu"))

    def activations(self, x: Tensor) -> list[Tensor]:
        """The base's activation, then each layer's; x is the input, which may be anywhere."""
        return self.onwards(self.to_base(x.to(self.device)))

    def onwards(self, base: Tensor) -> list[Tensor]:
        """The same from the base's activation. A rectifier's input is overwritten if it works in place."""
        values = [base]
        for layer in self.layers:
            values.append(layer.run(values[-1]))
        return values


def walk(model: nn.Module, shape: Shape, depth: Depth) -> Chain:
    """The chain of a network in eval mode, for inputs of this shape, down to the input or to the top feature map."""
    network = traced(model, shape, fx.Tracer())
    _end_dense(network)
    node = _answer(network)
    layers: list[Layer] = []
    while isinstance(node, fx.Node) and node.op != "placeholder":
        if depth == "classifier" and _opened(layers) and not _pools(network, node):
            break
        if not isinstance(layer := _layer(network, node), Nothing):
            layers.insert(0, layer)
        node = node.args[0]
    if not isinstance(node, fx.Node):
        what = type(node).__name__
        raise Unsupported(f"the network's output is a {what}, not one tensor of logits: return the logits alone")
    layers = list(_folded(layers))
    if not layers or not isinstance(layers[-1], Dense):
        last = layers[-1].name if layers else "input"
        raise Unsupported(
            f"the network ends in layer {last!r}, not in a dense layer whose outputs are the logits: let its forward "
            "return what nn.Linear gives"
        )
    if node.op == "placeholder":
        return Chain("input", lambda x: x, tuple(layers))
    return Chain(_name(node), _up_to(network, node), tuple(layers))


def _answer(network: fx.GraphModule) -> Any:
    return next(n for n in network.graph.nodes if n.op == "output").args[0]


def _kind(network: fx.GraphModule, node: fx.Node) -> type[Layer] | None:
    """What kind of layer a node is, None if it is none of ours."""
    if node.op == "call_module":
        return MODULES.get(type(network.get_submodule(str(node.target))))
    return FUNCTIONS.get(node.target)


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _opened(layers: list[Layer]) -> bool:
    """Whether the walk down has come through the dense layers and the flattening below them."""
    return any(isinstance(layer, Reshape | Mean) for layer in layers)


def _pools(network: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is part of the way from the top feature map to a vector."""
    return _kind(network, node) in (Reshape, Mean, Nothing) or _is_single(node)


def _layer(network: fx.GraphModule, node: fx.Node) -> Layer:
    """The layer of one node, if it is of a kind that we know how to go down through."""
    name = _name(node)
    given = [n for n in node.all_input_nodes if n.op != "get_attr"]
    if len(given) > 1:
        raise Unsupported(
            f"values meet at {name!r} (such as a residual sum), so the network is not a chain: choose lrp, or "
            "mipin[depth=classifier], which goes down to the top feature map only"
        )
    kind = _kind(network, node)
    if node.target is operator.getitem:
        source = _name(given[0])
        raise Unsupported(f"layer {source!r} gives tokens: no rectifier silences any, so a class would have one map")
    if kind is None:
        called = getattr(node.target, "__name__", node.target)
        what = type(network.get_submodule(name)).__name__ if node.op == "call_module" else called
        raise Unsupported(
            f"layer {name!r} ({what}) cannot be inverted: write it with torch.nn's layers for images or vectors, or "
            "choose a method that needs no chain of layers, such as gradcam"
        )
    if node.op == "call_module":
        module = network.get_submodule(name)
        _check(name, module)
        return kind(name, _as_norm(module, node) if isinstance(module, Times) else module)
    rest, named = node.args[1:], node.kwargs
    call: Any = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
    return kind(name, lambda x: call(x, *rest, **named))


def _as_norm(times: Times, node: fx.Node) -> nn.Module:
    """The batch norm that multiplies every channel by a constant."""
    shape = shape_of(node) or ()
    norm = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0], eps=0.0)
    nn.init.constant_(norm.weight, times.factor)
    return norm.eval().requires_grad_(False)


def _check(name: str, module: nn.Module) -> None:
    """Refuse what a known kind of layer may be set to but has no inverse here."""
    if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
        raise Unsupported(f"layer {name!r} pads with {module.padding_mode!r}, {module.padding!r}: only zeros by number")
    if isinstance(module, nn.AvgPool2d) and module.ceil_mode:
        raise Unsupported(f"layer {name!r} averages windows that reach beyond its input: set ceil_mode to False")
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is None:
        raise Unsupported(f"layer {name!r} normalises with each batch's own statistics: set track_running_stats")


def _end_dense(network: fx.GraphModule) -> None:
    """Write a head of mean, flattening and a 1x1 convolution, before or after the mean, with a dense layer."""
    top = _answer(network)
    below = _below(network, top, Reshape)
    over = _below(network, below, Mean) if _is_single(below) else None  # the mean of all places comes last
    node = below if over is None else over
    source = _below(network, node, Convolution)
    if source is None or not (over is not None or _is_single(node)):
        return
    convolution = network.get_submodule(str(node.target))  # type: ignore[union-attr]  # seen above
    assert isinstance(convolution, nn.Conv2d)
    if (convolution.kernel_size, convolution.stride, convolution.groups) != ((1, 1), (1, 1), 1):
        return
    if convolution.padding not in ((0, 0), "valid"):
        return
    weight, bias = convolution.weight, convolution.bias
    dense = nn.Linear(convolution.in_channels, convolution.out_channels, False, weight.device, weight.dtype)
    dense.weight, dense.bias = nn.Parameter(weight.flatten(1), requires_grad=False), bias  # type: ignore[assignment]
    pool: list[nn.Module] = [] if over is None else [nn.AdaptiveAvgPool2d(1)]
    replace(network, top, (source, [*pool, nn.Flatten(), dense]))


def _below(network: fx.GraphModule, node: Any, kind: type[Layer]) -> fx.Node | None:
    """What is below a node, if that is a layer of this kind."""
    below = node.args[0] if isinstance(node, fx.Node) and _kind(network, node) is kind else None
    return below if isinstance(below, fx.Node) else None


def _is_single(node: Any) -> bool:
    """Whether a node gives one number a channel, (B, C, 1, 1)."""
    return (shape_of(node) or ())[1:] == (1, 1)


def _folded(layers: list[Layer]) -> Iterator[Layer]:
    """The layers with every batch norm that follows a dense or convolutional layer folded into it."""
    waiting: Layer | None = None
    for layer in layers:
        if isinstance(layer, Scale) and isinstance(waiting, Dense):
            waiting = Dense(waiting.name, fuse_linear_bn_eval(waiting.run, layer.run))
        elif isinstance(layer, Scale) and isinstance(waiting, Convolution):
            waiting = Convolution(waiting.name, fuse_conv_bn_eval(waiting.run, layer.run))
        else:
            if waiting is not None:
                yield waiting
            waiting = layer
    if waiting is not None:
        yield waiting


def _up_to(network: fx.GraphModule, base: fx.Node) -> Callable[[Tensor], Tensor]:
    """The network up to one of its activations."""
    part = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in network.graph.nodes:
        copied[node] = part.node_copy(node, lambda n: copied[n])
        if node is base:
            break
    part.output(copied[base])
    to_base = fx.GraphModule(network, part)
    to_base.graph.eliminate_dead_code()
    to_base.recompile()
    return to_base
