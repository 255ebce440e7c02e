"""A network as a graph of torch's own layers, in whichever idiom its forward was written.

torch.fx records every call of a forward, among them the arithmetic on sizes that idioms such as
`F.avg_pool2d(h, h.size()[3])` need. Shapes are propagated through the graph with fake tensors (nothing is computed),
once for each of two batch sizes: a number that is the same for both is a constant and takes its node's place, and one
that differs comes from the batch. With shapes known, the usual ways to write a head become the same few layers:

    a mean or a maximum over all places, at once or axis by axis    ->  a pooling layer, then nn.Flatten
    F.avg_pool2d, F.adaptive_avg_pool2d, F.max_pool2d, …            ->  the layer of that name
    view, reshape, flatten, squeeze, h[:, :, 0, 0]                  ->  nn.Flatten, or nothing
    x * 0.5, x / 4                                                  ->  Times
    contiguous, clone, dropout in eval mode                         ->  nothing
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import map_arg
from torch.utils._python_dispatch import _disable_current_modes  # or shapes would be counted as operations

from mibench.plugins.contract import Unsupported

BATCHES = (2, 3)  # what is equal for both does not depend on the batch
SHAPES = "shapes"  # where a node keeps what it gave for each of them
Shape = tuple[int, ...]

RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
MEANS = {torch.mean, "mean"}
MAXIMA = {torch.amax, "amax"}
PRODUCTS = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
QUOTIENTS = {operator.truediv, operator.itruediv, torch.div, "div", "div_"}
RESHAPES = {
    *(torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, operator.getitem),
    *("flatten", "view", "reshape", "squeeze", "unsqueeze", "view_as", "reshape_as"),
}
NOTHING = {F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout, torch.clone, "contiguous", "clone", "float"}
POOLS: dict[Any, Callable[..., nn.Module]] = {
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.max_pool2d: nn.MaxPool2d,
    torch.max_pool2d: nn.MaxPool2d,
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
}


class Times(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return x * self.factor


def traced(model: nn.Module, shape: Shape, tracer: fx.Tracer) -> fx.GraphModule:
    """The network's graph in layers, for inputs of this shape; the network itself is left as it is."""
    try:
        network = fx.GraphModule(model, tracer.trace(model))
    except Exception as error:  # tracing runs the network's own Python on proxies: it may fail in any way
        raise Unsupported(
            f"the network cannot be traced by torch.fx ({_line(error)}): rewrite its forward without branches or loops "
            "that depend on values, or choose a method that needs no layers, such as gradcam"
        ) from error
    _propagate(network, shape)
    _fill_in_sizes(network.graph)
    for node in list(network.graph.nodes):
        layers = _layers(node, network)
        if layers is not None:
            replace(network, node, layers)
    network.graph.eliminate_dead_code()
    network.recompile()
    return network


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


class _Shapes(fx.Interpreter):
    """Runs a graph and writes down what every node gave."""

    def run_node(self, n: fx.Node) -> Any:
        """The node's value, with tensors as their shapes kept for later."""
        value = super().run_node(n)
        n.meta.setdefault(SHAPES, []).append(value)
        return value


def _propagate(network: fx.GraphModule, shape: Shape) -> None:
    """Write to every node of the graph what it gives for each batch size."""
    first = next(network.parameters(), torch.empty(0))
    for batch in BATCHES:
        try:
            with _disable_current_modes(), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
                _Shapes(network).run(torch.empty((batch, *shape), device=first.device))
        except Exception as error:  # the network's own code, on tensors without numbers
            raise Unsupported(
                f"the network's shapes cannot be worked out ({_line(error)}): rewrite its forward without branches "
                "that depend on values, or choose a method that needs no layers, such as gradcam"
            ) from error


def _fill_in_sizes(graph: fx.Graph) -> None:
    """Put numbers in the place of all nodes that give numbers and do not depend on the batch."""

    def filled(node: fx.Node) -> Any:
        first, second = node.meta[SHAPES]
        return first if _is_number(first) and first == second else node

    for node in graph.nodes:
        node.args, node.kwargs = map_arg(node.args, filled), map_arg(node.kwargs, filled)
    graph.eliminate_dead_code()


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a size, which is several."""
    return isinstance(value, int | float) or (isinstance(value, tuple) and all(_is_number(each) for each in value))


def shape_of(node: Any) -> Shape | None:
    """The shape of the tensor (B, …) that a node gives for each sample; None if it gives something else."""
    first, second = node.meta.get(SHAPES, (None, None)) if isinstance(node, fx.Node) else (None, None)
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.dim() == 0:
        return None
    given = tuple(first.shape), tuple(second.shape)
    if (given[0][0], given[1][0]) != BATCHES or given[0][1:] != given[1][1:]:
        return None
    return given[0][1:]


def _layers(node: fx.Node, network: fx.GraphModule) -> tuple[fx.Node, list[nn.Module]] | None:
    """The layers that do what a node does, and the node whose value they take; None where the node stays as it is."""
    source, *rest = node.args or (node.kwargs.get("input"),)
    named = {key: value for key, value in node.kwargs.items() if key not in ("input", "return_indices")}
    if isinstance(source, int | float) and node.target in PRODUCTS and len(rest) == 1:
        source, rest = rest[0], [source]
    if not isinstance(source, fx.Node) or node.kwargs.get("return_indices"):
        return None
    before, after = shape_of(source), shape_of(node)
    if before is None or after is None or node.op not in ("call_function", "call_method", "call_module"):
        return None
    target = type(network.get_submodule(str(node.target))) if node.op == "call_module" else node.target
    if target in NOTHING:
        return source, []
    if target in RESHAPES or target is nn.Flatten:
        return _reshaped(node, source, before, after, network)
    if target in MEANS | MAXIMA:
        return _reduced(node, source, before, after)
    if target in PRODUCTS | QUOTIENTS and len(rest) == 1 and isinstance(rest[0], int | float) and not named:
        factor = float(rest[0])
        return (source, [Times(factor if target in PRODUCTS else 1 / factor)]) if factor else None
    if target in POOLS and len(before) == 3:
        return source, [_pool(POOLS[target](*rest, **named), before, after)]
    if target is nn.AdaptiveMaxPool2d:
        return source, [_pool(network.get_submodule(str(node.target)), before, after)]
    return None


def _pool(layer: nn.Module, before: Shape, after: Shape) -> nn.Module:
    """A pooling layer, an adaptive maximum as a plain one where its windows are equal."""
    if isinstance(layer, nn.AdaptiveMaxPool2d) and not (before[1] % after[1] or before[2] % after[2]):
        return nn.MaxPool2d((before[1] // after[1], before[2] // after[2]))
    return layer


def _reshaped(
    node: fx.Node, source: fx.Node, before: Shape, after: Shape, network: fx.GraphModule
) -> tuple[fx.Node, list[nn.Module]] | None:
    """A reshape that keeps all numbers in their order: nothing, or to vectors; reshapes before it are left out."""
    if math.prod(before) != math.prod(after):
        return None  # it picks some
    while _reshapes(source, network) and math.prod(shape_of(source.args[0]) or ()) == math.prod(after):
        source = source.args[0]  # type: ignore[assignment]  # seen to be a node
    if shape_of(source) == after:
        return source, []
    if node.op == "call_module" and source is node.args[0]:
        return None  # it is nn.Flatten
    return (source, [nn.Flatten()]) if len(after) == 1 else None


def _reshapes(node: fx.Node, network: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), nn.Flatten)
    return node.target in RESHAPES


def _reduced(node: fx.Node, source: fx.Node, before: Shape, after: Shape) -> tuple[fx.Node, list[nn.Module]] | None:
    """A mean or maximum over all places of each channel, at once, axis by axis, or after its grid was made one row."""
    axes = _axes(node, len(before))
    if axes is None:
        return None
    top = source if len(before) == 3 and axes == {2, 3} else _grid_below(node, source, before, axes)
    grid = shape_of(top)
    if top is None or grid is None or len(grid) != 3 or math.prod(after) != grid[0]:
        return None
    pool: nn.Module = nn.AdaptiveAvgPool2d(1) if node.target in MEANS else nn.MaxPool2d(grid[1:])
    if after == (grid[0], 1, 1):
        return top, [pool]
    return (top, [pool, nn.Flatten()]) if len(after) == 1 else None


def _grid_below(node: fx.Node, source: fx.Node, before: Shape, axes: set[int]) -> fx.Node | None:
    """The grid (B, C, h, w) below two steps that reduce it together; None where they do not."""
    below = source.args[0] if source.args else None
    grid = shape_of(below)
    if not isinstance(below, fx.Node) or grid is None or len(grid) != 3:
        return None
    if (source.op, source.target) == (node.op, node.target) and len(source.users) == 1:
        return below if _left(_axes(source, 3), axes, keeps=len(before) == 3) else None
    in_a_row = source.target in RESHAPES and before == (grid[0], grid[1] * grid[2])
    return below if in_a_row and axes == {2} else None


def _left(first: set[int] | None, second: set[int], *, keeps: bool) -> bool:
    """Whether a second reduction of (B, C, h, w) goes over the axis that the first left; `keeps`: as a side of 1."""
    if first not in ({2}, {3}):
        return False
    return second == ({2, 3} - first if keeps else {2})


def _axes(node: fx.Node, sides: int) -> set[int] | None:
    """Over which axes of (B, …) a reduction goes; None where that is not known."""
    named = {**node.kwargs}
    given = named.pop("dim", named.pop("axis", node.args[1] if len(node.args) > 1 else None))
    if isinstance(given, int):
        given = (given,)
    if named.keys() - {"keepdim"} or not isinstance(given, tuple | list) or not all(isinstance(d, int) for d in given):
        return None
    return {int(axis) % (sides + 1) for axis in given}


def replace(network: fx.GraphModule, node: fx.Node, found: tuple[fx.Node, list[nn.Module]]) -> None:
    """Put calls of layers where a node was."""
    source, layers = found
    with network.graph.inserting_before(node):
        for layer in layers:
            name = f"{node.name}_{type(layer).__name__.lower()}" if len(layers) > 1 else node.name
            while hasattr(network, name):
                name += "_"
            network.add_submodule(name, layer)
            call = network.graph.call_module(name, (source,))
            with torch.no_grad():
                call.meta[SHAPES] = [layer(value) for value in source.meta[SHAPES]]
            source = call
    node.replace_all_uses_with(source)
    network.graph.erase_node(node)
