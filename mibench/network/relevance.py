"""Layer-wise relevance propagation by zennit's rules, on a copy of the network in the form that rules want.

A rule sits on a module and must see all that the layer does. So the network is traced with torch.fx into a copy in
which every step has a module of its own (reused ones too), sums and means are modules, and a batch norm is merged into
the linear layer before it. zennit's canonizers do this for torchvision's classes, module by module; tracing does it for
any network, in whichever idiom its head is written (`_tracing`), and what has no rule is refused instead of passing a
plain gradient. The network itself is not touched.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from zennit.composites import LayerMapComposite
from zennit.core import Hook
from zennit.layer import Sum
from zennit.rules import Pass
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear, MaxPool

from mibench.network.gradients import tracked
from mibench.network.tracing import MEANS, RELUS, Shape, Times, replace, traced
from mibench.plugins.contract import Probe, Unsupported

Rule = Callable[[], Hook]

SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
RECTIFIERS: dict[Any, Callable[[], nn.Module]] = {
    **dict.fromkeys(RELUS, nn.ReLU),
    F.relu6: nn.ReLU6,
}
# What only moves numbers, or picks some: there the gradient carries relevance as it should.
MOVES = {
    *(torch.flatten, torch.reshape, torch.cat, F.dropout, F.max_pool2d, F.pad, operator.getitem, getattr),
    *("flatten", "reshape", "view", "size", "squeeze", "unsqueeze", "permute", "transpose", "contiguous"),
}
MOVERS = nn.Flatten | nn.Dropout | nn.Dropout2d | nn.Identity

MEND = "write it with torch.nn's layers for images or vectors, or choose a method that needs no rules, such as gradcam"


class Mean(nn.Module):
    """A mean written as a function, as a module of its own."""

    def __init__(self, node: fx.Node) -> None:
        super().__init__()
        self.call, self.extra, self.named = node.target, node.args[1:], node.kwargs

    def forward(self, x: Tensor) -> Tensor:
        """Call the function, or the tensor's method, with the arguments it had."""
        call = getattr(torch.Tensor, self.call) if isinstance(self.call, str) else self.call
        return call(x, *self.extra, **self.named)  # type: ignore[no-any-return]


class _Layers(fx.Tracer):
    """Trace down to torch's own layers and those derived from its linear ones, which may pad before they compute."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Linear) or super().is_leaf_module(m, module_qualified_name)


def relevance(probe: Probe, x: Tensor, target: Tensor, linear: Rule, sums: Rule, *, share: bool) -> Tensor:
    """The input's relevance for the target logits, which start with their own value, or with 1 for shares of it."""
    network = canonical(probe.model, probe.shape)
    rules = [((Activation, Times), Pass()), ((AvgPool, Mean, Sum), sums()), (Linear, linear())]
    with LayerMapComposite(rules).context(network) as ruled, torch.enable_grad():
        x = tracked(x)
        logits: Tensor = ruled(x)  # (B, classes)
        _same_answer(logits, probe.model(x.detach()))
        start = F.one_hot(target, logits.shape[1]).to(logits) * (1.0 if share else logits.detach())
        return torch.autograd.grad(logits, x, start)[0]


def canonical(model: nn.Module, shape: Shape) -> fx.GraphModule:
    """A copy of the network, for inputs of this shape, in which every step that needs a rule is a module of its own."""
    network = traced(model, shape, _Layers())
    _merge_upwards(network)
    layers: dict[str, nn.Module] = {}
    for node in list(network.graph.nodes):
        layer = _as_module(node, network, layers)
        if layer is not None:
            name = f"layer{len(layers)}"
            layers[name] = layer
            _replace(network.graph, node, name, stack=isinstance(layer, Sum))
    return fx.GraphModule(layers, network.graph)


def _merge_upwards(network: fx.GraphModule) -> None:
    """Merge every batch norm that follows no linear layer into the dense layer after it, if there is one."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        (above,) = node.users if len(node.users) == 1 else (None,)
        if above is None or above.op != "call_module" or not isinstance(norm, nn.BatchNorm1d):
            continue
        dense = modules.get(str(above.target))
        if type(dense) is not nn.Linear or norm.running_var is None:
            continue
        if isinstance(modules.get(str(node.args[0].target)), Linear):
            continue
        zero = torch.zeros((1, norm.num_features)).to(dense.weight)
        shift = norm(zero)  # (1, F)
        merged = copy.deepcopy(dense)
        merged.weight = nn.Parameter(dense.weight * (norm(zero + 1) - shift), requires_grad=False)
        merged.bias = nn.Parameter(dense(shift)[0], requires_grad=False)
        replace(network, above, (node.args[0], [merged]))
        network.graph.erase_node(node)


def _as_module(node: fx.Node, model: nn.Module, layers: dict[str, nn.Module]) -> nn.Module | None:
    """The module that takes a step's place; None where the step may stay as it is."""
    if node.op in ("placeholder", "output"):
        return None
    if node.op == "call_module":
        return _own_module(node, copy.deepcopy(model.get_submodule(str(node.target))), layers)
    if node.target in SUMS and len(node.all_input_nodes) == len(node.args) == 2 and not node.kwargs:
        total: nn.Module = Sum()
        return total
    if node.target in RECTIFIERS:
        return RECTIFIERS[node.target]()
    if node.target in MEANS:
        return Mean(node)
    if node.target in MOVES:
        return None
    what = "a parameter by itself" if node.op == "get_attr" else getattr(node.target, "__name__", node.target)
    raise Unsupported(f"no relevance rule for {what} ({node.name}): {MEND}")


def _own_module(node: fx.Node, layer: nn.Module, layers: dict[str, nn.Module]) -> nn.Module:
    """This step's copy of a layer."""
    if isinstance(layer, BatchNorm):
        return _merge(node, layer, layers)
    if not isinstance(layer, (Linear, Activation, AvgPool, MaxPool, Times, MOVERS)):
        raise Unsupported(f"no relevance rule for {type(layer).__name__} ({node.target}): {MEND}")
    if hasattr(layer, "inplace"):
        layer.inplace = False
    return layer


def _merge(node: fx.Node, norm: Any, layers: dict[str, nn.Module]) -> nn.Module:
    """Merge a batch norm into the linear layer before it; nothing is left to do in its own place."""
    (before,) = node.all_input_nodes
    linear: Any = layers.get(str(before.target))
    if not isinstance(linear, Linear) or len(before.users) != 1:
        raise Unsupported(
            f"no relevance rule for a batch norm that does not follow a linear layer ({node.target}): {MEND}"
        )
    fuse: Any = fuse_conv_bn_eval if isinstance(linear, Convolution) else fuse_linear_bn_eval
    layers[str(before.target)] = fuse(linear, norm)
    return nn.Identity()


def _replace(graph: fx.Graph, node: fx.Node, name: str, *, stack: bool) -> None:
    """Put a call of the layer where the step was; a sum takes its terms stacked."""
    with graph.inserting_before(node):
        inputs = node.all_input_nodes
        source = graph.call_function(torch.stack, (tuple(inputs), -1)) if stack else inputs[0]
        call = graph.create_node("call_module", name, (source,))
    node.replace_all_uses_with(call)
    graph.erase_node(node)


def _same_answer(ours: Tensor, network: Tensor) -> None:
    """Refuse maps of a copy that does not compute what the network does."""
    if not torch.allclose(ours, network.float(), rtol=1e-3, atol=1e-3 * float(network.abs().max())):
        raise Unsupported("the network in the form that relevance rules want gives other logits")
