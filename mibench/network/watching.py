"""Layers watched while a network runs; no hook stays behind, even after an error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

See = Callable[[str, tuple[Any, ...], Any], None]
NONE: Mapping[str, nn.Module] = MappingProxyType({})


@contextlib.contextmanager
def watched(layers: Mapping[str, nn.Module], see: See, before: Mapping[str, nn.Module] = NONE) -> Iterator[None]:
    """Call `see` with a layer's name, its inputs and its output after it ran; without output for those `before`."""

    def after(name: str) -> Callable[..., None]:
        return lambda _module, given, output: see(name, given, output)

    def ahead(name: str) -> Callable[..., None]:
        return lambda _module, given: see(name, given, None)

    with contextlib.ExitStack() as hooks:
        for name, module in layers.items():
            hooks.callback(module.register_forward_hook(after(name)).remove)
        for name, module in before.items():
            hooks.callback(module.register_forward_pre_hook(ahead(name)).remove)
        yield


def first(values: Any) -> Tensor:
    """The tensor of what a layer took or gave, which may be several."""
    return values[0] if isinstance(values, tuple) else values  # type: ignore[no-any-return]
