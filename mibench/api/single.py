"""`mibench.explain` and `mibench.score`: one method or one metric, by its name or as an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from mibench.api.maps import Maps
from mibench.errors import UsageError
from mibench.plugins import contract, registry
from mibench.plugins.contract import Explainer, Explanation, FittedExplainer, Metric
from mibench.plugins.registry import Method

if TYPE_CHECKING:
    from mibench.api.opening import Net

Pair = tuple[Tensor, Tensor]  # samples and their labels


def explain(
    net: Net,
    x: Tensor,
    method: str | Explainer,
    *,
    target: Tensor | int | None = None,
    calibration: Pair | None = None,
    seed: int = 0,
) -> Maps:
    """Maps of x by a method such as "gradcam", "iba[beta=5]" or "inverted:gradcam", or by an explainer.

    `target` are the classes to explain, by default those that the network predicts; `calibration` are the samples and
    labels from which a method learns that has not been fitted to this network.
    """
    return maps_of(net, ready(net, method, calibration, seed), x, target, seed)


def score(
    net: Net,
    x: Tensor,
    y: Tensor | int,
    map: Tensor | contract.Maps,
    metric: str | Metric,
    *,
    reference: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | Sequence[int] = 0,
) -> Tensor:
    """The scores (B,) of maps that explain the classes y of x by a metric such as "irof" or "road[steps=9]"."""
    found = registry.metric(metric) if isinstance(metric, str) else metric
    return found(net, x, y, map, reference=reference, mask=mask, seed=seed)


def ready(net: Net, method: str | Explainer, calibration: Pair | None, seed: int) -> Method:
    """A method whose explainer is ready to explain this network; one that is not ready is not changed but copied."""
    found = registry.method(method) if isinstance(method, str) else Method(method)
    explainer = found.explainer
    if explainer.network is net:
        return found
    if isinstance(explainer, FittedExplainer) and calibration is None:
        raise UsageError(
            f"{explainer.name} learns before it explains: pass calibration=(x, y), or fit it to this network"
        )
    fresh = type(explainer)(explainer.parameters)
    return Method(fresh.fit(net, *(calibration or (None, None)), seed=seed), found.wrapper)


def maps_of(net: Net, method: Method, x: Tensor, target: Tensor | int | None, seed: int | Sequence[int]) -> Maps:
    """The maps of a method that is ready, seen through its wrapper if it has one."""
    found = net.explain(method.explainer, x, target, seed)
    if method.wrapper is None:
        return found
    spec = found.specs[0]
    wrapped = method.wrapper.wrap(Explanation({spec.name: found[spec.name].clone()}), spec)
    return net.shown(wrapped, (spec,), x, found.target)
