"""A network opened at its cut points: local features, a representation, logits, and the way on from the cut.

`features` is one whole forward. `resume` runs only what comes after the cut: where torch.fx can trace the network and
nothing but the local features crosses the cut, the rest of the graph is a module of its own; otherwise the network is
replayed with every module before the cut answering from a recording, and opening it checks that the numbers agree.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from mibench.errors import ModelError, nearest
from mibench.network.devices import PRECISIONS
from mibench.network.watching import first, watched
from mibench.plugins.contract import Features, Kind

INPUT = "input"  # the name of the cut before the first layer
TOLERANCES = {each.autocast: each.tolerance for each in PRECISIONS.values() if not each.tf32}
INTO = f".{INPUT}"  # after a layer's name: what goes into it, which is the representation where a function made it


def open_probe(
    model: nn.Module,
    *,
    kind: Kind,
    local: str,
    representation: str,
    shape: tuple[int, ...],
    classes: tuple[str, ...],
    depths: tuple[str, ...] = (),
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    tolerance: float | None = None,
) -> OpenProbe:
    """Open a network at two of its layers; `shape` is one input's, (C, H, W) or (F,).

    `tolerance` is how far two ways to one number may differ, as a share of the largest; default: by `autocast`.
    """
    refuse_unknown(model, local, representation, *depths)
    if inputs := [each for each in (local, *depths) if each != INPUT and each not in dict(model.named_modules())]:
        raise ModelError(f"the network cannot be cut at {inputs[0]!r}: name the layer before it, whose output that is")
    if model.training or any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("the explained network must be in eval mode with frozen parameters before it is opened")
    if tolerance is None:
        tolerance = TOLERANCES[autocast]
    where = torch.device(device)
    network = Network(model.to(device), representation, kind, shape, classes, where, autocast, tolerance)
    return OpenProbe(network, local, depths or (local,))


@dataclass(frozen=True)
class Network:
    """What stays the same wherever the network is cut."""

    model: nn.Module
    representation: str
    kind: Kind
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    device: torch.device
    autocast: torch.dtype | None = None
    tolerance: float = TOLERANCES[None]

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """The precision in which the network runs."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)

    def example(self) -> Tensor:
        """Two made-up inputs, to look at shapes and to compare numbers."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand((2, *self.shape), generator=generator).to(self.device)


class OpenProbe:
    """The contract's `Probe`."""

    def __init__(self, network: Network, local: str, depths: tuple[str, ...]) -> None:
        self.network, self.local, self.depths = network, local, depths
        self.model, self.kind, self.classes, self.device = network.model, network.kind, network.classes, network.device
        self.shape = shape = network.shape
        self.pixels: tuple[int, int] = (1, shape[0]) if len(shape) == 1 else (shape[-2], shape[-1])
        with torch.no_grad():
            opened = self.features(network.example())
        self.local_shape = tuple(opened.local.shape[1:])
        self.extra_tokens, self.grid = _grid(self.kind, self.local_shape, local)
        self._suffix = _suffix(network, local, opened)

    def logits(self, x: Tensor) -> Tensor:
        """The network's answer, (B, classes), in float32."""
        with self.network.precision():
            return self.model(x.to(self.device)).float()  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> Features:
        """Local features, representation and logits in one forward."""
        x = x.to(self.device)
        with _watch(self.model, (self.local, self.network.representation)) as seen, self.network.precision():
            logits = self.model(x)
        local = x if self.local == INPUT else seen[self.local]
        return Features(local.float(), _vector(seen[self.network.representation]), logits.float())

    def resume(self, local: Tensor) -> Features:
        """Representation and logits from (changed) local features; the layers before the cut do not run."""
        with self.network.precision():
            own = local.clone(memory_format=torch.contiguous_format)  # its first layer may work in place, or call view
            representation, logits = self._suffix(own)
        return Features(local, _vector(representation), logits.float())

    def cells(self, local: Tensor) -> Tensor:
        """Local features as (B, K, C), the grid's cells in row-major order."""
        if self.kind == "grid" and local.dim() == 4:
            return local.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, hw, C)
        if self.kind == "tokens" and local.dim() == 3:
            return local[:, self.extra_tokens :]  # (B, T, C) -> (B, K, C)
        return local.flatten(1).unsqueeze(-1)  # (B, F) -> (B, F, 1)

    def replace(self, local: Tensor, cells: Tensor) -> Tensor:
        """Local features like `local` whose cells are `cells`."""
        if self.kind == "grid" and local.dim() == 4:
            return cells.transpose(1, 2).reshape(local.shape)
        if self.kind == "tokens" and local.dim() == 3:
            return torch.cat([local[:, : self.extra_tokens], cells], 1)
        return cells.squeeze(-1).reshape(local.shape)

    def upsample(self, grid: Tensor) -> Tensor:
        """A map on the grid (B, h, w) as a map on the pixels (B, H, W)."""
        if tuple(grid.shape[-2:]) == self.pixels:
            return grid
        return F.interpolate(grid[:, None], self.pixels, mode="bilinear", align_corners=False)[:, 0]

    def at(self, layer: str) -> OpenProbe:
        """The same network, cut at another layer."""
        refuse_unknown(self.model, layer)
        return self if layer == self.local else OpenProbe(self.network, layer, self.depths)


def refuse_unknown(model: nn.Module, *layers: str) -> None:
    """Refuse layers that the network does not have."""
    named = dict(model.named_modules())
    for layer in {*layers} - {INPUT}:
        if layer not in named and layer.removesuffix(INTO) not in named:
            mend = nearest(layer, (name for name in named if name))
            raise ModelError(f"the network has no layer {layer!r}; {mend}")


def _vector(representation: Tensor) -> Tensor:
    """A representation as (B, D): the class token of a sequence, everything of anything else."""
    return (representation[:, 0] if representation.dim() == 3 else representation.flatten(1)).float()


def _grid(kind: Kind, local: tuple[int, ...], layer: str) -> tuple[int, tuple[int, int]]:
    """How many leading tokens have no position in the input, and the grid (h, w) of the others."""
    if len(local) == 3 and kind == "grid":
        return 0, (local[1], local[2])
    if len(local) == 2 and kind == "tokens":
        side = math.isqrt(local[0])
        if local[0] - side * side > 5:
            raise ModelError(f"the {local[0]} tokens of layer {layer!r} are not a square grid and a few extra tokens")
        return local[0] - side * side, (side, side)
    return 0, (1, math.prod(local))


@contextlib.contextmanager
def _watch(model: nn.Module, layers: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of some layers, and the inputs of others, while the network runs."""
    seen: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    wanted = set(layers) - {INPUT}

    def see(layer: str, given: Any, output: Any) -> None:
        seen[layer] = first(given if layer in into else output).clone()  # the next layer may work in place

    into = {layer: modules[layer.removesuffix(INTO)] for layer in wanted if layer not in modules}
    with watched({layer: modules[layer] for layer in wanted if layer in modules}, see, into):
        yield seen


def _suffix(network: Network, local: str, opened: Features) -> Any:
    """A function from local features to (representation, logits) that runs only what comes after the cut."""
    if local == INPUT:
        return _Whole(network)
    for build in (_traced, _Replay):
        suffix = build(network, local)
        if suffix is not None and _agrees(network, suffix, opened):
            return suffix
    raise ModelError(
        f"the network cannot be cut at {local!r}: values pass around this layer; choose the end of a block instead"
    )


def _agrees(network: Network, suffix: Any, opened: Features) -> bool:
    """Whether resuming from the untouched features, and from one sample's alone, gives the forward's numbers."""
    try:
        with torch.no_grad(), network.precision():
            for start in (0, 1):
                representation, logits = suffix(opened.local[start:].clone())
                pairs = (_vector(representation), opened.representation[start:]), (logits, opened.logits[start:])
                if any(float((a - b).abs().max()) > network.tolerance * float(b.abs().max()) for a, b in pairs):
                    return False
    except (RuntimeError, TypeError, KeyError, IndexError, AttributeError):
        return False
    return True


class _Whole:
    """The suffix of the cut before the first layer: the whole network."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, local: Tensor) -> tuple[Tensor, Tensor]:
        with _watch(self.network.model, (self.network.representation,)) as seen:
            logits = self.network.model(local)
        return seen[self.network.representation], logits


class _Calls(fx.Tracer):
    """Trace down to torch's own modules, and no deeper than the layers at which the network is cut."""

    def __init__(self, cuts: set[str]) -> None:
        super().__init__()
        self.cuts = cuts

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.cuts or super().is_leaf_module(m, module_qualified_name)


def _traced(network: Network, local: str) -> Any:
    """The rest of the traced graph after the cut, or None where the network cannot be traced or cut there."""
    representation = network.representation
    into = representation not in dict(network.model.named_modules())
    try:
        graph = _Calls({local, representation.removesuffix(INTO) if into else representation}).trace(network.model)
    except Exception:  # tracing runs the network's own Python on proxies: it may fail in any way
        return None
    node: dict[Any, fx.Node] = {n.target: n for n in graph.nodes if n.op == "call_module"}
    if into and (above := node.get(representation.removesuffix(INTO))) is not None:
        node[representation] = above.all_input_nodes[0]
    if local not in node or representation not in node:
        return None
    cut, tail = node[local], fx.Graph()
    copied: dict[fx.Node, Any] = {cut: tail.placeholder("local")}

    def copy(source: fx.Node) -> Any:
        if source not in copied:
            if source.op == "placeholder":
                raise LookupError
            if _is_batch_size(source):  # a size taken before the cut is the batch's, which the features have too
                copied[source] = tail.call_method("size", (copied[cut], 0))
            else:
                for argument in source.all_input_nodes:
                    copy(argument)
                copied[source] = tail.node_copy(source, lambda argument: copied[argument])
        return copied[source]

    try:
        output = next(n for n in graph.nodes if n.op == "output")
        logits = copy(output.args[0])
        tail.output((copy(node[representation]), logits))
    except (LookupError, AttributeError, RecursionError):
        return None
    return fx.GraphModule(network.model, tail)


def _is_batch_size(node: fx.Node) -> bool:
    """Whether a node is x.size(0) or x.shape[0]."""
    if node.op == "call_method" and node.target == "size":
        return tuple(node.args[1:]) == (0,)
    if node.op != "call_function" or node.target is not operator.getitem or node.args[1] != 0:
        return False
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return False
    is_shape = source.op == "call_function" and source.target is getattr and source.args[1] == "shape"
    return bool(is_shape or (source.op == "call_method" and source.target == "size" and len(source.args) == 1))


class _Replay:
    """The network run with every module before the cut answering from a recording of its output's shape."""

    def __init__(self, network: Network, local: str) -> None:
        self.network, self.local = network, local
        self.modules = dict(network.model.named_modules())
        self.before = self._record()

    def _record(self) -> dict[str, Any]:
        """Outputs of the outermost modules that ran, whole, before the cut."""
        outputs: dict[str, Any] = {}
        reached = False

        def note(name: str, _given: Any, output: Any) -> None:
            nonlocal reached
            if name == self.local:
                reached = True
            elif not reached:
                outputs[name] = output

        with torch.no_grad(), watched({name: module for name, module in self.modules.items() if name}, note):
            self.network.model(self.network.example()[:1])
        return {n: o for n, o in outputs.items() if not any(n.startswith(m + ".") for m in outputs)}

    def __call__(self, local: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network on an empty input; the recorded modules and the cut layer answer without computing."""

        def answer(output: Any) -> Any:
            def forward(*_arguments: Any, **_keywords: Any) -> Any:
                return _zeros(output, len(local))

            return forward

        with contextlib.ExitStack() as undo, _watch(self.network.model, (self.network.representation,)) as seen:
            for name, output in self.before.items():
                undo.enter_context(_forward_replaced(self.modules[name], answer(output)))
            undo.enter_context(_forward_replaced(self.modules[self.local], lambda *_a, **_k: local))
            logits = self.network.model(local.new_zeros((len(local), *self.network.shape)))
        return seen.get(self.network.representation, local), logits


def _zeros(output: Any, batch: int) -> Any:
    """Zeros of a recorded output's structure, for another batch size."""
    if isinstance(output, Tensor):
        return output.new_zeros((batch, *output.shape[1:]))
    if isinstance(output, tuple | list):
        return type(output)(_zeros(part, batch) for part in output)
    return output


@contextlib.contextmanager
def _forward_replaced(module: nn.Module, forward: Any) -> Iterator[None]:
    """A module with another forward, given its own back at the end, even after an error."""
    object.__setattr__(module, "forward", forward)
    try:
        yield
    finally:
        object.__delattr__(module, "forward")
