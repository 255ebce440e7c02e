"""The pretend accelerator as a fixture: skipped with its reason where it cannot be built, unless it must be there."""

from __future__ import annotations

import os

import pytest

from tests.device import pretend

REQUIRED = "MIBENCH_DEVICE_REQUIRED"  # set it, and a missing compiler is a failure


@pytest.fixture(scope="session")
def device() -> str:
    """The name of the first pretend device, registered with this process's torch."""
    try:
        pretend.register()
    except pretend.NoCompiler as missing:
        reason = f"the pretend device cannot be built: {missing}"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return "pretend:0"
