"""The pretend accelerator as a fixture: skipped where it cannot be built (tests/needs.py)."""

from __future__ import annotations

import pytest

from tests import needs
from tests.device import pretend


@pytest.fixture(scope="session")
def device() -> str:
    """The name of the first pretend device, registered with this process's torch."""
    try:
        pretend.register()
    except pretend.NoCompiler as missing:
        needs.absent(f"the pretend device cannot be built: {missing}")
    return "pretend:0"
