"""A Ray cluster that nobody else can reach: it listens on this machine's loopback address and wants a token.

Ray on Linux binds its servers to every address of the machine, unless the node's own address is the loopback's; and an
address of 127.0.0.1 given to `ray.init` it replaces by a reachable one. The switch that keeps a local cluster on the
loopback address is the one that Ray has for macOS and Windows, and it works everywhere.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
from collections.abc import Iterator
from typing import Any

from mibench.errors import MibenchError

TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
VARIABLES = ("RAY_AUTH_MODE", *TOKENS, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


@contextlib.contextmanager
def private(ray: Any) -> Iterator[None]:
    """A cluster that is started meanwhile is private to this run: on the loopback address, with a token of its own."""
    before = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    constants = ray._private.ray_constants
    clusters, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False  # the variable was read by the import
    _read_again(ray)
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ |= before
        _read_again(ray)


def check(ray: Any) -> None:
    """Refuse a cluster that can be reached from elsewhere, as a later Ray may start it."""
    for node in ray.nodes():
        address = ipaddress.ip_address(node["NodeManagerAddress"])
        if not address.is_loopback:
            raise MibenchError(
                f"Ray {ray.__version__} started a cluster on {address}, which other machines can reach: "
                "use --engine local, or start a cluster with `ray start` and pass its --address"
            )


def _read_again(ray: Any) -> None:
    """Make Ray look at the variables again: it keeps what it read, also after a cluster has ended."""
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
