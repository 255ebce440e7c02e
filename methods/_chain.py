"""A network as a chain of layers, walked on its traced graph from the logits down to the input.

Every layer on the way must have one input and be of a kind in the tables below: where two values meet (a residual sum),
or where nothing is known of a layer, the walk ends in `Unsupported`, which names the place. Batch norm that follows a
dense or convolutional layer is folded into it; dropout does nothing in eval mode and is left out.

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

from mibench.contract import Unsupported

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

    run: nn.BatchNorm1d | nn.BatchNorm2d


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
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity), Nothing),
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU), Rectifier),
    **dict.fromkeys((nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish), Rectifier),
}
FUNCTIONS: dict[Any, type[Layer]] = {
    **dict.fromkeys((F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, "relu", "relu_"), Rectifier),
    **dict.fromkeys((F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish, F.hardswish), Rectifier),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), MaxPool),
    **dict.fromkeys((F.avg_pool2d, F.adaptive_avg_pool2d), Mean),
    **dict.fromkeys((torch.mean, "mean"), Mean),
    **dict.fromkeys((torch.flatten, "flatten", "view", "reshape", "squeeze", torch.squeeze), Reshape),
    **dict.fromkeys((F.dropout, F.dropout2d, "contiguous"), Nothing),
}


@dataclass(frozen=True)
class Chain:
    """The layers above a base, from there to the logits, and the way from the input to the base."""

    base: str  # the name of the activation below the first layer; "input" for the input itself
    to_base: Callable[[Tensor], Tensor]
    layers: tuple[Layer, ...]

    def activations(self, x: Tensor) -> list[Tensor]:
        """The base's activation, then each layer's; x is the input."""
        return self.onwards(self.to_base(x))

    def onwards(self, base: Tensor) -> list[Tensor]:
        """The same from the base's activation. What stands before a rectifier is lost if that works in place."""
        values = [base]
        for layer in self.layers:
            values.append(layer.run(values[-1]))
        return values


def walk(model: nn.Module, depth: Depth) -> Chain:
    """The chain of a network in eval mode down to the input, or to the top feature map only."""
    graph = _trace(model)
    node = next(n for n in graph.nodes if n.op == "output").args[0]
    layers: list[Layer] = []
    while isinstance(node, fx.Node) and node.op != "placeholder":
        if depth == "classifier" and _opened(layers) and not _pools(model, node):
            break
        if not isinstance(layer := _layer(model, node), Nothing):
            layers.insert(0, layer)
        node = node.args[0]
    if not isinstance(node, fx.Node):
        raise Unsupported(f"the network's output is a {type(node).__name__}, not one tensor of logits")
    layers = list(_folded(layers))
    if not layers or not isinstance(layers[-1], Dense):
        raise Unsupported("the network does not end in a dense layer, whose outputs are the logits")
    if node.op == "placeholder":
        return Chain("input", lambda x: x, tuple(layers))
    return Chain(_name(node), _up_to(model, graph, node), tuple(layers))


def _trace(model: nn.Module) -> fx.Graph:
    try:
        return fx.Tracer().trace(model)
    except Exception as error:  # tracing runs the network's own Python on proxies: it may fail in any way
        raise Unsupported(f"the network's layers cannot be walked, for torch.fx cannot trace it: {error}") from error


def _kind(model: nn.Module, node: fx.Node) -> type[Layer] | None:
    """What kind of layer a node is, None if it is none of ours."""
    if node.op == "call_module":
        return MODULES.get(type(model.get_submodule(str(node.target))))
    return FUNCTIONS.get(node.target)


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _opened(layers: list[Layer]) -> bool:
    """Whether the walk down has come through the dense layers and the flattening below them."""
    return bool(layers) and isinstance(layers[0], Reshape | Mean)


def _pools(model: nn.Module, node: fx.Node) -> bool:
    """Whether a node is part of the way from the top feature map to a vector."""
    return _kind(model, node) in (Reshape, Mean, Nothing)


def _layer(model: nn.Module, node: fx.Node) -> Layer:
    """The layer of one node, if it is of a kind that we know how to go down through."""
    name = _name(node)
    given = [n for n in (*node.args, *node.kwargs.values()) if isinstance(n, fx.Node) and n.op != "get_attr"]
    joined = [n for n in given if not _is_size(n)]
    if len(joined) > 1:
        raise Unsupported(f"values meet at {name!r} (a residual sum, say): the network is no chain of layers there")
    kind = _kind(model, node)
    if node.target is operator.getitem:
        source = _name(joined[0])
        raise Unsupported(f"layer {source!r} gives tokens: no rectifier silences any, so a class would have one map")
    if kind is None:
        called = getattr(node.target, "__name__", node.target)
        what = type(model.get_submodule(name)).__name__ if node.op == "call_module" else called
        raise Unsupported(f"layer {name!r} ({what}) cannot be inverted")
    if node.op == "call_module":
        module = model.get_submodule(name)
        _check(name, module)
        return kind(name, module)
    return kind(name, _function(kind, name, node))


def _check(name: str, module: nn.Module) -> None:
    """Refuse what a known kind of layer may be set to but has no inverse here."""
    if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
        raise Unsupported(f"layer {name!r} pads with {module.padding_mode!r}, {module.padding!r}: only zeros by number")
    if isinstance(module, nn.AvgPool2d) and module.ceil_mode:
        raise Unsupported(f"layer {name!r} averages windows that reach beyond its input (ceil_mode)")
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is None:
        raise Unsupported(f"layer {name!r} normalises with each batch's own statistics")


def _function(kind: type[Layer], name: str, node: fx.Node) -> Callable[[Tensor], Tensor]:
    """A call in the network's forward as a function of the activation below it."""
    if kind is Reshape:
        return lambda x: x.flatten(1)
    rest: tuple[Any, ...] = node.args[1:]
    named: dict[str, Any] = node.kwargs
    if node.target is F.avg_pool2d:
        return nn.AvgPool2d(*rest, **named)
    call: Any = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
    return lambda x: call(x, *rest, **named)


def _is_size(node: fx.Node) -> bool:
    """Whether a node is a number made from a tensor's shape, not a tensor."""
    if node.op == "call_method" and node.target == "size":
        return True
    if node.op == "call_function" and node.target is getattr:
        return bool(node.args[1] == "shape")
    parts = [n for n in node.args if isinstance(n, fx.Node)]
    return bool(parts) and node.op == "call_function" and all(_is_size(part) for part in parts)


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


def _up_to(model: nn.Module, graph: fx.Graph, base: fx.Node) -> Callable[[Tensor], Tensor]:
    """The network up to one of its activations."""
    part = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        copied[node] = part.node_copy(node, lambda n: copied[n])
        if node is base:
            break
    part.output(copied[base])
    to_base = fx.GraphModule(model, part)
    to_base.graph.eliminate_dead_code()
    to_base.recompile()
    return to_base
