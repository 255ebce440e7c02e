"""Where a user's network can be opened: the layers for `local` and `representation`, and the spec that names them.

The network runs once on two made-up inputs. `local` is the last layer that gives a grid (or tokens), at which the
network can be cut and on whose cells the answer still depends; `representation` is the last layer that gives the very
numbers which go into the classifier, or that classifier's input where a function made them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mibench.errors import ModelError
from mibench.models.training import frozen
from mibench.models.user import built
from mibench.network.probe import INPUT, INTO, OpenProbe, open_probe
from mibench.network.watching import watched
from mibench.plugins.contract import Kind

SIDES = (224, 32, 64, 28)  # of square images that are tried where no shape is given
MAX_SHOWN = 12  # candidates
POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer with the shape of its output for one sample."""

    name: str
    kind: str
    shape: Shape


@dataclass(frozen=True)
class Proposal:
    """How a network may be opened."""

    argument: str
    kind: Kind
    shape: Shape
    is_guess: bool  # whether the input's shape was not given
    local: str
    representation: str
    candidates: tuple[Layer, ...]  # for local, and last those for the representation
    classes: int  # how many logits it gives

    @property
    def spec(self) -> str:
        """What --models takes."""
        parts = [
            f"local={self.local}",
            f"representation={self.representation}",
            f"shape={'x'.join(map(str, self.shape))}",
        ]
        parts += [f"kind={self.kind}"] if self.kind != "grid" else []
        return f"user[{','.join(parts)}]:{self.argument}"


@dataclass(frozen=True)
class _Call:
    """One call of a layer, in the order in which calls ended."""

    name: str
    module: nn.Module
    given: Tensor | None
    output: Tensor


def propose(argument: str, shape: Shape = ()) -> Proposal:
    """The two cuts of the network that MODULE:FACTORY builds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = frozen(built(argument))
    return proposal(network, argument, shape)


def proposal(
    network: nn.Module, argument: str, shape: Shape = (), local: str = "", representation: str = ""
) -> Proposal:
    """The two cuts of a network in eval mode with frozen parameters, or those of the two that are not given."""
    size, classes, logits, calls = _ran(network, argument, shape)
    if not any(call.name for call in calls):
        raise ModelError(f"{argument}: the network has no layers that give one tensor a sample, so it cannot be opened")
    kind = _kind_at(local, size, calls) if local else _kind(size, calls)
    representation = representation or _representation(calls, logits)
    layers = [call for call in calls if call.name and _cells(kind, call.output)]
    before_pool = [call for call in layers if not isinstance(call.module, POOLS)]
    if not local:
        local = INPUT
        if kind != "columns":
            local = next(_cuts(network, kind, [call.name for call in before_pool], representation, size), INPUT)
    vectors = [call for call in calls if call.name and logits and _same(call.output, logits.vector)]
    last = {tuple(call.output.shape): call.name for call in before_pool}  # of each shape
    shown = {*[*last.values(), *(call.name for call in vectors)][-MAX_SHOWN:], local, representation}
    named = {
        call.name: Layer(call.name, type(call.module).__name__, tuple(call.output.shape[1:]))
        for call in calls
        if call.name in shown
    }
    return Proposal(argument, kind, size, not shape, local, representation, tuple(named.values()), classes)


@dataclass(frozen=True)
class _Logits:
    """The layer that gives the network's answer, and what goes into it."""

    classifier: str
    vector: Tensor


def _ran(network: nn.Module, argument: str, shape: Shape) -> tuple[Shape, int, _Logits | None, list[_Call]]:
    """The network run on inputs of the shape, or of the first usual shape that it takes."""
    reasons = []
    for size in [shape] if shape else _usual(network):
        try:
            answer, calls = _run(network, size)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:  # from the network's forward
            reasons.append(" ".join(str(error).split())[:120])
            continue
        if not isinstance(answer, Tensor) or answer.dim() != 2:
            what = (
                f"a tensor of {answer.dim()} dimensions" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            )
            raise ModelError(f"{argument}: the network gives {what}, not logits (samples, classes): return them alone")
        return size, answer.shape[1], _classifier(answer, calls), calls
    raise ModelError(f"{argument}: the network cannot take its input ({reasons[0]}): give --shape, such as 3x32x32")


def _usual(network: nn.Module) -> list[Shape]:
    """Shapes of inputs that the network's first layer may be made for."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return [(module.in_channels, side, side) for side in SIDES]
        if isinstance(module, nn.Linear):
            return [(module.in_features,)]
    return [(3, side, side) for side in SIDES]


def _run(network: nn.Module, shape: Shape) -> tuple[object, list[_Call]]:
    """What the network answers, and all calls of its layers that gave one tensor a sample."""
    calls: list[_Call] = []

    modules = dict(network.named_modules())

    def note(name: str, given: Sequence[object], output: object) -> None:
        first = given[0] if given and isinstance(given[0], Tensor) else None
        if isinstance(output, Tensor) and output.dim() > 1 and len(output) == 2:
            calls.append(_Call(name, modules[name], None if first is None else first.clone(), output.clone()))

    with torch.no_grad(), watched(modules, note):
        x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
        return network(x.to(next(network.parameters(), x).device)), calls


def _classifier(answer: Tensor, calls: Sequence[_Call]) -> _Logits | None:
    """The last dense layer or convolution, if it gives the logits or what is averaged or scaled to them."""
    for call in reversed(calls):
        if isinstance(call.module, nn.Linear | nn.Conv2d) and call.given is not None and call.name:
            return _Logits(call.name, call.given) if call.output.shape[1] == answer.shape[1] else None
    return None


def _kind(shape: Shape, calls: Sequence[_Call]) -> Kind:
    """Whether the network's last cells are a grid or tokens."""
    if len(shape) == 1:
        return "columns"
    for call in reversed(calls):
        if call.output.dim() == 4 and _cells("grid", call.output):
            return "grid"
        if _cells("tokens", call.output):
            return "tokens"
    return "grid"


def _kind_at(local: str, shape: Shape, calls: Sequence[_Call]) -> Kind:
    """What the output of a layer is made of."""
    if len(shape) == 1:
        return "columns"
    dimensions = next((call.output.dim() for call in reversed(calls) if call.name == local), 4)
    return "tokens" if dimensions == 3 else "grid"


def _cells(kind: Kind, output: Tensor) -> bool:
    """Whether an output has cells: a grid of more than one, or the tokens of a square and a few more."""
    if kind == "grid":
        return output.dim() == 4 and output.shape[2] * output.shape[3] > 1
    return kind == "tokens" and output.dim() == 3 and 1 < math.isqrt(output.shape[1]) ** 2 >= output.shape[1] - 5


def _representation(calls: Sequence[_Call], logits: _Logits | None) -> str:
    """The last layer before the classifier whose vector is the one that goes into it; the last one if none is known."""
    if logits is None:
        return next(call.name for call in reversed(calls) if call.name)
    for call in reversed(calls):
        if call.name and call.name != logits.classifier and _same(call.output, logits.vector):
            return call.name
    return logits.classifier + INTO


def _same(output: Tensor, vector: Tensor) -> bool:
    """Whether a layer gives the numbers of the vector, as its class token or altogether."""
    given = output[:, 0] if output.dim() == 3 else output.flatten(1)
    return given.shape == vector.flatten(1).shape and torch.equal(given, vector.flatten(1))


def _cuts(network: nn.Module, kind: Kind, layers: Sequence[str], representation: str, shape: Shape) -> Iterator[str]:
    """The layers at which the network can be cut and whose cells matter, from the last to the first."""
    for layer in dict.fromkeys(reversed(layers)):
        try:
            probe = open_probe(
                network,
                kind=kind,
                local=layer,
                representation=representation,
                shape=shape,
                classes=(),
                device=next(network.parameters(), torch.empty(0)).device,
            )
        except ModelError:
            continue
        if _matter(probe):
            yield layer


def _matter(probe: OpenProbe) -> bool:
    """Whether the answer depends on the cells; a transformer's last block changes patches that nobody reads.

    The representation is weighed at random, for a classifier may begin with zeros, and a layer norm's sum is constant.
    """
    with torch.enable_grad():
        local = probe.features(probe.network.example()).local.detach().requires_grad_()
        cells = probe.cells(local)
        answer = probe.resume(probe.replace(local, cells)).representation
        weights = torch.rand(answer.shape, generator=torch.Generator().manual_seed(0)).to(answer)
        (slope,) = torch.autograd.grad((answer * weights).sum(), cells, allow_unused=True)
    return slope is not None and bool(slope.any())
